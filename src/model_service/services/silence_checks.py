"""What to check next when a strategy is silent: sentences for a person, from what is known and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from model_service.services.decision_funnel import MISSED_STEP, POLICY_STEP, Funnel, Step, Stop
from model_service.services.strategy_view import StrategyView


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What stands around a funnel.

    Attributes:
        asset: the only asset that was asked about; None for all.
        mode: of the strategy now, `since` and `mode_reason` with it.
        last_ticks: the last tick of each asset that was ever counted, in whole minutes.
        last_bars: the end of the newest stored bar of each asset; None where there is none.
        not_ready: why the service does not work now; empty when it does.
        idle: why the strategy is not asked at all, a sentence; None when it is.
        halts: what forbids every opening now and how that ends, one sentence each.
    """

    strategy_id: str
    asset: str | None
    mode: str
    since: datetime
    mode_reason: str
    last_ticks: Mapping[str, datetime]
    last_bars: Mapping[str, datetime | None]
    not_ready: Sequence[str]
    idle: str | None = None
    halts: Sequence[str] = ()


def next_checks(funnel: Funnel, around: Surroundings) -> list[str]:
    """What a person should look at next, most pressing first; empty when there is nothing to be said."""
    return list(_checks(funnel, around))


def idle_reason(view: StrategyView | None) -> str | None:
    """Why a strategy is not asked at all; None when it is.

    Args:
        view: None for one of which only its history is left.
    """
    if view is None or view.state == "removed":
        return "It is no longer among the strategies: it opens nothing; positions that it has left are still closed."
    if view.state == "disabled":
        return "It is disabled in the strategy file: it opens nothing; positions are still closed."
    if not view.assets:
        return "It has no assets: account_balances shows none that can be traded; the notices of /health say why."
    return None


def _checks(funnel: Funnel, around: Surroundings) -> Iterator[str]:
    yield from (f"The service does not work now: {reason}" for reason in around.not_ready)
    if around.idle is not None:
        yield around.idle
    if around.mode == "paused":
        yield (
            f"The strategy is paused since {_moment(around.since)} ({around.mode_reason}): it opens nothing until "
            f"POST /api/v1/strategies/{around.strategy_id}/resume; positions are still closed."
        )
    yield from around.halts
    if funnel.ticks == 0:
        if around.idle is not None:
            return
        yield from _without_ticks(around)
        return
    yield from _not_as_due(funnel)
    if _stopped(funnel, "market_data") == funnel.ticks - _stopped(funnel, MISSED_STEP) > 0:
        yield from _without_market_data(around)
    else:
        yield from _held_back(funnel)
    yield from _undelivered(funnel)


def _without_ticks(around: Surroundings) -> Iterator[str]:
    if not around.last_ticks:
        yield (
            "The strategy has not ticked yet. A service that has just started ticks after "
            "TRADING_DECISION_INTERVAL_SECONDS; a strategy that is no longer in TRADING_STRATEGIES never does."
        )
        return
    if around.asset is not None and around.asset not in around.last_ticks:
        known = ", ".join(sorted(around.last_ticks))
        yield f"No tick of {around.asset} was ever counted; the strategy's assets so far: {known}. See TRADING_ASSETS."
        return
    counted = around.last_ticks if around.asset is None else {around.asset: around.last_ticks[around.asset]}
    yield (
        f"No tick was counted in this time; the last one was in the minute of {_moment(max(counted.values()))}. "
        "Ask for a longer time, or see whether the service ran and the strategy is still in TRADING_STRATEGIES."
    )


def _without_market_data(around: Surroundings) -> Iterator[str]:
    for asset, end in sorted(around.last_bars.items()):
        stored = "no bar of it was ever stored" if end is None else f"the newest stored bar ends at {_moment(end)}"
        yield (
            f"{asset} has no fresh market data: {stored}. Check that the gateway runs and is subscribed to it, and "
            "MARKET_DATA_QUEUES."
        )


def _not_as_due(funnel: Funnel) -> Iterator[str]:
    if funnel.due is not None and funnel.due != funnel.ticks:
        cause = (
            "the answer to a COMMIT was lost and a pass counted twice, the clock stepped back, or two processes decide"
            if funnel.ticks > funnel.due
            else "ticks were lost, or rows removed"
        )
        yield f"{funnel.due:,} ticks were due and {funnel.ticks:,} were recorded: {cause}."
    for stop in (stop for step in funnel.steps if step.name == MISSED_STEP for stop in step.stops):
        yield f"{stop.count:,} of {funnel.ticks:,} ticks were missed: {stop.words}."


def _held_back(funnel: Funnel) -> Iterator[str]:
    blocked = _blocked(funnel)
    if blocked is not None:
        yield blocked
    if funnel.signals:
        return
    stops = [(step.name, stop) for step in _deciding(funnel) for stop in step.stops]
    place, widest = max(stops, key=lambda one: one[1].count)
    # Beside a guard that refuses what is drawn, it is no news that most ticks draw nothing.
    if blocked is None or place not in (POLICY_STEP, *(step.name for step in _guards(funnel))):
        yield _widest(funnel, widest)


def _widest(funnel: Funnel, stop: Stop) -> str:
    move = f" See {stop.setting}." if stop.setting else ""
    return f"Most ticks ({stop.count:,} of {funnel.ticks:,}) ended at {stop.name}: {stop.words}.{move}"


def _blocked(funnel: Funnel) -> str | None:
    """What guards refused of the openings that were drawn; None where they let most of them pass.

    Guards are asked of the draws that act, and these are few: beside all the ticks that drew nothing, a guard that
    refuses every single opening counts hardly anything.
    """
    guards = _guards(funnel)
    drawn, stops = guards[0].entered, [stop for step in guards for stop in step.stops]
    refused = sum(stop.count for stop in stops)
    if 2 * refused <= drawn:
        return None
    most = max(stops, key=lambda one: one.count)
    by = f"by {most.name}" if most.count == refused else f"{most.count:,} of them by {most.name}"
    move = f" See {most.setting}." if most.setting else ""
    return f"Of {drawn:,} openings that were drawn, {refused:,} were refused, {by}: {most.words}.{move}"


def _undelivered(funnel: Funnel) -> Iterator[str]:
    held = {stop.name: stop.count for step in funnel.steps for stop in step.stops}
    if held.get("unroutable"):
        yield f"{held['unroutable']:,} signals found no queue: is order-manager's queue declared and bound?"
    if held.get("expired"):
        yield f"{held['expired']:,} signals expired unsent: was the broker away? SIGNAL_EXPIRY_SECONDS is their life."
    if held.get("lost"):
        yield f"{held['lost']:,} published signals became no order: see the log of order-manager."


def _guards(funnel: Funnel) -> Sequence[Step]:
    steps = _deciding(funnel)
    return steps[[step.name for step in steps].index(POLICY_STEP) + 1 :]


def _deciding(funnel: Funnel) -> Sequence[Step]:
    return [step for step in funnel.steps if step.name not in ("published", "filled")]


def _stopped(funnel: Funnel, name: str) -> int:
    return sum(stop.count for step in funnel.steps if step.name == name for stop in step.stops)


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"
