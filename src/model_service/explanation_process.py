"""Explaining children: one decision each, with a limit on their time, killed as a group."""

from __future__ import annotations

import asyncio

import structlog
from pydantic import TypeAdapter, ValidationError

from model_service import child_process
from model_service.models.job import Explanation, ExplanationJob, Failure

log = structlog.get_logger()
Answer = Explanation | Failure
ANSWERS: TypeAdapter[Answer] = TypeAdapter(Answer)
LONGEST_SECONDS = 20.0
"""A forest's libraries take two seconds to load on an idle machine, and the child gives way to all others."""


class ExplanationLauncher:
    """Runs `python -m model_service.explanation_worker` for one decision at a time; who calls sees to that."""

    def __init__(self, longest_seconds: float = LONGEST_SECONDS) -> None:
        self._longest_seconds = longest_seconds

    async def explain(self, job: ExplanationJob) -> Answer:
        """What the child says; a Failure also when it took too long or ended without a word."""
        process = await child_process.start("model_service.explanation_worker")
        try:
            async with asyncio.timeout(self._longest_seconds):
                output, _ = await process.communicate(job.model_dump_json().encode())
        except TimeoutError:
            return Failure(code="timeout", hint=f"the explanation took over {self._longest_seconds:g} s and was killed")
        finally:
            if process.returncode is None:
                await child_process.kill(process)
        return _parse(output, process.returncode)


def _parse(output: bytes, code: int | None) -> Answer:
    try:
        return ANSWERS.validate_json(output)
    except ValidationError:
        log.warning("explaining_child_ended", code=code, said=output[:200].decode(errors="replace"))
        return Failure(code="child_ended", hint=f"the explaining child ended with exit code {code}; see the log")
