"""What the demo needs of a market: messages step by step, and the quote at which a paper order fills."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from model_service.messaging.transport import OutgoingMessage


@dataclass(frozen=True, slots=True)
class Quote:
    """The touched prices of one asset, quote currency per base."""

    bid: float
    ask: float


@dataclass(frozen=True, slots=True)
class MarketStep:
    """Everything that the gateway says at one moment of virtual time."""

    at: datetime
    messages: tuple[OutgoingMessage, ...]


class MarketFeed(Protocol):
    """A market that is moved by hand: simulated, or recorded."""

    @property
    def assets(self) -> tuple[str, ...]:
        """Names of the assets, upper case."""
        ...

    @property
    def start(self) -> datetime:
        """The moment before the first step, aware UTC."""
        ...

    def advance(self) -> MarketStep | None:
        """The next step, or None when the market has no more."""
        ...

    def quote(self, asset: str) -> Quote | None:
        """Bid and ask as of the last step; None for an asset that has none."""
        ...
