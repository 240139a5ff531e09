"""THE WRONG CONSUMER: a service that acknowledges before it commits. The fault suite must catch it.

It is the real service but for one thing: whatever is received from the broker is acknowledged at once.
Run as `python tests/faults/early_ack.py run`.
"""

from __future__ import annotations

from model_service.cli import main
from model_service.messaging.rabbitmq_subscription import RabbitSubscription
from model_service.messaging.transport import Delivery

receive_properly = RabbitSubscription.receive


async def receive_and_acknowledge(
    self: RabbitSubscription, *, limit: int = 200, wait_seconds: float, linger_seconds: float = 0.02
) -> list[Delivery]:
    """What is acknowledged here and not committed when the process dies is gone."""
    deliveries = await receive_properly(self, limit=limit, wait_seconds=wait_seconds, linger_seconds=linger_seconds)
    await self.acknowledge(deliveries)
    return deliveries


if __name__ == "__main__":
    RabbitSubscription.receive = receive_and_acknowledge  # type: ignore[method-assign]
    main()
