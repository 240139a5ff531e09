"""The demo's end, as one JSON object and as a report; every number is read from the service's own tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from model_service.database.connection import Database
from model_service.demo.silence import funnel_json, funnel_lines, occurrences, read_funnels
from model_service.demo.status import count_lines, number
from model_service.models.job import GateCondition
from model_service.services.decision_funnel import Funnel

COUNTS = """
SELECT
    (SELECT count(*) FROM model_service.trading_signals WHERE status = 'published') AS signals_published,
    (SELECT count(*) FROM model_service.fills) AS fills,
    (SELECT count(DISTINCT signal_id) FROM model_service.outcomes) AS outcomes,
    (SELECT count(*) FROM model_service.training_runs) AS runs,
    (SELECT count(*) FROM model_service.trading_signals
      WHERE status = 'published' AND NOT is_warmup AND model_version IS NOT NULL) AS model_signals,
    (SELECT coalesce(sum(realized_pnl), 0) FROM model_service.lot_closures)::float8 AS realized_pnl
"""
JUDGED = """
SELECT v.version, v.strategy_id, v.gate, v.files, m.metric_value AS accuracy,
       EXISTS (SELECT 1 FROM model_service.activations a WHERE a.version = v.version) AS promoted
  FROM model_service.model_versions v
  LEFT JOIN model_service.model_quality_metrics m
    ON m.model_version_id = v.id AND m.slice = 'test' AND m.metric_name = 'accuracy'
 ORDER BY v.is_active DESC, promoted DESC, v.trained_at DESC, v.version DESC LIMIT 1
"""
RUNS = """
SELECT strategy_id, state, version, error_code, error_hint, requested_at
  FROM model_service.training_runs ORDER BY requested_at, run_id
"""
SIGNALS_DIGEST = """
SELECT encode(sha256(coalesce(string_agg(
           signal_id::text || asset || side || intent || amount || encode(features, 'hex') || probability_buy
               || ' ' || probability_sell,
           E'\\n' ORDER BY decided_at, signal_id), '')::bytea), 'hex')
  FROM model_service.trading_signals
"""
SIGNALS_BY_STATE = """
SELECT intent, coalesce(order_state, status) AS state, count(*) AS occurrences
  FROM model_service.trading_signals GROUP BY 1, 2 ORDER BY 1, 3 DESC
"""


@dataclass(frozen=True, slots=True)
class JudgedVersion:
    """The version that the summary speaks of: the active one, else the newest; `files` are sha256 by name."""

    version: str
    strategy_id: str
    gate: tuple[GateCondition, ...]
    promoted: bool
    test_accuracy: float | None
    files: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Summary:
    """What the demo came to.

    Attributes:
        realized_pnl: quote currency after fees.
        funnels: from ticks to confirmed signals, by strategy.
        signals_sha256: of all signals with their features and probabilities; the same seed gives the same.
    """

    signals_published: int
    fills: int
    outcomes: int
    runs: int
    model_signals: int
    realized_pnl: float
    version: JudgedVersion | None
    run_lines: tuple[str, ...]
    funnels: Mapping[str, Funnel]
    signal_states: tuple[tuple[str, int], ...]
    signals_sha256: str


async def read_summary(database: Database) -> Summary:
    """Read everything once. Raises DatabaseUnavailable."""
    counts = await database.fetchrow(COUNTS)
    assert counts is not None
    return Summary(
        **dict(counts),
        version=await _judged(database),
        run_lines=tuple(_run_line(row) for row in await database.fetch(RUNS)),
        funnels=await read_funnels(database),
        signal_states=tuple(
            (f"{row['intent']} {row['state']}", row["occurrences"]) for row in await database.fetch(SIGNALS_BY_STATE)
        ),
        signals_sha256=await database.fetchval(SIGNALS_DIGEST),
    )


def summary_json(summary: Summary, **more: Any) -> dict[str, Any]:
    """The last line of `--json`; `more` are the facts that only the driver knows."""
    version = summary.version
    gate = version.gate if version else ()
    return {
        "signals_published": summary.signals_published,
        "fills": summary.fills,
        "outcomes": summary.outcomes,
        "runs": summary.runs,
        "promoted_version": version.version if version and version.promoted else None,
        "judged_version": version.version if version else None,
        "gate": [asdict_of(condition) for condition in gate],
        "test_accuracy": version.test_accuracy if version else None,
        "model_signals": summary.model_signals,
        "realized_pnl": round(summary.realized_pnl, 8),
        "run_states": list(summary.run_lines),
        "decisions": occurrences(summary.funnels),
        "funnel": {name: funnel_json(found) for name, found in summary.funnels.items()},
        "signals_sha256": summary.signals_sha256,
        "model_sha256": dict(version.files) if version else {},
        **more,
    }


def report_lines(summary: Summary, bayes_accuracy: float | None) -> Iterable[str]:
    """The report that people read at the end."""
    yield f"{summary.signals_published:,} signals, {summary.fills:,} fills, {summary.outcomes:,} outcomes"
    yield f"realised result after fees: {summary.realized_pnl:+,.2f}"
    yield "signals, by intent and what became of them"
    yield from count_lines(summary.signal_states)
    yield f"training runs: {summary.runs}"
    yield from (f"  {line}" for line in summary.run_lines)
    yield from _version_lines(summary, bayes_accuracy)
    yield "why no signal: reasons in the order of the decision, last number and threshold"
    for name, found in summary.funnels.items():
        yield from funnel_lines(name, found)


def asdict_of(condition: GateCondition) -> dict[str, Any]:
    """A condition as the JSON shows it."""
    return {
        "number": condition.number,
        "condition": condition.condition,
        "value": condition.value,
        "threshold": condition.threshold,
        "passed": condition.passed,
        "detail": condition.detail,
    }


async def _judged(database: Database) -> JudgedVersion | None:
    row = await database.fetchrow(JUDGED)
    if row is None:
        return None
    conditions = tuple(GateCondition.model_validate(item) for item in conditions_of(row["gate"]))
    return JudgedVersion(row["version"], row["strategy_id"], conditions, row["promoted"], row["accuracy"], row["files"])


def conditions_of(gate: Any) -> list[dict[str, Any]]:
    """The conditions in a stored gate report: the list itself, or its member `conditions`."""
    if isinstance(gate, dict):
        return list(gate.get("conditions", ()))
    return list(gate or ())


def _run_line(row: Any) -> str:
    text = f"{row['strategy_id']} {row['requested_at']:%Y-%m-%d %H:%M}: {row['state']}"
    text += f" {row['version']}" if row["version"] else ""
    return text + (f" ({row['error_code']}: {row['error_hint']})" if row["error_code"] else "")


def _version_lines(summary: Summary, bayes_accuracy: float | None) -> Iterable[str]:
    version = summary.version
    if version is None:
        yield "no candidate was judged"
        return
    word = "promoted" if version.promoted else "refused by the gate"
    accuracy = number(version.test_accuracy)
    yield f"{version.version} of {version.strategy_id}: {word}; accuracy on its test rows {accuracy}"
    if bayes_accuracy is not None:
        luck = "on few rows luck may put a model ahead of it"
        yield f"the best possible on the same rows (Bayes): {bayes_accuracy:.4g}; {luck}"
    failed = [condition for condition in version.gate if not condition.passed]
    for condition in failed:
        numbers = f"{number(condition.value)} against {number(condition.threshold)}"
        yield f"  not met: {condition.number} {condition.condition}, {numbers}"
    yield f"signals of a model: {summary.model_signals:,}"
