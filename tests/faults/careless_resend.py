"""THE WRONG PUBLISHER: a service that sends again without asking what the broker has. The fault suite must catch it.

It is the real service but for one thing: whoever takes the publishing role forgets what was accepted before.
Run as `python tests/faults/careless_resend.py run`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from model_service.cli import main
from model_service.messaging.rabbitmq_lease import RabbitPublishingLease


async def accepted_nothing(self: RabbitPublishingLease, *, complete: bool) -> AsyncIterator[list[str]]:
    """What was accepted without an answer is sent a second time."""
    nothing: list[list[str]] = []
    for batch in nothing:
        yield batch


if __name__ == "__main__":
    RabbitPublishingLease.accepted = accepted_nothing  # type: ignore[method-assign]
    main()
