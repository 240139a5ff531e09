"""A TCP proxy between the service and a server, which can break in the ways in which a network breaks."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from enum import StrEnum
from typing import cast

CUT_GRACE_SECONDS = 0.02
"""A reset overtakes what was written before it, so the last bytes get this long to arrive."""
TCP_CLOSED = 7
"""TCP_CLOSE in Linux's tcp_info: the other end has reset the connection."""


class Towards(StrEnum):
    """A direction."""

    SERVER = "server"
    CLIENT = "client"


class FaultProxy:
    """Listens on a free port of 127.0.0.1 and passes all to a port of the same host, until told otherwise.

    `reset`, `finish` and `cut_after` are events; `black_hole`, `drop_replies`, `delay` and `refuse` last until `heal`.
    """

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.port = 0
        self.delay_seconds = 0.0
        self.is_black_hole = False
        self.drops_replies = False
        self.refuses = False
        self.last_word: bytes | None = None
        self.has_heard_it = asyncio.Event()
        self.cut: tuple[int, Towards] | None = None
        self.links: set[Link] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Side(Link(self), Towards.SERVER), "127.0.0.1", 0)
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Reset all connections and stop listening."""
        assert self._server is not None, "the proxy was not started"
        self._server.close()
        self.reset()

    def reset(self) -> None:
        """RST to both ends of every connection."""
        for link in list(self.links):
            link.reset()

    def finish(self) -> None:
        """FIN to both ends of every connection, after all that was passed before."""
        for link in list(self.links):
            link.finish()

    def black_hole(self) -> None:
        """Keep every connection and take new ones, and pass nothing in either direction."""
        self.is_black_hole = True
        for link in self.links:
            link.hold()

    def delay(self, seconds: float) -> None:
        """Pass every piece so much later, in order."""
        self.delay_seconds = seconds

    def drop_replies(self) -> None:
        """What the server says vanishes, what the client says arrives."""
        self.drops_replies = True

    def drop_replies_from(self, last_word: bytes) -> None:
        """As `drop_replies`, from the moment on that a client says this; `has_heard_it` is set then."""
        self.has_heard_it.clear()
        self.last_word = last_word

    def listen(self, data: bytes) -> None:
        """What a client says, before it is passed on."""
        if self.last_word is not None and self.last_word in data:
            self.last_word, self.drops_replies = None, True
            self.has_heard_it.set()

    def refuse(self) -> None:
        """Reset every connection, and every new one at once."""
        self.refuses = True
        self.reset()

    def cut_after(self, count: int, towards: Towards) -> None:
        """Reset the first connection, present or new, over which `count` more bytes have gone in that direction.

        `cut` is None again when it has happened.
        """
        self.cut = (count, towards)
        for link in self.links:
            link.bytes_passed = 0

    def heal(self, *, tells_server: bool = True) -> None:
        """Pass all again. As on a mended line, what one end gave up meanwhile never arrives at the other.

        Args:
            tells_server: False where the server is never told that a client has gone, and keeps its end open.
        """
        self.delay_seconds, self.drops_replies, self.refuses, self.is_black_hole = 0.0, False, False, False
        self.last_word = None
        for link in list(self.links):
            link.heal(tells_server)


class Link:
    """One connection: a side to the client and, once the server has been reached, a side to the server."""

    def __init__(self, proxy: FaultProxy) -> None:
        self.proxy = proxy
        self.bytes_passed = 0
        self._sides: dict[Towards, _Side] = {}
        self._connecting: asyncio.Task[None] | None = None
        self._lacks_replies = False

    def opened(self, side: _Side) -> None:
        """A side is connected; a side is known by the direction of what it receives."""
        self._sides[side.towards] = side
        if side.towards is Towards.CLIENT:
            self._sides[Towards.SERVER].let_go()
            return
        self.proxy.links.add(self)
        side.hold()
        if self.proxy.refuses:
            self.reset()
        elif not self.proxy.is_black_hole:
            self._connect()

    def received(self, towards: Towards, data: bytes) -> None:
        """Pass it on, or what the proxy is told to do instead."""
        if towards is Towards.SERVER:
            self.proxy.listen(data)
        if towards is Towards.CLIENT and self.proxy.drops_replies:
            self._lacks_replies = True
            return
        receiver = self._sides.get(_opposite(towards))
        if receiver is None:
            return
        if self.proxy.cut is not None and self.proxy.cut[1] is towards:
            data = self._cut(data, self.proxy.cut[0])
        receiver.send(data, self.proxy.delay_seconds)

    def _cut(self, data: bytes, count: int) -> bytes:
        """What of `data` still passes before the connection is reset."""
        passing = data[: count - self.bytes_passed]
        self.bytes_passed += len(passing)
        if self.bytes_passed >= count:
            self.proxy.cut = None
            self.hold()
            asyncio.get_running_loop().call_later(CUT_GRACE_SECONDS, self.reset)
        return passing

    def ended(self, side: _Side, error: Exception | None) -> None:
        """One end is gone: tell the other in the same way."""
        other = self._sides.get(_opposite(side.towards))
        if error is not None or other is None:
            self.reset()
        elif not other.is_held:
            self.proxy.links.discard(self)
            other.finish(self.proxy.delay_seconds)

    def hold(self) -> None:
        """Read nothing from either end; what they send waits in the kernel's buffers."""
        for side in self._sides.values():
            side.hold()

    def heal(self, tells_server: bool) -> None:
        """Go on, unless an end has reset the connection or the stream has a hole."""
        client, server = self._sides[Towards.SERVER], self._sides.get(Towards.CLIENT)
        if client.was_reset and server is not None and not server.was_reset and not tells_server:
            client.reset()
        elif self._lacks_replies or any(side.was_reset for side in self._sides.values()):
            self.reset()
        elif Towards.CLIENT not in self._sides:
            self._connect()
        else:
            for side in self._sides.values():
                side.let_go()

    def reset(self) -> None:
        """RST to both ends."""
        self.proxy.links.discard(self)
        if self._connecting is not None:
            self._connecting.cancel()
        for side in self._sides.values():
            side.reset()

    def finish(self) -> None:
        """FIN to both ends."""
        self.proxy.links.discard(self)
        if self._connecting is not None:
            self._connecting.cancel()
        for side in self._sides.values():
            side.finish(self.proxy.delay_seconds)

    def _connect(self) -> None:
        if self._connecting is None:
            self._connecting = asyncio.create_task(self._reach_server())

    async def _reach_server(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: _Side(self, Towards.CLIENT), "127.0.0.1", self.proxy.target_port)
        except OSError:
            self.reset()


class _Side(asyncio.Protocol):
    """One end's socket. `towards` is where that goes which is received here."""

    def __init__(self, link: Link, towards: Towards) -> None:
        self._link = link
        self.towards = towards
        self._transport: asyncio.Transport | None = None
        self._late: deque[bytes | None] = deque()
        self.is_held = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._link.opened(self)
        # Before Python 3.11.3 reading begins right after this call, also when it was paused here.
        asyncio.get_running_loop().call_soon(self._hold_again)

    def data_received(self, data: bytes) -> None:
        self._link.received(self.towards, data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._link.ended(self, exc)

    @property
    def was_reset(self) -> bool:
        if self._transport is None:
            return True
        raw = self._transport.get_extra_info("socket")
        return bool(raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == TCP_CLOSED)

    def send(self, data: bytes, delay_seconds: float) -> None:
        self._later(data, delay_seconds)

    def finish(self, delay_seconds: float) -> None:
        """Close after all that is still to be sent."""
        self._later(None, delay_seconds)

    def hold(self) -> None:
        self.is_held = True
        if self._transport is not None:
            self._transport.pause_reading()

    def _hold_again(self) -> None:
        if self.is_held and self._transport is not None:
            self._transport.resume_reading()
            self._transport.pause_reading()

    def let_go(self) -> None:
        self.is_held = False
        if self._transport is not None:
            self._transport.resume_reading()

    def reset(self) -> None:
        transport, self._transport = self._transport, None
        if transport is None:
            return
        raw = transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()

    def _later(self, data: bytes | None, delay_seconds: float) -> None:
        self._late.append(data)
        if delay_seconds == 0.0 and len(self._late) == 1:
            self._next()
        else:
            # Whichever timer comes first sends what came first.
            asyncio.get_running_loop().call_later(delay_seconds, self._next)

    def _next(self) -> None:
        data = self._late.popleft()
        if self._transport is None:
            return
        if data is None:
            self._transport.close()
        else:
            self._transport.write(data)


def _opposite(towards: Towards) -> Towards:
    return Towards.CLIENT if towards is Towards.SERVER else Towards.SERVER
