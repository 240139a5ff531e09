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
            f"{row['strategy_id']}: {row['mode']}, version {row.get('active_version') or 'none'}; "
            f"{counts['signals']} signals, {counts['fills']} fills, {counts['outcomes']} outcomes"
        )
    current = training.get("current_training")
    yield f"training: {current['progress_percent']:.0f} %" if current else "training: none"
    yield from (f"not ready: {reason}" for reason in readiness["reasons"])
    yield from (f"notice: {notice}" for notice in health["notices"])


def version_lines(models: Answer, strategy: str | None) -> Iterator[str]:
    """One line for each version, a star before those that speak; a sentence when there is none."""
    if not models["models"]:
        yield "no versions yet" if strategy is None else f"no versions of {strategy} yet"
    for row in models["models"]:
        accuracy = (row.get("quality_metrics_summary") or {}).get("accuracy")
        shown = f"{accuracy:.3f}" if accuracy is not None else "-"
        mark, strategy_id = "*" if row["is_active"] else " ", row["strategy_id"] or "-"
        yield f"{mark} {row['version']:8} {strategy_id:24} {row['model_type']:20} accuracy {shown}"


def cause(error: OSError) -> str:
    """Why a connection failed, in the system's words.

    >>> cause(urllib.error.URLError(ConnectionRefusedError(111, "Connection refused")))
    'Connection refused'
    """
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    return (reason.strerror if isinstance(reason, OSError) else None) or str(reason)
