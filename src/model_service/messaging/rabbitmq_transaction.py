"""Messages and their echoes, handed to the broker so that it takes all of them or none, and only on a last word.

RabbitMQ routes what is published in an AMQP transaction when it is committed. Until then nothing can be delivered: not
by a broker that lacks memory and holds our bytes back, and not after this side has given up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta

import aiormq.abc
from pamqp.commands import Basic

from model_service.messaging.rabbitmq_connection import BrokerConnection, ask
from model_service.messaging.rabbitmq_publisher import PERSISTENT, properties_of
from model_service.messaging.transport import OutgoingMessage

LONGEST_COMMIT = timedelta(seconds=1)
LEAST_LIFE = timedelta(seconds=0.5)
"""What has less left is not sent: one that is about to expire would hold up all that is committed with it."""


class EchoedTransaction:
    """One channel in transaction mode; for one caller at a time.

    Args:
        echo: the queue that gets the message_id of each message.
    """

    def __init__(self, channel: aiormq.abc.AbstractChannel, echo: str) -> None:
        self._channel = channel
        self._echo = echo

    @classmethod
    async def open(cls, connection: BrokerConnection, echo: str) -> EchoedTransaction:
        """Raises TransportUnavailable."""
        channel = await connection.channel_for("publish signals")
        await ask(channel.tx_select(), "begin transactions")
        return cls(channel, echo)

    @property
    def is_closed(self) -> bool:
        """Whether the broker or the connection has ended it."""
        return bool(self._channel.is_closed)

    async def put(self, messages: Sequence[OutgoingMessage], now: datetime, seconds: float) -> None:
        """Publish these, and wait until the broker has read them; none is routed yet.

        Raises TransportUnavailable, or one of REFUSALS: then none will be, once the connection has ended.
        """
        for message in messages:
            await self._put(
                message.body,
                message.exchange,
                message.routing_key,
                properties_of(message, now + commit_within(message, now)),
            )
            memory = Basic.Properties(delivery_mode=PERSISTENT, message_id=message.message_id)
            await self._put(b"", "", self._echo, memory, mandatory=False)
        # Answered in order, so the answer says that all before it has been read: a blocked broker gives none.
        await ask(self._channel.basic_qos(prefetch_count=0), "read the messages", seconds)

    async def commit(self, messages: Sequence[OutgoingMessage], seconds: float) -> set[str]:
        """Have what was put routed, whole; returns the message_ids that no queue was bound for.

        Raises TransportUnavailable, or one of REFUSALS: then it may or may not have been.
        """
        returns = self._expect_returns(messages)
        try:
            await ask(self._channel.tx_commit(), "commit the messages", seconds)
            return {name for name, returned in returns.items() if returned.done()}
        finally:
            self._forget_returns(messages)

    async def roll_back(self) -> None:
        """Forget what was put. Raises TransportUnavailable, or one of REFUSALS."""
        await ask(self._channel.tx_rollback(), "roll back")

    async def _put(
        self, body: bytes, exchange: str, routing_key: str, properties: Basic.Properties, *, mandatory: bool = True
    ) -> None:
        publishing = self._channel.basic_publish(  # type: ignore[call-arg]  # the abstract class lacks `wait`
            body, exchange=exchange, routing_key=routing_key, properties=properties, mandatory=mandatory, wait=False
        )
        await ask(publishing, "take a message")

    # The driver hands a returned message to whoever waits for the confirmation of its message_id. In a transaction
    # nobody does, so a future is put there that does.

    def _expect_returns(self, messages: Sequence[OutgoingMessage]) -> dict[str, asyncio.Future[object]]:
        returns = {message.message_id: asyncio.get_running_loop().create_future() for message in messages}
        for number, (name, future) in enumerate(returns.items(), start=1):
            self._channel.confirmations[-number] = future  # type: ignore[attr-defined]  # of the class itself
            self._channel.message_id_delivery_tag[name] = -number  # type: ignore[attr-defined]
        return returns

    def _forget_returns(self, messages: Sequence[OutgoingMessage]) -> None:
        self._channel.confirmations.clear()  # type: ignore[attr-defined]
        for message in messages:
            self._channel.message_id_delivery_tag.pop(message.message_id, None)  # type: ignore[attr-defined]


def lasts(message: OutgoingMessage, now: datetime) -> bool:
    """Whether enough of its time is left to be sent."""
    return message.expires_at is None or message.expires_at - now >= LEAST_LIFE


def commit_within(message: OutgoingMessage, now: datetime) -> timedelta:
    """How long after being put a message may be committed.

    The broker counts the expiration from the commit on, so it is shortened by this much: a second, or half of what is
    left where that is less.
    """
    if message.expires_at is None:
        return LONGEST_COMMIT
    return min(LONGEST_COMMIT, (message.expires_at - now) / 2)
