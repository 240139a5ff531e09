"""Asks ws-gateway to write the balances anew before they are too old for an opening.

The gateway writes a balance when it moves. On a quiet account the newest row grows old by itself, and the guard of the
balance would refuse every opening although nothing has changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from model_service.consumers.gateway_client import GatewayAnswer, GatewayUnreachable
from model_service.consumers.market_subscriptions import REMIND_EVERY, Gateway
from model_service.services.balances import Balance, BalanceReader, Balances

log = structlog.get_logger()

PATH = "/api/v1/balances/sync"
ASKED_AT_SHARE = 0.5
"""At this share of the age that the guard allows: what is left is time for an answer and for a second try."""


@dataclass(frozen=True, slots=True)
class SyncLimits:
    """When a balance is too old for an opening, and how often the gateway may be asked; seconds."""

    max_age_seconds: float
    min_interval_seconds: float


class BalanceSync:
    """Keeps the balances young enough for the guard, as far as the gateway goes along.

    A balance without a row is not asked for: it allows everything, as with order-manager. Whatever the gateway answers,
    it is asked again after the interval, and only while a balance is old.

    Args:
        balances: the reader that the guard's balances come from.
    """

    def __init__(self, gateway: Gateway, balances: BalanceReader, limits: SyncLimits) -> None:
        self._gateway = gateway
        self._balances = balances
        self._limits = limits
        self._asked_at: datetime | None = None
        self._synced: Mapping[str, datetime] = {}
        self._trouble: str | None = None
        self._said: dict[str, datetime] = {}

    @property
    def notices(self) -> tuple[str, ...]:
        """What keeps the balances old now, without addresses."""
        return () if self._trouble is None else (f"balances cannot be kept fresh: {self._trouble}",)

    async def step(self, now: datetime) -> bool:
        """Ask if a balance is old and the interval is over; returns whether it asked. Raises DatabaseUnavailable."""
        old = self._old(await self._balances.at(now), now)
        if not old:
            self._settle()
            return False
        if self._asked_at is not None and abs(now - self._asked_at) < _seconds(self._limits.min_interval_seconds):
            return False
        self._asked_at = now
        await self._ask(old, now)
        return True

    def _old(self, balances: Balances, now: datetime) -> dict[str, datetime]:
        """When the balances that have to be written anew were received."""
        limit = ASKED_AT_SHARE * self._limits.max_age_seconds
        named: dict[str, Balance | None] = {"for buys": balances.quote, "for sells": balances.margin}
        return {
            name: balance.received_at
            for name, balance in named.items()
            if balance is not None and balance.age_seconds(now) >= limit
        }

    async def _ask(self, old: Mapping[str, datetime], now: datetime) -> None:
        try:
            answer = await self._gateway.post(PATH, {})
        except GatewayUnreachable as error:
            self._fail("the gateway does not answer", str(error), now)
            return
        if not answer.is_success:
            self._fail(_refusal(answer), answer.text, now)
            return
        self._balances.read_anew()
        unmoved = [name for name, received_at in old.items() if self._synced.get(name) == received_at]
        self._synced = old
        if unmoved:
            # It answers with success, and leaves out rows that its own checks refuse (CONTRACTS 3.8).
            self._fail(f"the gateway's sync writes no balance {' and none '.join(unmoved)}", answer.text, now)
        else:
            self._settle()

    def _settle(self) -> None:
        if self._trouble is not None:
            log.info("balance_sync_resumed")
        self._trouble = None

    def _fail(self, trouble: str, detail: str, now: datetime) -> None:
        said = self._said.get(trouble)
        if trouble != self._trouble or said is None or abs(now - said) >= REMIND_EVERY:
            self._said[trouble] = now
            log.warning(
                "balance_sync_failed",
                reason=f"{trouble}: {detail}",
                retry_seconds=self._limits.min_interval_seconds,
            )
        self._trouble = trouble


def _refusal(answer: GatewayAnswer) -> str:
    return _REFUSALS.get(answer.status, f"the gateway answers with {answer.status}")


def _seconds(seconds: float) -> timedelta:
    return timedelta(seconds=seconds)


_REFUSALS = {
    401: "the gateway does not accept WS_GATEWAY_API_KEY (HTTP 401)",
    403: "the gateway forbids it (HTTP 403)",
    404: "the gateway at WS_GATEWAY_HOST has no sync of balances (HTTP 404)",
}
