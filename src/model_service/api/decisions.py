"""The answer that says why a strategy was silent, and over which time it was asked."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from fastapi.exceptions import RequestValidationError
from pydantic import Field

from model_service.api.parameters import Context
from model_service.api.schemas import Body, Mode, Number
from model_service.database import decision_counts, queries
from model_service.database.queries import Row
from model_service.services.decision_funnel import CountedReason, Funnel, Step, Stop, funnel
from model_service.services.errors import NotFound
from model_service.services.silence_checks import Surroundings, idle_reason, next_checks
from model_service.services.strategy_view import StrategyView

MINUTE = timedelta(minutes=1)
LAST_MINUTE = datetime(9999, 12, 31, 23, 59, tzinfo=UTC)
DEFAULT_LOOK_BACK = timedelta(hours=1)
LONGEST = timedelta(days=31)
"""Reasons are kept by the minute; to add up more of them would hold up the database."""


class DecisionReason(Body):
    """One reason for silence, how often it held, and the number that was last held against its threshold."""

    reason: str
    occurrences: int
    last_minute: datetime
    last_asset: str = Field(description="The asset of the last number.")
    last_value: Number
    last_threshold: Number
    words: str = Field(description="What it means.")
    setting: str | None = Field(description="The setting that moves the threshold; null where none does.")


class DecisionStop(Body):
    """What held some at a step: a reason for ticks, a state for signals. `last_*` are null for signals."""

    name: str
    count: int
    words: str
    setting: str | None
    last_asset: str | None
    last_value: Number
    last_threshold: Number


class DecisionStep(Body):
    """A step of the decision, in its order: `entered` is `passed`, `closed` and the counts of `stops` added up."""

    step: str
    question: str
    entered: int
    stops: list[DecisionStop]
    closed: int = Field(description="Ticks that became a signal here, to close a position.")
    passed: int


class DecisionReasons(Body):
    """From ticks to filled orders, in whole minutes: `ticks` is `openings`, `exits` at a tick and all `reasons`
    added up."""

    strategy_id: str
    asset: str | None = Field(description="The only asset that is counted; null when all are.")
    since: datetime
    until: datetime
    mode: Mode = Field(description="Of the strategy now.")
    ticks: int = Field(description="As they were recorded; those that were missed have the reason tick_missed.")
    due_ticks: int | None = Field(
        description="How many should be there, stored apart from what came of them; null when some are older than that."
    )
    openings: int
    exits: int
    exits_between_ticks: int = Field(description="Those of the exits that belong to no tick.")
    reasons: list[DecisionReason] = Field(description="Commonest first.")
    steps: list[DecisionStep]
    next_checks: list[str] = Field(description="What to look at next, in sentences; empty when nothing stands out.")


def span(
    since: datetime | None, until: datetime | None, last_seconds: int | None, now: datetime
) -> tuple[datetime, datetime]:
    """What time is asked about.

    Raises:
        RequestValidationError: it ends before it begins, is longer than `LONGEST`, or begins at two times.
    """
    if since is not None and last_seconds is not None:
        raise _not_allowed("last_seconds", "give since or last_seconds, not both: each says where the time begins")
    end = until or now
    start = since or _before(end, DEFAULT_LOOK_BACK if last_seconds is None else timedelta(seconds=last_seconds))
    if start >= end:
        raise _not_allowed("since", f"{start.isoformat()} given; it has to be before until, {end.isoformat()}")
    if end - start > LONGEST:
        raise _not_allowed("since", f"{(end - start).days} days before until given; at most {LONGEST.days} are counted")
    return start, end


async def answer(
    context: Context, strategy: Row, asset: str | None, since: datetime, until: datetime
) -> DecisionReasons:
    """The funnel of one strategy with what to check next."""
    strategy_id = strategy["strategy_id"]
    reasons, signals, due = await decision_counts.counted(
        context.database, strategy_id, _minute(since), _minute_after(until), asset
    )
    found = funnel(reasons, signals, due)
    around = await _surroundings(context, strategy, asset)
    return DecisionReasons(
        strategy_id=strategy_id,
        asset=asset,
        since=since,
        until=until,
        mode=strategy["mode"],
        ticks=found.ticks,
        due_ticks=found.due,
        openings=found.openings,
        exits=found.exits,
        exits_between_ticks=found.looks,
        reasons=[_reason(one, found) for one in reasons],
        steps=[_step(step) for step in found.steps],
        next_checks=next_checks(found, around),
    )


async def _surroundings(context: Context, strategy: Row, asset: str | None) -> Surroundings:
    ticks = await decision_counts.last_ticks(context.database, strategy["strategy_id"])
    wanted = [name for name in ticks if asset is None or name == asset]
    health = await context.health.health()
    halts = await queries.open_halts(context.database)
    return Surroundings(
        strategy_id=strategy["strategy_id"],
        asset=asset,
        mode=strategy["mode"],
        since=strategy["since"],
        mode_reason=strategy["reason"],
        last_ticks=ticks,
        last_bars=await decision_counts.last_bars(context.database, wanted),
        not_ready=() if health.ready else health.reasons,
        idle=idle_reason(_view(context, strategy["strategy_id"])),
        halts=[_halt(row) for row in halts if row["strategy_id"] in (None, strategy["strategy_id"])],
    )


def _halt(row: Row) -> str:
    path = "resume" if row["strategy_id"] is None else f"strategies/{row['strategy_id']}/resume"
    who = row["strategy_id"] or "Every strategy"
    return (
        f"{who} opens nothing since {row['started_at']:%Y-%m-%d %H:%M:%S} UTC ({row['kind']}: {row['reason']}), until "
        f"POST /api/v1/{path}; positions are still closed."
    )


def _view(context: Context, strategy_id: str) -> StrategyView | None:
    try:
        return context.operations.strategy_view(strategy_id)
    except NotFound:
        return None


def _reason(counted: CountedReason, found: Funnel) -> DecisionReason:
    (stop,) = (stop for step in found.steps for stop in step.stops if stop.last is counted)
    return DecisionReason.model_validate({**_members(counted), "words": stop.words, "setting": stop.setting})


def _step(step: Step) -> DecisionStep:
    return DecisionStep(
        step=step.name,
        question=step.question,
        entered=step.entered,
        stops=[_stop(stop) for stop in step.stops],
        closed=step.closed,
        passed=step.passed,
    )


def _stop(stop: Stop) -> DecisionStop:
    last = stop.last
    return DecisionStop(
        name=stop.name,
        count=stop.count,
        words=stop.words,
        setting=stop.setting,
        last_asset=last.last_asset if last else None,
        last_value=last.last_value if last else None,
        last_threshold=last.last_threshold if last else None,
    )


def _members(counted: CountedReason) -> Mapping[str, object]:
    return {name: getattr(counted, name) for name in CountedReason.__dataclass_fields__}


def _not_allowed(parameter: str, problem: str) -> RequestValidationError:
    return RequestValidationError([{"loc": ("query", parameter), "msg": problem, "type": "value_error"}])


def _before(moment: datetime, span: timedelta) -> datetime:
    earliest = datetime.min.replace(tzinfo=UTC)
    return moment - span if moment - earliest > span else earliest


def _minute(moment: datetime) -> datetime:
    return moment.replace(second=0, microsecond=0)


def _minute_after(moment: datetime) -> datetime:
    """The end of the minute that holds the last instant before `moment`."""
    whole = _minute(moment)
    return whole if whole in (moment, LAST_MINUTE) else whole + MINUTE
