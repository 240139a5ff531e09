"""How far a run is, as it is told to people: which part it is in, and at which fraction of the whole that begins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol

Phase = Literal["preparing", "fitting", "evaluating"]

PREPARED = 0.14
FITTING = 0.15
SEARCHED = 0.6
WALKING = 0.82
EVALUATING = 0.85


class OnProgress(Protocol):
    """Where a run says how far it is."""

    def __call__(self, phase: Phase, fraction: float, note: str, report: Mapping[str, Any] | None = None, /) -> None:
        """Phase, fraction of the run from 0 to 1, a note; and once, when it is known, the report on the rows."""
