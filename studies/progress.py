"""Says on the standard error how far a study is and how long it still takes."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field

EVERY_SECONDS = 15.0


@dataclass
class Progress:
    """Counts finished weight against all of it.

    Attributes:
        total: weight of what is to be done in this run.
    """

    total: float
    started: float = field(default_factory=time.monotonic)
    done: float = 0.0
    told: float = 0.0

    def finished(self, weight: float, line: str) -> None:
        """One more piece; says so at most every EVERY_SECONDS, and at the end."""
        self.done += weight
        now = time.monotonic()
        if now - self.told < EVERY_SECONDS and self.done < self.total:
            return
        self.told = now
        left = (now - self.started) * (self.total - self.done) / self.done
        share = 100 * self.done / self.total
        print(f"{share:5.1f} %  about {left / 60:.0f} min left  {line}", file=sys.stderr, flush=True)
