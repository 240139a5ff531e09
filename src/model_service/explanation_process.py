"""Explaining children: one decision each, with a limit on their time, killed as a group."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import structlog
from pydantic import TypeAdapter, ValidationError

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
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "model_service.explanation_worker",
            "--parent",
            str(os.getpid()),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(self._longest_seconds):
                output, _ = await process.communicate(job.model_dump_json().encode())
        except TimeoutError:
            return Failure(code="timeout", hint=f"the explanation took over {self._longest_seconds:g} s and was killed")
        finally:
            await _kill(process)
        return _parse(output, process.returncode)


async def _kill(process: asyncio.subprocess.Process) -> None:
    """SIGKILL to its process group, whatever is left of it; returns when it is gone."""
    if process.returncode is not None:
        return
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    await process.wait()


def _parse(output: bytes, code: int | None) -> Answer:
    try:
        return ANSWERS.validate_json(output)
    except ValidationError:
        log.warning("explaining_child_ended", code=code, said=output[:200].decode(errors="replace"))
        return Failure(code="child_ended", hint=f"the explaining child ended with exit code {code}; see the log")
