"""Commands that ask a running service, as processes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from uuid import UUID

from tests.e2e.process import KEY, command, environment, free_port, running


async def ask(port: int, *arguments: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *command(*arguments),
        env=environment(MODEL_SERVICE_PORT=port, MODEL_SERVICE_HOST="127.0.0.1", MODEL_SERVICE_API_KEY=KEY),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode or 0, output.decode(), errors.decode()


async def test_a_service_without_versions_says_so(open_folder: Path) -> None:
    settings = {"MARKET_DATA_QUEUES": "none", "TRADING_STRATEGIES": "momentum_v1"}
    async with running(open_folder, **settings) as service:
        await service.until("/readyz", lambda status, _: status == 200, 60)
        code, output, errors = await ask(service.port, "status")
        assert (code, output.splitlines()[:3]) == (
            0,
            [
                "momentum_v1: warmup, version none; 0 signals, 0 fills, 0 outcomes",
                "  warm-up so far: +0.00 after fees; 1,000 outcomes wanted until the next training",
                "training: none",
            ],
        ), errors
        shown = "momentum_v1: enabled, warmup; BTCUSDT\n"
        assert await ask(service.port, "strategies", "list") == (0, shown, "")
        code, output, errors = await ask(service.port, "strategies", "show", "momentum_v1")
        assert (code, output.splitlines()[0]) == (0, "momentum_v1: enabled; trades BTCUSDT"), errors
        assert 'assets = ["BTCUSDT"]  (default)' in output.splitlines()
        assert (await ask(service.port, "strategies", "show", "nobody"))[0] == 3
        code, output, errors = await ask(service.port, "strategies", "reload")
        assert (code, output, "TRADING_STRATEGIES_FILE is not set" in errors) == (7, "", True)
        assert await ask(service.port, "models", "list") == (0, "no versions yet\n", "")
        assert await ask(service.port, "signals", "list") == (0, "no signals yet\n", "")
        code, output, errors = await ask(service.port, "models", "show", "v9")
        assert (code, output, "there is no version v9" in errors) == (3, "", True)
        code, output, errors = await ask(service.port, "signals", "explain", str(UUID(int=1)))
        assert (code, output, "there is no signal" in errors) == (3, "", True)
        code, output, errors = await ask(service.port, "signals", "show", str(UUID(int=1)), "--replay")
        assert (code, output, "there is no signal" in errors) == (3, "", True)
        code, output, errors = await ask(service.port, "why", "--since", "10m")
        assert (code, output.startswith("momentum_v1  warmup, all assets"), "Check next" in output) == (
            0,
            True,
            True,
        ), errors
        code, output, errors = await ask(service.port, "why", "--since", "yesterday")
        assert (code, output, "15m" in errors) == (2, "", True)
        code, output, errors = await ask(service.port, "train", "--strategy", "momentum_v1", "--watch")
        assert (code, output, "a full run needs" in errors) == (7, "", True)


async def test_a_service_that_is_away_is_said_in_plain_words() -> None:
    port = free_port()
    code, output, errors = await ask(port, "status")
    assert (code, output) == (5, "")
    assert f"127.0.0.1:{port}/api/v1/strategies: Connection refused. Is `model-service run` running" in errors
    assert "MODEL_SERVICE_PORT" in errors
