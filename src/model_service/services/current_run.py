"""The run that a child works on now, and what the child says."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from model_service.models.job import Candidate, Failure, Progress, Refusal
from model_service.services.ports import TrainingProcess, TrainingRun

Verdict = Candidate | Refusal | Failure


@dataclass(slots=True)
class CurrentRun:
    """The run that a child works on now; `verdict` is done when the child has said its last word."""

    run: TrainingRun
    process: TrainingProcess
    started_at: datetime
    parent: str | None
    incumbent: str | None = None
    """The version that spoke when the run began, against which its candidate is judged."""
    version: str | None = None
    progress: Progress = field(default_factory=lambda: Progress(phase="preparing", fraction=0.0))
    stored_progress: Progress | None = None
    report: Mapping[str, Any] | None = None
    """On the rows; there as soon as the child has looked at them."""
    verdict: asyncio.Task[Verdict] = field(init=False)

    def __post_init__(self) -> None:
        self.verdict = asyncio.create_task(self._follow(), name=f"training:{self.run.run_id}")

    async def _follow(self) -> Verdict:
        async for line in self.process.lines():
            if not isinstance(line, Progress):
                return line
            self.progress = line
            self.report = line.report or self.report
        return Failure(code="no_verdict", hint="The training child ended without a verdict; see the service's log.")
