"""Training children: started at arm's length, read line by line, killed as a group."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator

import structlog
from pydantic import TypeAdapter, ValidationError

from model_service import child_process
from model_service.models.job import Candidate, Failure, Progress, Refusal, TrainingJob

log = structlog.get_logger()
Line = Progress | Candidate | Refusal | Failure
LINES: TypeAdapter[Line] = TypeAdapter(Line)
LINE_LIMIT_BYTES = 16 * 1024 * 1024


class ChildProcess:
    """A child in a process group of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        """Its process identifier, which is also its group's."""
        return self._process.pid

    async def lines(self) -> AsyncIterator[Line]:
        """What it says; a child that ends without a verdict gets one that says how it ended."""
        assert self._process.stdout is not None, "the child is started with a pipe"
        while True:
            raw = await self._process.stdout.readline()
            if not raw:
                break
            line = _parse(raw)
            if line is None:
                continue
            yield line
            if not isinstance(line, Progress):
                await self._process.wait()
                return
        yield _ended_without_verdict(await self._process.wait())

    async def kill(self) -> None:
        """SIGKILL to its process group; returns when it is gone."""
        await child_process.kill(self._process)


class ChildLauncher:
    """Starts `python -m model_service.training_worker`; the job, password included, goes by standard input."""

    async def launch(self, job: TrainingJob) -> ChildProcess:
        """A child that works on `job`."""
        process = await child_process.start("model_service.training_worker", limit=LINE_LIMIT_BYTES)
        assert process.stdin is not None, "the child is started with a pipe"
        try:
            process.stdin.write(job.model_dump_json().encode())
            await process.stdin.drain()
            process.stdin.close()
        except (BrokenPipeError, ConnectionResetError) as error:
            log.warning("training_child_refused_job", error=str(error))
        return ChildProcess(process)


def _parse(raw: bytes) -> Line | None:
    try:
        return LINES.validate_json(raw)
    except ValidationError:
        log.warning("training_child_said", line=raw[:200].decode(errors="replace"))
        return None


def _ended_without_verdict(code: int) -> Failure:
    if code == -signal.SIGKILL:
        hint = "The training child was killed (SIGKILL), most often by the kernel for want of memory."
        return Failure(code="killed", hint=hint)
    return Failure(code="child_ended", hint=f"The training child ended with exit code {code}; see the service's log.")
