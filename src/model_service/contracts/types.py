"""The words that every message shares: sides, order states, and the error for a message that cannot be understood."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Side(StrEnum):
    """The side of a signal or of a fill, lower case as in our own tables."""

    BUY = "buy"
    SELL = "sell"

    @property
    def sign(self) -> int:
        """+1 for a buy, -1 for a sell."""
        return 1 if self is Side.BUY else -1

    @property
    def opposite(self) -> Side:
        """The other side."""
        return Side.SELL if self is Side.BUY else Side.BUY


class OrderStatus(StrEnum):
    """The order states that order-manager reports; `dry_run` exists in its table only."""

    PENDING = "pending"
    PARTIALLY_FILLED = "partially_filled"
    FILLED = "filled"
    CANCELLED = "cancelled"
    REJECTED = "rejected"
    DRY_RUN = "dry_run"

    @property
    def is_open(self) -> bool:
        """Whether the order may still fill."""
        return self in (OrderStatus.PENDING, OrderStatus.PARTIALLY_FILLED)


@dataclass(eq=False)  # not frozen: Python itself sets the traceback of an exception
class InvalidMessage(Exception):  # noqa: N818 - it names what the message is, and is stored as a dead letter's reason
    """A message that is refused: kept as a dead letter with this reason, never retried by itself.

    Attributes:
        code: a stable word for counting, such as `invalid_json`, `missing_field`, `invalid_value`, `unknown_shape`.
        field: the path of the member at fault, such as `order.filled_quantity`; empty for the whole body.
        detail: what was found and what is allowed, in one sentence.
    """

    code: str
    field: str
    detail: str

    def __str__(self) -> str:
        where = f" at {self.field}" if self.field else ""
        return f"{self.code}{where}: {self.detail}"
