"""Children as their parent sees them: each in a process group of its own, fed by standard input, killed as a group."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Any


async def start(module: str, **options: Any) -> asyncio.subprocess.Process:
    """Start `python -m module --parent PID`, with pipes to and from it; its job goes by standard input."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        "--parent",
        str(os.getpid()),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
        **options,
    )


async def kill(process: asyncio.subprocess.Process) -> None:
    """SIGKILL to its process group, whatever is left of it; returns when it is gone."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    await process.wait()
