"""The daily loss limit: what a strategy, or all of them, have lost since the day's first look, realised and open.

The result of a day (UTC) is the change of equity since the level that was taken at its first look: the closures that
have come into the ledger since, both fees included, and the open result now less the open result then. So a position
that was opened yesterday counts with what it has moved today. After a person has resumed, the next look takes a new
level: what was lost before is not counted a second time on that day.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Protocol

import structlog

log = structlog.get_logger()
LOOK_EVERY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class LossLimits:
    """Quote currency that may be lost in a day, of each strategy and of all together; None: no limit."""

    strategy: float | None = None
    total: float | None = None


@dataclass(frozen=True, slots=True)
class OpenPosition:
    """The open lots of a strategy and asset added up.

    Attributes:
        quantity: signed base units.
        cost: what they were entered at, quote currency, of the sign of `quantity`.
        fees: of the entry, those that no closure has borne.
        last_close: of the stored bar that ended last; None where there is none.
    """

    strategy_id: str
    asset: str
    quantity: float
    cost: float
    fees: float
    last_close: float | None = None


@dataclass(frozen=True, slots=True)
class Level:
    """From where a result is counted; `realized` is what closures have brought since, after fees."""

    strategy_id: str | None
    open_result: float
    taken_at: datetime
    realized: float
    resumed_at: datetime | None = None

    @property
    def is_over(self) -> bool:
        """Whether a person has resumed since, so that a new level is to be taken."""
        return self.resumed_at is not None and self.resumed_at > self.taken_at


@dataclass(frozen=True, slots=True)
class Books:
    """The ledger of one moment; `closure_id` is the newest closure in it."""

    positions: Sequence[OpenPosition]
    levels: Sequence[Level]
    closure_id: int


@dataclass(frozen=True, slots=True)
class NewLevel:
    """A level to be taken; one that is there already is replaced only if it is older than `resumed_at`."""

    strategy_id: str | None
    day: date
    closure_id: int
    open_result: float
    taken_at: datetime
    resumed_at: datetime | None


class LossStore(Protocol):
    """The ledger, the levels of the day, and halts."""

    async def books(self, day: date) -> Books:
        """Open positions and levels, all of one moment."""
        ...

    async def take_levels(self, levels: Sequence[NewLevel]) -> None:
        """Levels as rows; another process may have been first."""
        ...

    async def begin_loss_halt(
        self, strategy_id: str | None, reason: str, evidence: Mapping[str, Any], now: datetime
    ) -> bool:
        """Halt for a loss; False when such a halt holds already."""
        ...


class LossWatch:
    """Looks at the results of the day, and halts what has lost more than its limit."""

    def __init__(self, store: LossStore, limits: LossLimits) -> None:
        self._store = store
        self._limits = limits
        self._prices: dict[str, float] = {}
        self._looked_at: datetime | None = None

    async def look(self, strategy_ids: Iterable[str], prices: Mapping[str, float], now: datetime) -> None:
        """One look, once a second at most; a loss over its limit becomes a halt. Raises DatabaseUnavailable."""
        self._prices |= {asset: price for asset, price in prices.items() if math.isfinite(price)}
        if self._looked_at is not None and abs((now - self._looked_at).total_seconds()) < LOOK_EVERY_SECONDS:
            return
        day = now.astimezone(UTC).date()
        books = await self._store.books(day)
        levels = {level.strategy_id: level for level in books.levels}
        scopes = list(self._scopes(strategy_ids))
        missing = [
            NewLevel(
                scope,
                day,
                books.closure_id,
                self._open_result(books, scope),
                # Not before the resumption that it is taken for, or a clock that was set back would take it for ever.
                now if level is None or level.resumed_at is None else max(now, level.resumed_at),
                resumed_at=None if level is None else level.resumed_at,
            )
            for scope, _ in scopes
            if (level := levels.get(scope)) is None or level.is_over
        ]
        if missing:
            await self._store.take_levels(missing)
        fresh = {level.strategy_id for level in missing}
        for scope, limit in scopes:
            if scope not in fresh:
                await self._judge(books, levels[scope], limit, day, now)
        self._looked_at = now

    def _scopes(self, strategy_ids: Iterable[str]) -> Iterator[tuple[str | None, float]]:
        if self._limits.strategy is not None:
            yield from ((name, self._limits.strategy) for name in strategy_ids)
        if self._limits.total is not None:
            yield None, self._limits.total

    async def _judge(self, books: Books, level: Level, limit: float, day: date, now: datetime) -> None:
        open_now = self._open_result(books, level.strategy_id)
        loss = -(level.realized + open_now - level.open_result)
        if loss <= limit:
            return
        evidence = {
            "day": day.isoformat(), "loss": loss, "limit": limit, "realized": level.realized, "open": open_now,
            "open_at_level": level.open_result, "counted_from": level.taken_at.isoformat(),
        }  # fmt: skip
        reason = f"lost {loss:,.2f} since {level.taken_at:%Y-%m-%d %H:%M:%S} UTC; the limit is {limit:,.2f}"
        if await self._store.begin_loss_halt(level.strategy_id, reason, evidence, now):
            log.error("loss_limit_reached", strategy=level.strategy_id, **evidence)

    def _open_result(self, books: Books, strategy_id: str | None) -> float:
        of_scope = [one for one in books.positions if strategy_id in (None, one.strategy_id)]
        return math.fsum(open_result(one, self._prices.get(one.asset)) for one in of_scope)


def open_result(position: OpenPosition, price: float | None) -> float:
    """What closing at `price` would bring, quote currency, after the fees of the entry.

    Without a price, at the last stored close; where there is none either, at the entry: then it is minus the fees.

    Example:
        >>> open_result(OpenPosition("a", "BTCUSDT", -2.0, -200.0, 0.5), 90.0)
        19.5
    """
    known = position.last_close if price is None else price
    return (0.0 if known is None else position.quantity * known - position.cost) - position.fees
