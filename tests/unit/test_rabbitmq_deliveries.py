"""Deliveries cut out of an AMQP stream: nothing is lost, nothing is invented, wherever the stream is cut."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pamqp import commands, frame
from pamqp.body import ContentBody
from pamqp.header import ContentHeader
from pamqp.heartbeat import Heartbeat

from model_service.messaging.rabbitmq_deliveries import HEARTBEAT_FRAME, DeliveryTap, WireDelivery

TAPPED, OTHER = 3, 1
HEADERS_FLAG = 1 << 13


@dataclass(frozen=True)
class Message:
    tag: int
    redelivered: bool
    body: bytes
    parts: int
    message_id: str

    def frames(self, channel: int) -> list[bytes]:
        deliver = commands.Basic.Deliver("ctag", self.tag, self.redelivered, "exchange", "key")
        properties = commands.Basic.Properties(message_id=self.message_id, headers={"trace_id": "t"})
        size = -(-len(self.body) // self.parts) or 1
        chunks = [self.body[start : start + size] for start in range(0, len(self.body), size)]
        content: list[ContentHeader | ContentBody] = [
            ContentHeader(0, len(self.body), properties),
            *(ContentBody(chunk) for chunk in chunks),
        ]
        return [frame.marshal(deliver, channel), *(frame.marshal(one, channel) for one in content)]


MESSAGES = st.builds(
    Message,
    tag=st.integers(1, 2**40),
    redelivered=st.booleans(),
    body=st.binary(max_size=40),
    parts=st.integers(1, 3),
    message_id=st.text("abc", max_size=5),
)
NOISE = st.sampled_from(
    [
        frame.marshal(Heartbeat(), 0),
        frame.marshal(commands.Basic.Ack(7, True), TAPPED),
        frame.marshal(commands.Basic.Cancel("ctag"), TAPPED),
        frame.marshal(commands.Channel.Close(404, "NOT_FOUND", 0, 0), OTHER),
    ]
)
ITEMS = st.one_of(MESSAGES, NOISE, MESSAGES.map(lambda message: b"".join(message.frames(OTHER))))


def pieces(stream: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted(cut % (len(stream) + 1) for cut in cuts)
    return [stream[start:end] for start, end in zip([0, *places], [*places, len(stream)], strict=True)]


@given(st.lists(ITEMS, max_size=12), st.lists(st.integers(0, 10_000), max_size=20))
@example([Message(1, False, b"", 1, "")], [])
def test_each_delivery_is_taken_once_and_all_else_passes(items: list[Message | bytes], cuts: list[int]) -> None:
    stream = b"".join(b"".join(one.frames(TAPPED)) if isinstance(one, Message) else one for one in items)
    taken: list[WireDelivery] = []
    tap = DeliveryTap()
    tap.open(TAPPED, taken.append)
    passed = b"".join(tap.feed(piece, now=-1.0) for piece in pieces(stream, cuts))
    expected = [one for one in items if isinstance(one, Message)]
    assert passed == b"".join(one for one in items if isinstance(one, bytes))
    assert [(one.delivery_tag, one.redelivered, one.body) for one in taken] == [
        (one.tag, one.redelivered, one.body) for one in expected
    ]
    properties = [one.properties() for one in taken]
    assert [one.message_id for one in properties if one] == [one.message_id or None for one in expected]
    assert tap.drain() == b""


@given(st.binary(max_size=60), st.lists(st.integers(0, 100), max_size=5))
@example(b"AMQP\x00\x00\x09\x01", [3])
def test_what_is_no_frame_reaches_the_driver_whole(noise: bytes, cuts: list[int]) -> None:
    tap = DeliveryTap()
    tap.open(TAPPED, lambda _: None)
    first = frame.marshal(Heartbeat(), 0)
    stream = first + b"AMQP" + noise
    passed = b"".join(tap.feed(piece, now=-1.0) for piece in pieces(stream, cuts))
    assert passed + tap.drain() == stream


def test_the_driver_gets_a_sign_of_life_a_second_while_it_sees_nothing() -> None:
    tap = DeliveryTap()
    tap.open(TAPPED, lambda _: None)
    delivery = b"".join(Message(1, False, b"body", 1, "id").frames(TAPPED))
    assert tap.feed(frame.marshal(commands.Basic.Ack(1), OTHER), now=10.0) != b"", "a frame is a sign by itself"
    seen = [tap.feed(delivery, now=10.0 + tenth / 10) for tenth in range(25)]
    assert [tenth for tenth, piece in enumerate(seen) if piece] == [0, 10, 20]
    assert {piece for piece in seen if piece} == {HEARTBEAT_FRAME}


def test_a_sign_of_life_never_stands_inside_a_frame() -> None:
    tap = DeliveryTap()
    tap.open(TAPPED, lambda _: None)
    delivery = b"".join(Message(1, False, b"body", 1, "id").frames(TAPPED))
    ack = frame.marshal(commands.Basic.Ack(1), OTHER)
    assert tap.feed(delivery + ack[:9], now=10.0) == HEARTBEAT_FRAME
    assert tap.feed(ack[9:], now=20.0) == ack


def test_a_closed_channel_is_the_drivers_again() -> None:
    taken: list[WireDelivery] = []
    tap = DeliveryTap()
    tap.open(TAPPED, taken.append)
    deliver, header, body = Message(1, False, b"body", 1, "id").frames(TAPPED)
    tap.feed(deliver + header, now=-1.0)
    tap.close(TAPPED)
    assert tap.feed(body, now=-1.0) == body
    assert taken == []


@pytest.mark.parametrize("levels", [500, 5_000])
@pytest.mark.parametrize("kind", [b"F", b"A"], ids=["tables", "arrays"])
def test_properties_that_are_nested_too_deeply_are_none(levels: int, kind: bytes) -> None:
    nested = b""
    for _ in range(levels):
        nested = (b"\x01a" if kind == b"F" else b"") + kind + struct.pack(">I", len(nested)) + nested
    table = nested if kind == b"F" else b"\x01a" + nested
    header = struct.pack(">HHQHI", 60, 0, 0, HEADERS_FLAG, len(table)) + table
    wire = WireDelivery(1, False, header=header)
    assert (wire.properties(), wire.message_id()) == (None, None)


def test_malformed_properties_are_none() -> None:
    assert WireDelivery(1, False, header=b"\x00\x3c\x00\x00" + bytes(8) + b"\xff\xf8\xff").properties() is None
