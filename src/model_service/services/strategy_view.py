"""A strategy as it is in force, with where each value came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from model_service.config.strategy_file import Source, values_by_key
from model_service.services.roster import StrategyRoster, StrategyState


@dataclass(frozen=True, slots=True)
class StrategyView:
    """What is shown of a strategy.

    Attributes:
        assets: what it trades now; empty for one that does not tick.
        values: as the file would have them, by dotted key.
        sources: by the same keys; empty for a strategy that was taken away.
    """

    strategy_id: str
    state: StrategyState
    assets: Sequence[str]
    values: Mapping[str, Any]
    sources: Mapping[str, Source]


def strategy_view(roster: StrategyRoster, strategy_id: str) -> StrategyView | None:
    """None where nobody knows such a strategy."""
    last = roster.last(strategy_id)
    if last is None:
        return None
    sources = next((one.sources for one in roster.configured if one.definition.strategy_id == strategy_id), {})
    current = roster.get(strategy_id)
    return StrategyView(
        strategy_id=strategy_id,
        state=roster.state(strategy_id),
        assets=() if current is None else current.assets,
        values=values_by_key(last),
        sources=sources,
    )
