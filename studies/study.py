"""What a study is: the same experiment with many seeds, and what is concluded from all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from studies.findings import Finding

Result = dict[str, Any]


@dataclass(frozen=True)
class Study:
    """One experiment.

    Attributes:
        name: as `--only` takes it.
        repetitions: how many seeds the promise needs.
        run: a seed to numbers that JSON can hold; a function of its argument alone.
        conclude: the findings of all results.
        weight: rough seconds of one repetition, for the time that is left.
    """

    name: str
    repetitions: int
    run: Callable[[int], Result]
    conclude: Callable[[Sequence[Result]], list[Finding]]
    weight: float = 1.0
