"""What every opening depends on, whatever its asset: halts, losses of the day, balances."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from model_service.services.balances import BalanceReader, Balances
from model_service.services.halts import Halt, HaltStore
from model_service.services.loss_limit import LossWatch


@dataclass(frozen=True, slots=True)
class Conditions:
    """As they are at one tick."""

    halts: Sequence[Halt] = ()
    balances: Balances = field(default_factory=Balances)


class OpeningConditions:
    """Reads them at every tick, so that a stop holds from the next tick on, in every process on the database.

    Args:
        losses: None where no loss limit is set.
        balances: None where there are no tables of balances.
    """

    def __init__(
        self, halts: HaltStore, losses: LossWatch | None = None, balances: BalanceReader | None = None
    ) -> None:
        self._halts = halts
        self._losses = losses
        self._balances = balances
        self.halts: Sequence[Halt] = ()

    async def look(self, strategy_ids: Iterable[str], prices: Mapping[str, float], now: datetime) -> Conditions:
        """The conditions at `now`; a loss over its limit halts here. Raises DatabaseUnavailable."""
        if self._losses is not None:
            await self._losses.look(strategy_ids, prices, now)
        self.halts = await self._halts.open_halts()
        balances = Balances() if self._balances is None else await self._balances.at(now)
        return Conditions(self.halts, balances)
