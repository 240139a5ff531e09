"""From a tick to signals: snapshot, features, policy, guards, draw, and the frozen record of all of it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

import structlog

from model_service.config.clock import Identifiers
from model_service.config.strategies import StrategyDefinition
from model_service.market.snapshot import MarketSnapshot
from model_service.market.state import AssetMarket
from model_service.models.features import feature_vector
from model_service.policies.exit import ExitDecision, decide_exit
from model_service.policies.exit_state import current
from model_service.policies.reasons import Reason, ReasonCode
from model_service.services.conditions import Conditions, OpeningConditions
from model_service.services.decision import decision_context
from model_service.services.decision_failures import DecisionFailures
from model_service.services.decision_pass import DecisionPass, GenerationLimits
from model_service.services.due_ticks import count_due, next_due
from model_service.services.guards import market_data_reason
from model_service.services.modes import Modes
from model_service.services.openings import Openings
from model_service.services.ports import (
    DecidedSignal,
    DecisionStore,
    ExecutionStatistics,
    PlatformUnreadable,
    PositionKey,
    SilentTick,
    Unstorable,
)
from model_service.services.roster import StrategyRoster
from model_service.services.signal_record import Tick, exit_signal

log = structlog.get_logger()
EXIT_LOOK_SECONDS = 1.0
"""Between two ticks exits are looked at this often: a strategy that ticks once an hour has stops all the same."""
NO_STATISTICS = ExecutionStatistics(math.nan, math.nan, math.nan, math.nan)


class SignalGenerator:
    """Ticks every strategy at its interval and records what came of it: a signal or a counted reason, never neither."""

    def __init__(
        self,
        roster: StrategyRoster,
        markets: Mapping[str, AssetMarket],
        modes: Modes,
        store: DecisionStore,
        identifiers: Identifiers,
        limits: GenerationLimits,
        conditions: OpeningConditions | None = None,
    ) -> None:
        self._roster = roster
        self._markets = markets
        self._modes = modes
        self._store = store
        self._identifiers = identifiers
        self._limits = limits
        self._conditions = conditions
        self._openings = Openings(modes, identifiers, limits)
        self._failures = DecisionFailures()
        self._next_tick: datetime | None = None
        self._ticking: Collection[PositionKey] = frozenset()
        self._looked_at: datetime | None = None
        self._statistics: Mapping[tuple[str, str], ExecutionStatistics] = {}
        self._statistics_due: datetime | None = None
        self._in_doubt: DecisionPass | None = None
        self.missing_markets: set[str] = set()
        self._left: list[PositionKey] = []
        self._platform_away = False
        self.ticks = 0
        self.signals = 0
        self.model_signals = 0

    async def step(self, now: datetime) -> Sequence[DecidedSignal]:
        """One pass over all strategies when a tick is due, or over the open positions in between.

        The signals are in the outbox when this returns.
        """
        if self._in_doubt is not None:
            if stored := await self._store.took_effect():
                # Only the answer to its COMMIT was lost. To decide that tick again could place a second order, and to
                # take the pass for failed would leave its signals uncounted.
                return self._recorded(self._in_doubt, stored)
            self._openings.give_back(self._in_doubt.signals)
        self._in_doubt = None
        if self._is_tick_due(now):
            return await self._tick_exits_first(now)
        if self._is_look_due(now):
            return await self._look_at_exits(now)
        return ()

    async def _tick_exits_first(self, now: datetime) -> Sequence[DecidedSignal]:
        """A tick; what it fails on, or would have to wait for, holds back openings alone."""
        closed: Sequence[DecidedSignal] = ()
        if self._modes.is_unsettled:
            closed = await self._look_at_exits(now)
            await self._modes.settle(now)
        try:
            return [*closed, *await self._tick_all(now)]
        except Exception:
            # In doubt, the positions may be closed already, and the next step asks.
            if self._in_doubt is None and self._is_look_due(now):
                await self._look_at_exits(now)
            raise

    async def _tick_all(self, now: datetime) -> Sequence[DecidedSignal]:
        await self._pause_failing(now)
        await self._refresh_statistics(now)
        decided = await self._begin(now, is_tick=True)
        for strategy in rotated(decided.strategies, now, self._limits.tick_seconds):
            for asset in strategy.assets:
                self._tick_asset(strategy, asset, decided)
            # Market data, executions and HTTP get their turn between two strategies; the snapshots are taken already.
            await asyncio.sleep(0)
        self._close_what_was_left(decided)
        count_due(decided, self._next_tick, self._ticking, self._limits.tick_seconds)
        return await self._record(decided)

    async def _pause_failing(self, now: datetime) -> None:
        for strategy_id, reason in dict(self._failures.exhausted).items():
            try:
                if self._modes.mode(strategy_id) != "paused":
                    await self._modes.pause(strategy_id, actor="service", reason=reason, now=now)
            except Exception as error:
                # Its own ticks fail anyway; the others go on, and the next tick tries again.
                log.exception("pause_failed", strategy=strategy_id, reason=reason, error=str(error))
                continue
            self._failures.begin_anew(strategy_id)

    async def _look_at_exits(self, now: datetime) -> Sequence[DecidedSignal]:
        """Close what is due; nothing is opened and no silence counted."""
        decided = await self._begin(now, is_tick=False)
        for strategy in decided.strategies:
            for asset in strategy.assets:
                if strategy.exits_enabled and decided.lots.get((strategy.strategy_id, asset)):
                    self._tick_asset(strategy, asset, decided)
        self._close_what_was_left(decided)
        return await self._record(decided)

    def _close_what_was_left(self, decided: DecisionPass) -> None:
        """Exits of positions that no tick looks at: their strategy, or their asset in it, was taken away."""
        ticking = {(strategy.strategy_id, asset) for strategy in decided.strategies for asset in strategy.assets}
        left = sorted(key for key, lots in decided.lots.items() if lots and key not in ticking)
        if left != self._left:
            log.info("positions_left", positions=[list(key) for key in left])
            self._left = left
        for strategy_id, asset in left:
            strategy = self._roster.for_exits(strategy_id)
            if asset not in decided.snapshots:
                self.missing_markets.add(asset)
            elif strategy is not None and strategy.exits_enabled:
                self._tick_asset(strategy, asset, decided, opens=False)

    async def _begin(self, now: datetime, *, is_tick: bool) -> DecisionPass:
        # Orders before lots: a fill that comes between the two is seen twice, and no exit is asked for again. The other
        # way round it would not be seen at all, and the position be closed a second time.
        orders = await self._store.open_orders(now)
        # The strategies and the snapshots of one moment: every asset that ticks has its market.
        strategies, position_limits = self._roster.current, self._roster.position_limits
        snapshots = {asset: market.snapshot(now) for asset, market in self._markets.items()}
        begun = DecisionPass(
            now=now,
            is_tick=is_tick,
            strategies=strategies,
            position_limits=position_limits,
            snapshots=snapshots,
            lots=await self._store.open_lots(),
            orders=orders,
            exit_states=await self._store.exit_states(),
        )
        return await self._with_what_openings_need(begun) if is_tick else begun

    async def _with_what_openings_need(self, begun: DecisionPass) -> DecisionPass:
        """Where the siblings' tables cannot be read nothing is opened, with a reason, and exits go on."""
        conditions = await self._look(begun.strategies, begun.snapshots, begun.now)
        try:
            orders = [*begun.orders, *await self._store.foreign_orders()]
            positions = await self._store.shared_positions()
        except PlatformUnreadable as error:
            if not self._platform_away:
                log.warning("platform_unreadable", error=str(error), seconds=round(error.seconds, 3))
            self._platform_away = True
            return replace(begun, conditions=conditions, platform_unread_seconds=error.seconds)
        if self._platform_away:
            log.info("platform_readable")
        self._platform_away = False
        return replace(begun, conditions=conditions, orders=orders, platform_positions=positions)

    async def _look(
        self, strategies: Sequence[StrategyDefinition], snapshots: Mapping[str, MarketSnapshot], now: datetime
    ) -> Conditions | None:
        """What openings depend on; None when that fails for its values: then nothing is opened, and exits go on."""
        if self._conditions is None:
            return Conditions()
        names, prices = [one.strategy_id for one in strategies], _prices(snapshots)
        try:
            return await self._conditions.look(names, prices, now)
        except (ArithmeticError, ValueError, KeyError, TypeError) as error:
            log.exception("conditions_failed", error=str(error))
            return None

    async def _record(self, decided: DecisionPass) -> Sequence[DecidedSignal]:
        try:
            return await self._record_whole(decided)
        except Unstorable as error:
            log.error("decisions_refused_by_the_database", error=str(error), signals=len(decided.signals))
        return await self._record_apart(decided)

    async def _record_whole(self, decided: DecisionPass) -> Sequence[DecidedSignal]:
        # A pass that broke off before it was stored is forgotten: the next one decides on what is known by then.
        self._in_doubt = decided
        try:
            refused = await self._store.record(
                decided.signals,
                decided.nones,
                decided.silent,
                decided.changed_exits,
                prices=_prices(decided.snapshots),
                spare=decided.spare,
                due=decided.due,
            )
        except Unstorable:
            self._in_doubt = None
            raise
        taken_back = {one.decided.signal.signal_id for one in refused}
        return self._recorded(decided, {one.signal.signal_id for one in decided.signals} - taken_back)

    async def _record_apart(self, decided: DecisionPass) -> Sequence[DecidedSignal]:
        """One signal after the other, exits first: what the database refuses of one must not cost the others."""
        recorded: list[DecidedSignal] = []
        silent = list(decided.silent)
        for one in sorted(decided.signals, key=lambda signal: signal.intent != "exit"):
            try:
                recorded += await self._record_whole(decided.part([one]))
            except Unstorable as error:
                signal = one.signal
                self._failures.failed(signal.strategy_id, signal.asset, error, decided.now, is_tick=decided.is_tick)
                self._openings.give_back([one])
                if one.at_tick:
                    reason = Reason(ReasonCode.DECISION_FAILED)
                    silent.append(SilentTick(signal.strategy_id, signal.asset, decided.now, reason))
        try:
            await self._record_whole(decided.part((), decided.nones, silent, decided.changed_exits))
        except Unstorable:
            await self._record_whole(decided.part((), (), silent, decided.changed_exits))
        return recorded

    def _recorded(self, decided: DecisionPass, stored: Collection[UUID]) -> Sequence[DecidedSignal]:
        """Count a pass of which the signals `stored` are in the outbox; openings that were refused became silent."""
        self._in_doubt = None
        signals = [one for one in decided.signals if one.signal.signal_id in stored]
        self._openings.give_back(one for one in decided.signals if one.signal.signal_id not in stored)
        self._looked_at = decided.now
        if decided.is_tick:
            self._next_tick = next_due(decided.now, self._limits.tick_seconds)
            self._ticking = frozenset(decided.due)
        missed = [one for one in decided.silent if one.reason.code is ReasonCode.TICK_MISSED]
        if missed:
            log.warning("ticks_missed", ticks=sum(one.count for one in missed), seconds=missed[0].reason.value)
        self.ticks += sum(one.at_tick for one in decided.signals) + sum(one.count for one in decided.silent)
        self.signals += len(signals)
        self.model_signals += sum(one.signal.model_version is not None for one in signals)
        return signals

    def _is_look_due(self, now: datetime) -> bool:
        return self._looked_at is None or abs((now - self._looked_at).total_seconds()) >= EXIT_LOOK_SECONDS

    def _is_tick_due(self, now: datetime) -> bool:
        # Further ahead than a tick is long: the clock has stepped back, and neither ticks nor exits wait for it.
        seconds = self.seconds_to_next_tick(now)
        return seconds <= 0.0 or seconds > self._limits.tick_seconds

    def seconds_to_next_tick(self, now: datetime) -> float:
        """How long until the next tick."""
        return 0.0 if self._next_tick is None else max(0.0, (self._next_tick - now).total_seconds())

    def _tick_asset(
        self, strategy: StrategyDefinition, asset: str, decided: DecisionPass, *, opens: bool = True
    ) -> None:
        opens = opens and decided.is_tick
        try:
            outcome = self._decide(self._tick(strategy, asset, decided), decided, opens=opens)
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not silence the other strategies
            self._failures.failed(strategy.strategy_id, asset, error, decided.now, is_tick=opens)
            outcome = Reason(ReasonCode.DECISION_FAILED)
        else:
            if opens:  # a look at exits asks no policy, so that it says nothing of one that fails
                self._failures.succeeded(strategy.strategy_id, asset)
        if outcome is not None and opens:
            decided.silent.append(SilentTick(strategy.strategy_id, asset, decided.now, outcome))

    def _tick(self, strategy: StrategyDefinition, asset: str, decided: DecisionPass) -> Tick:
        key, snapshot, now = (strategy.strategy_id, asset), decided.snapshots[asset], decided.now
        lots = decided.lots.get(key, ())
        orders = decided.orders_of(strategy.strategy_id, asset)
        statistics = self._statistics.get(key, NO_STATISTICS)
        context = decision_context(strategy, snapshot, lots, orders, statistics, now)
        return Tick(
            strategy=strategy,
            snapshot=snapshot,
            lots=lots,
            orders=orders,
            exit_state=decided.exit_states.get(key),
            features=feature_vector(snapshot, context, decided.market_features(asset)),
            platform_position=(decided.platform_positions or {}).get(asset, 0.0),
            now=now,
            seed=f"{self._limits.seed}:{strategy.strategy_id}:{asset}:{decided.stamp}",
        )

    def _decide(self, tick: Tick, decided: DecisionPass, *, opens: bool) -> Reason | None:
        """Append a signal and return None, or return the reason for silence. An exit goes before an opening."""
        unusable = market_data_reason(tick.snapshot, self._limits.guards.market_data_max_age_seconds)
        if unusable is not None:
            return unusable
        exits = self._exit(tick, decided, at_tick=opens)
        if exits.proposal is not None or not opens:
            return None
        if exits.held is not None:
            return exits.held
        silence = self._openings.decide(tick, decided)
        # A tick has one reason. That a position cannot be closed is worth more to know than why none was opened.
        return silence if silence is None or exits.below_minimum is None else exits.below_minimum

    def _exit(self, tick: Tick, decided: DecisionPass, *, at_tick: bool) -> ExitDecision:
        """What the exit policy says; its signal is appended, and what it remembers is kept."""
        strategy_id = tick.strategy.strategy_id
        if not tick.strategy.exits_enabled:
            return ExitDecision(None)
        pending = [order.quantity for order in tick.orders if order.intent == "exit"]
        largest = self._limits.largest_order
        made = decide_exit(tick.strategy, tick.lots, tick.exit_state, pending, tick.snapshot.price, tick.now, largest)
        if made.proposal is not None:
            signal_id, expiry_seconds = self._identifiers.new(), self._limits.expiry_seconds
            is_warmup = self._modes.mode(strategy_id) == "warmup"
            decided.signals.append(
                exit_signal(
                    tick, made.proposal, signal_id, expiry_seconds=expiry_seconds, is_warmup=is_warmup, at_tick=at_tick
                )
            )
        # After the signal: an attempt that came to nothing must not begin a cooldown.
        if made.state is not None and made.state != current(tick.exit_state, tick.lots):
            decided.changed_exits[strategy_id, tick.snapshot.asset] = made.state
        return made

    async def _refresh_statistics(self, now: datetime) -> None:
        if self._statistics_due is not None and now < self._statistics_due:
            return
        self._statistics = await self._store.execution_statistics()
        self._statistics_due = now + timedelta(seconds=self._limits.statistics_refresh_seconds)


def rotated(
    strategies: Sequence[StrategyDefinition], now: datetime, tick_seconds: float
) -> Sequence[StrategyDefinition]:
    """The strategies, another one first at every tick: who comes first takes what all of them share."""
    first = int(now.timestamp() // tick_seconds) % len(strategies) if strategies else 0
    return (*strategies[first:], *strategies[:first])


def _prices(snapshots: Mapping[str, MarketSnapshot]) -> dict[str, float]:
    return {asset: one.price for asset, one in snapshots.items() if math.isfinite(one.price)}
