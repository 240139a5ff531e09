"""Asks ws-gateway for the market data that we take: a topic without an active subscription is not forwarded.

A subscription is idempotent per topic and service, so all are asked for at the start, when the set of assets changes,
and again every few minutes: a gateway that has forgotten them is reminded. None is ever taken back: others may use it.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol

import structlog

from model_service.consumers.gateway_client import GatewayAnswer, GatewayUnreachable

log = structlog.get_logger()

PATH = "/api/v1/subscriptions"
SERVICE = "model-service"
RENEWAL = timedelta(minutes=5)
FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS = 1.0, 60.0
REMIND_EVERY = timedelta(minutes=10)
CHANNELS: Mapping[str, str] = {
    "ws-gateway.ticker": "ticker",
    "ws-gateway.trade": "trades",
    "ws-gateway.orderbook": "orderbook",
    "ws-gateway.kline": "kline",
}
"""The channel that feeds a queue of the gateway; queues of other names are fed by somebody else."""

Topic = tuple[str, str]
"""Channel and asset."""


class Gateway(Protocol):
    """Where requests go."""

    async def post(self, path: str, body: Mapping[str, str]) -> GatewayAnswer:
        """Raises GatewayUnreachable."""
        ...


class MarketSubscriber:
    """Keeps subscriptions for every asset and every channel whose queue we take from.

    What fails by the gateway's fault or the network's is tried again with back-off; what it refuses (a wrong key, a
    request that it does not understand) only at the next renewal, since the same request would be refused again.

    Args:
        queues: the gateway's queues that we take from.
        rng: spreads the retries of several processes.
    """

    def __init__(self, gateway: Gateway, queues: Sequence[str], rng: random.Random) -> None:
        self._gateway = gateway
        self._channels = [CHANNELS[queue] for queue in queues if queue in CHANNELS]
        self._rng = rng
        self._due: dict[Topic, datetime] = {}
        self._not_before: datetime | None = None
        self._delay = FIRST_RETRY_SECONDS
        self._refusals: dict[Topic, str] = {}
        self._trouble: str | None = None
        self._said: dict[str, datetime] = {}

    @property
    def notices(self) -> tuple[str, ...]:
        """What is wrong with the subscriptions now, without addresses."""
        refused = sorted({f"the gateway refuses our subscriptions: {reason}" for reason in self._refusals.values()})
        trouble = () if self._trouble is None else (f"market data cannot be subscribed to: {self._trouble}",)
        return (*trouble, *refused)

    async def step(self, assets: Collection[str], now: datetime) -> int:
        """Ask for what is due; returns how many subscriptions stand since this step. One that is away is noted."""
        wanted = {(channel, asset.upper()) for channel in self._channels for asset in assets}
        self._forget_all_but(wanted)
        if _lies_ahead(self._not_before, now):
            return 0
        done = 0
        # What failed last comes last, so that one topic with which the gateway cannot cope does not hold up the others.
        for topic in sorted(wanted, key=lambda one: (self._due.get(one, _LONG_AGO), one)):
            if _lies_ahead(self._due.get(topic), now):
                continue
            if not await self._ask(topic, now):
                self._due[topic] = now
                break
            done += topic not in self._refusals
        return done

    def _forget_all_but(self, wanted: Collection[Topic]) -> None:
        for known in (self._due, self._refusals):
            for topic in [topic for topic in known if topic not in wanted]:
                del known[topic]

    async def _ask(self, topic: Topic, now: datetime) -> bool:
        """Whether the gateway can be asked for more."""
        channel, asset = topic
        try:
            answer = await self._gateway.post(
                PATH, {"channel_type": channel, "symbol": asset, "requesting_service": SERVICE}
            )
        except GatewayUnreachable as error:
            self._wait("the gateway does not answer", str(error), now)
            return False
        if answer.status >= 500 or answer.status in (408, 429):
            self._wait(f"the gateway answers with {answer.status}", answer.text, now)
            return False
        self._settle(topic, answer, now)
        return True

    def _settle(self, topic: Topic, answer: GatewayAnswer, now: datetime) -> None:
        if self._trouble is not None:
            log.info("market_subscription_resumed")
        self._trouble, self._not_before, self._delay = None, None, FIRST_RETRY_SECONDS
        self._due[topic] = now + RENEWAL
        if answer.is_success:
            if self._refusals.pop(topic, None) is not None:
                log.info("market_subscribed", channel=topic[0], asset=topic[1])
            return
        reason = f"HTTP {answer.status} for {topic[0]} of {topic[1]}"
        self._refusals[topic] = _REFUSALS.get(answer.status, reason)
        if self._may_say(reason, now):
            log.error(
                "market_subscription_refused",
                channel=topic[0],
                asset=topic[1],
                status=answer.status,
                answer=answer.text,
                hint=_HINTS.get(answer.status, "the gateway takes other channels or symbols"),
            )

    def _wait(self, trouble: str, detail: str, now: datetime) -> None:
        seconds = self._delay * self._rng.uniform(0.5, 1.0)
        self._not_before = now + timedelta(seconds=seconds)
        self._delay = min(LAST_RETRY_SECONDS, 2.0 * self._delay)
        if trouble != self._trouble or self._may_say(trouble, now):
            self._said[trouble] = now
            log.warning("market_subscription_failed", reason=f"{trouble}: {detail}", retry_seconds=round(seconds, 1))
        self._trouble = trouble

    def _may_say(self, what: str, now: datetime) -> bool:
        said = self._said.get(what)
        if said is not None and timedelta(0) <= now - said < REMIND_EVERY:
            return False
        self._said[what] = now
        return True


def _lies_ahead(moment: datetime | None, now: datetime) -> bool:
    # Further ahead than anything is put off: our clock has stepped back, and nothing has to wait for it.
    return moment is not None and timedelta(0) < moment - now <= RENEWAL


_LONG_AGO = datetime.min.replace(tzinfo=UTC)
_REFUSALS = {401: "it does not accept WS_GATEWAY_API_KEY (HTTP 401)", 403: "it forbids them (HTTP 403)"}
_HINTS = {401: "set WS_GATEWAY_API_KEY to the gateway's key", 403: "ask whoever runs the gateway for the right"}
