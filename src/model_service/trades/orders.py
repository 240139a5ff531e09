"""Which reports are about one order, and what its orders make of a signal."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from model_service.contracts.executions import Observation
from model_service.contracts.types import OrderStatus
from model_service.trades.fills import FillRise, OrderProgress, advance, merge

PRECEDENCE = (
    OrderStatus.PARTIALLY_FILLED,
    OrderStatus.PENDING,
    OrderStatus.FILLED,
    OrderStatus.CANCELLED,
    OrderStatus.REJECTED,
    OrderStatus.DRY_RUN,
)
"""What a signal with several orders is: as long as one of them may fill it is open, else what went furthest."""


class KnownOrders:
    """Orders by each of their two identifiers: the exchange's, and order-manager's own.

    A report may carry either or both. The first report to carry both joins what was known under each.

    Attributes:
        changed: by `order_id`, what `take` has changed.
        joined: the `order_id` that an order no longer has, and the one that it goes by now.
    """

    def __init__(self, orders: Iterable[OrderProgress]) -> None:
        self._orders: dict[str, OrderProgress] = {}
        self._names: dict[str, str] = {}
        self._of_signal: defaultdict[str, set[str]] = defaultdict(set)
        self.changed: dict[str, OrderProgress] = {}
        self.joined: dict[str, str] = {}
        for order in orders:
            self._keep(order)

    def find(self, observation: Observation) -> OrderProgress | None:
        """What is known of the order that `observation` is about; under two names, both put together."""
        found = self._found(observation)
        if len(found) > 1:
            return merge(found[0], found[1])
        return found[0] if found else None

    def tells_more(self, observation: Observation) -> bool:
        """Whether `observation` would reveal a fill, change an order's status, or tell an order's second identifier.

        An identifier counts although it fills nothing: without it, a later total under that identifier would be held
        against what came under it alone, and fills that came under the other would be booked again.
        """
        found = self._found(observation)
        if len(found) != 1:
            return True
        [order] = found
        after, rise = advance(order, observation)
        return rise is not None or (after.status, after.other_order_id) != (order.status, order.other_order_id)

    def take(self, observation: Observation) -> tuple[OrderProgress, FillRise | None]:
        """The order after `observation`, and the fill that it reveals, if any; see `trades.fills.advance`."""
        found = self._found(observation)
        after, rise = advance(self.find(observation), observation)
        for other in found[1:]:
            self._join(other.order_id, after.order_id)
        self._keep(after)
        # A report may name an order that another signal's reports have named: then it stands for both.
        self._of_signal[observation.signal_id].add(after.order_id)
        self.changed[after.order_id] = after
        return after, rise

    def state_of(self, signal_id: str) -> OrderStatus:
        """The state of a signal by all orders that are its own or were reported for it; ValueError without any."""
        return min((self._orders[key].status for key in self._of_signal[signal_id]), key=PRECEDENCE.index)

    def _found(self, observation: Observation) -> list[OrderProgress]:
        names = (observation.order_id, observation.other_order_id)
        keys = dict.fromkeys(self._names[name] for name in names if name in self._names)
        return [self._orders[key] for key in keys]

    def _keep(self, order: OrderProgress) -> None:
        self._orders[order.order_id] = order
        self._names[order.order_id] = order.order_id
        self._of_signal[order.signal_id].add(order.order_id)
        if order.other_order_id is not None:
            self._names[order.other_order_id] = order.order_id

    def _join(self, gone: str, into: str) -> None:
        del self._orders[gone]
        for orders in self._of_signal.values():
            if gone in orders:
                orders.remove(gone)
                orders.add(into)
        self.changed.pop(gone, None)
        self.joined[gone] = into
