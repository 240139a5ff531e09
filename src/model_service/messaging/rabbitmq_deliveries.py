"""Deliveries taken off the wire before the driver sees them.

The driver's own way costs a coroutine for each frame, three frames for each message and a task for each of those: more
than all the rest of storing an execution event. Deliveries are most of what a consuming connection receives, and their
frames are simple (AMQP 0-9-1, sections 2.3.5 and 4.2); all other frames go to the driver as they came.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from pamqp.commands import Basic
from pamqp.header import ContentHeader

HEARTBEAT_FRAME = b"\x08\x00\x00\x00\x00\x00\x00\xce"
SIGN_OF_LIFE_SECONDS = 1.0

_FRAME = struct.Struct(">BHI")
_DELIVERY = struct.Struct(">QB")
_BODY_SIZE = struct.Struct(">Q")
_METHOD, _HEADER, _BODY, _HEARTBEAT = 1, 2, 3, 8
_FRAME_END = 0xCE
_BASIC_DELIVER = b"\x00\x3c\x00\x3c"
_CONSUMER_TAG_AT, _BODY_SIZE_AT = 4, 4


@dataclass(slots=True)
class WireDelivery:
    """One delivered message, as its frames have it.

    Attributes:
        delivery_tag: the broker's, of the channel.
        header: the payload of the content header frame.
    """

    delivery_tag: int
    redelivered: bool
    header: bytes = b""
    body: bytes = b""
    missing: int = 0
    parts: list[bytes] = field(default_factory=list)

    def properties(self) -> Basic.Properties | None:
        """The properties of the message; None when they cannot be read."""
        decoded = ContentHeader()
        try:
            decoded.unmarshal(self.header)
        except Exception:  # noqa: BLE001 - anybody may have written them, and nested deeply enough they even exhaust the stack
            return None
        return decoded.properties

    def message_id(self) -> str | None:
        """None when there is none, or when the properties cannot be read."""
        properties = self.properties()
        return properties.message_id if properties else None


Taker = Callable[[WireDelivery], None]


class DeliveryTap:
    """Cuts the deliveries of some channels out of a stream of bytes, whatever pieces it comes in."""

    def __init__(self) -> None:
        self._takers: dict[int, Taker] = {}
        self._begun: dict[int, WireDelivery] = {}
        self._rest = b""
        self._is_foreign = False
        self._next_sign = 0.0

    def open(self, channel: int, taker: Taker) -> None:
        """From now on, what is delivered on `channel` goes to `taker`."""
        self._begun.pop(channel, None)
        self._takers[channel] = taker

    def close(self, channel: int) -> None:
        """No more; a delivery that is half received is dropped."""
        self._takers.pop(channel, None)
        self._begun.pop(channel, None)

    def feed(self, data: bytes, now: float) -> bytes:
        """Take the deliveries in `data` and in what was left of earlier pieces; returns what the driver is to see.

        Half a frame is kept until the other half comes. What is no frame at all passes on, with all that follows.
        In place of what it does not see the driver gets a heartbeat a second: a busy broker sends none, and the driver
        takes a stream without frames for a dead one.

        Raises what a malformed delivery or a taker makes it raise; then the rest of the stream cannot be read.

        Args:
            now: seconds of any clock that does not go back.
        """
        stream = self._rest + data if self._rest else data
        passed: list[bytes] = []
        begin = position = 0
        while not self._is_foreign and (end := self._end_of_frame(stream, position)):
            if self._take(stream, position, end):
                passed.append(stream[begin:position])
                begin = end
            position = end
        if self._is_foreign:
            position = len(stream)
        self._rest = stream[position:]
        passed.append(stream[begin:position])
        if begin and now >= self._next_sign:
            passed.append(HEARTBEAT_FRAME)
            self._next_sign = now + SIGN_OF_LIFE_SECONDS
        return b"".join(passed)

    def drain(self) -> bytes:
        """What was left of the last piece, at the end of the stream."""
        rest, self._rest = self._rest, b""
        return rest

    def _end_of_frame(self, stream: bytes, position: int) -> int:
        """Where the frame ends that begins at `position`; 0 when not all of it is there."""
        if len(stream) < position + _FRAME.size:
            return 0
        kind, _, size = _FRAME.unpack_from(stream, position)
        end: int = position + _FRAME.size + size + 1
        if kind not in (_METHOD, _HEADER, _BODY, _HEARTBEAT) or (len(stream) >= end and stream[end - 1] != _FRAME_END):
            self._is_foreign = True
            return 0
        return end if len(stream) >= end else 0

    def _take(self, stream: bytes, position: int, end: int) -> bool:
        kind, channel, _ = _FRAME.unpack_from(stream, position)
        taker = self._takers.get(channel)
        if taker is None:
            return False
        payload = stream[position + _FRAME.size : end - 1]
        if kind == _METHOD:
            if not payload.startswith(_BASIC_DELIVER):
                return False
            self._begun[channel] = _delivery_from(payload)
        elif (delivery := self._begun.get(channel)) is None:
            return False
        elif _is_complete(delivery, kind, payload):
            del self._begun[channel]
            taker(delivery)
        return True


def _delivery_from(payload: bytes) -> WireDelivery:
    tag_length = payload[_CONSUMER_TAG_AT]
    delivery_tag, bits = _DELIVERY.unpack_from(payload, _CONSUMER_TAG_AT + 1 + tag_length)
    return WireDelivery(delivery_tag, bool(bits & 1))


def _is_complete(delivery: WireDelivery, kind: int, payload: bytes) -> bool:
    """Add a frame; whether it was the last one."""
    if kind == _HEADER:
        delivery.header = payload
        (delivery.missing,) = _BODY_SIZE.unpack_from(payload, _BODY_SIZE_AT)
    else:
        delivery.parts.append(payload)
        delivery.missing -= len(payload)
    if delivery.missing > 0:
        return False
    delivery.body = delivery.parts[0] if len(delivery.parts) == 1 else b"".join(delivery.parts)
    return True
