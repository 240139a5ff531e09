"""`model-service demo` as a process: the whole loop, twice the same, and recorded candles."""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

LONGEST_SECONDS = 380


async def demo(*arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output, standard error."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "from model_service.cli import main; main()", "demo", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(LONGEST_SECONDS):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def promoted(state: Path) -> dict[str, Any]:
    """The last line of a demo that runs up to a promotion."""
    code, out, err = await demo("--until", "promoted", "--json", "--seed", "7", "--state-dir", str(state))
    assert code == 0, err
    lines = out.splitlines()
    assert len(lines) == 1, "with --json standard output holds the one line alone"
    body: dict[str, Any] = json.loads(lines[0])
    return body


@pytest.mark.timeout(400)
async def test_a_model_is_promoted_speaks_and_is_nearly_as_good_as_can_be_and_twice_the_same(tmp_path: Path) -> None:
    # Side by side: they compete for the machine, and that must change nothing.
    first, second = await asyncio.gather(promoted(tmp_path / "one"), promoted(tmp_path / "two"))
    assert first["promoted_version"] == "v1"
    assert first["runs"] >= 1
    assert first["outcomes"] >= 2000
    assert first["model_signals"] >= 30
    assert first["gate"]
    assert all(condition["passed"] for condition in first["gate"])
    assert first["bayes_expected"] == pytest.approx(0.84, abs=0.04)
    assert first["test_accuracy"] >= first["bayes_accuracy"] - 0.06
    for name in set(first) - {"wall_seconds"}:
        assert second[name] == first[name], name


def candle_file(folder: Path) -> Path:
    """300 candles of a random walk."""
    rng, start = np.random.default_rng(7), datetime(2023, 1, 2, tzinfo=UTC)
    closes = 100 * np.exp(np.cumsum(0.001 * rng.standard_normal(300)))
    rows = ["timestamp,open,high,low,close,volume"]
    for index, (before, after) in enumerate(zip(np.r_[100.0, closes[:-1]], closes, strict=True)):
        moment = (start + timedelta(minutes=5 * index)).isoformat()
        rows.append(f"{moment},{before},{max(before, after)},{min(before, after)},{after},{rng.exponential(5)}")
    path = folder / "btcusdt-5m.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


async def test_recorded_candles_pass_and_the_report_is_readable(tmp_path: Path) -> None:
    code, out, err = await demo(
        "--candles", str(candle_file(tmp_path)), "--until", "end", "--state-dir", str(tmp_path / "state")
    )
    assert code == 0, err
    assert "300 candles of BTCUSDT" in out
    assert "first signal published" in out
    assert "of them without a signal" in out
    assert out.rstrip().splitlines()[-1].startswith("  confirmed by the broker")
    assert "no candidate was judged" in out


async def test_a_bad_candle_file_is_one_sentence(tmp_path: Path) -> None:
    path = candle_file(tmp_path)
    path.write_text(path.read_text().replace("\n2023-01-02T00:05", "\n2023-02-30T00:05"))
    code, out, err = await demo("--candles", str(path), "--state-dir", str(tmp_path / "state"))
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "line 3, column timestamp: '2023-02-30T00:05" in err
