"""How answers of a running service look in the terminal, and what is said when none comes."""

from __future__ import annotations

import urllib.error
from collections.abc import Iterator, Mapping
from typing import Any

Answer = Mapping[str, Any]


def status_lines(strategies: Answer, training: Answer, health: Answer, readiness: Answer) -> Iterator[str]:
    """Each strategy with its counts, the training, then what does not work and what is switched off, if anything."""
    for row in strategies["strategies"]:
        counts = row["counts"]
        yield (
            f"{row['strategy_id']}: {_state(row)}, version {row.get('active_version') or 'none'}; "
            f"{counts['signals']} signals, {counts['fills']} fills, {counts['outcomes']} outcomes"
        )
        yield f"  {_warmup(row['warmup'])}"
    yield from map(_halt, strategies["halts"])
    current = training.get("current_training")
    yield f"training: {current['progress_percent']:.0f} %" if current else "training: none"
    yield from (f"not ready: {reason}" for reason in readiness["reasons"])
    yield from (f"notice: {notice}" for notice in health["notices"])


def _state(row: Answer) -> str:
    """Its mode; of a strategy that is not asked, why."""
    state: str = row["state"]
    return row["mode"] if state == "enabled" else state


def _warmup(warmup: Answer) -> str:
    wanted = warmup["outcomes_wanted"]
    more = "" if wanted is None else f"; {wanted:,} outcomes wanted until the next training"
    return f"warm-up so far: {float(warmup['result']):+,.2f} after fees{more}"


def _halt(halt: Answer) -> str:
    who = halt["strategy_id"] or "every strategy"
    end = f" --strategy {who}" if halt["strategy_id"] else ""
    return (
        f"STOPPED: {who} opens nothing since {halt['started_at']} ({halt['kind']}, {halt['actor']}: {halt['reason']}); "
        f"`model-service resume{end}` ends it"
    )


def cause(error: OSError) -> str:
    """Why a connection failed, in the system's words.

    >>> cause(urllib.error.URLError(ConnectionRefusedError(111, "Connection refused")))
    'Connection refused'
    """
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    return (reason.strerror if isinstance(reason, OSError) else None) or str(reason)
