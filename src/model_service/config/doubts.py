"""Settings that can be used but cannot do what they say: a line of warning for each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from model_service.config.strategies import StrategyDefinition

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
                f"strategy {strategy.strategy_id}: WARMUP_SIGNAL_FREQUENCY is {wanted:g} a minute, but at most "
                f"{reachable:g} can be reached with {len(strategy.assets)} assets that are looked at every "
                f"{tick_seconds:g} s; shorten TRADING_DECISION_INTERVAL_SECONDS, or lower it"
            )
        if min(wanted, reachable) > signals_per_minute_limit:
            yield (
                f"strategy {strategy.strategy_id}: WARMUP_SIGNAL_FREQUENCY is {wanted:g} a minute, but "
                f"SIGNAL_GENERATION_RATE_LIMIT lets {signals_per_minute_limit:g} through; raise one or lower the other"
            )
    yield from _untraded("TRADING_FEE_RATES", strategies, [set(strategy.fee_rates) for strategy in strategies])
    minimums = [set(strategy.exchange_minimum_amounts) for strategy in strategies]
    yield from _untraded("TRADING_MIN_ORDER_AMOUNTS", strategies, minimums)


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
