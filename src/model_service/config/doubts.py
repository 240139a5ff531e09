"""Settings that can be used but cannot do what they say: a line of warning for each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from model_service.config.strategies import StrategyDefinition

FREQUENCY = "signals_per_minute (WARMUP_SIGNAL_FREQUENCY)"
LARGEST_ACTION_RATE = 0.95
"""A draw of `none` stays possible at every tick, which off-policy values need."""


def doubts(
    strategies: Sequence[StrategyDefinition], tick_seconds: float, signals_per_minute_limit: float
) -> Iterator[str]:
    """What an operator should know of strategies that tick every `tick_seconds` under that rate limit."""
    for strategy in strategies:
        if not strategy.assets:
            continue  # those of the account are not known yet
        wanted = strategy.signals_per_minute
        reachable = reachable_signals_per_minute(len(strategy.assets), tick_seconds)
        if wanted > reachable:
            yield (
                f"strategy {strategy.strategy_id}: {FREQUENCY} is {wanted:g}, but at most {reachable:g} can be reached "
                f"with {_assets(len(strategy.assets))} looked at every {tick_seconds:g} s; shorten "
                "TRADING_DECISION_INTERVAL_SECONDS, or lower it"
            )
        if min(wanted, reachable) > signals_per_minute_limit:
            yield (
                f"strategy {strategy.strategy_id}: {FREQUENCY} is {wanted:g}, but SIGNAL_GENERATION_RATE_LIMIT lets "
                f"{signals_per_minute_limit:g} through; raise one or lower the other"
            )
        yield from _half_said(strategy)
    yield from _untraded("TRADING_FEE_RATES", strategies, [set(strategy.fee_rates) for strategy in strategies])
    minimums = [set(strategy.exchange_minimum_amounts) for strategy in strategies]
    yield from _untraded("TRADING_MIN_ORDER_AMOUNTS", strategies, minimums)


def _half_said(strategy: StrategyDefinition) -> Iterator[str]:
    """Exits of which one value is set and the one that switches them on is not."""
    exits, name = strategy.exits, f"strategy {strategy.strategy_id}: exits"
    if exits.trailing_activation_percent and exits.trailing_distance_percent is None:
        yield (
            f"{name}.trailing_activation_percent is {exits.trailing_activation_percent:g}, but there is no trailing "
            "stop: set trailing_distance_percent (TRAILING_STOP_ENABLED) too"
        )
    if exits.holding_profit_percent is not None and exits.maximum_holding_hours is None:
        yield (
            f"{name}.holding_profit_percent is {exits.holding_profit_percent:g}, but no lot is closed by its age: "
            "set maximum_holding_hours (TIME_BASED_EXIT_ENABLED) too"
        )


def _assets(count: int) -> str:
    return "1 asset that is" if count == 1 else f"{count} assets that are"


def _untraded(setting: str, strategies: Sequence[StrategyDefinition], named: Sequence[set[str]]) -> Iterator[str]:
    traded = {asset for strategy in strategies for asset in strategy.assets}
    for asset in sorted(set().union(*named) - traded):
        yield f"{setting} names {asset}, which no strategy trades; allowed are {', '.join(sorted(traded))}"


def reachable_signals_per_minute(assets: int, tick_seconds: float) -> float:
    """The most signals a minute of a strategy, whose assets each act at most at that share of the ticks.

    Example:
        >>> reachable_signals_per_minute(1, 5.0)
        11.4
    """
    return LARGEST_ACTION_RATE * 60.0 / tick_seconds * assets
