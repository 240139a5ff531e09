"""The proxy does to a connection what it says, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio

from tests.faults.proxy import FaultProxy, Towards

PATIENCE_SECONDS = 5.0
SILENCE_SECONDS = 0.15
"""How long nothing must come, where nothing may."""


class Echo:
    """A server that says back what it hears, and remembers it."""

    def __init__(self) -> None:
        self.heard = bytearray()
        self.ended_with_reset = 0
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while data := await reader.read(1 << 16):
                self.heard += data
                writer.write(data)
        except ConnectionResetError:
            self.ended_with_reset += 1
        writer.close()


@pytest_asyncio.fixture
async def echo() -> AsyncIterator[tuple[Echo, FaultProxy]]:
    server = Echo()
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    proxy = FaultProxy(int(listening.sockets[0].getsockname()[1]))
    await proxy.start()
    yield server, proxy
    await proxy.close()
    listening.close()


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    def say(self, data: bytes) -> None:
        self._writer.write(data)

    async def hear(self, count: int) -> bytes:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self._reader.readexactly(count)

    async def hears_nothing(self) -> bool:
        try:
            async with asyncio.timeout(SILENCE_SECONDS):
                return not await self._reader.read(1)
        except TimeoutError:
            return True

    async def is_reset(self) -> bool:
        async with asyncio.timeout(PATIENCE_SECONDS):
            try:
                while await self._reader.read(1 << 16):
                    pass
            except ConnectionResetError:
                return True
        return False

    def abort(self) -> None:
        self._writer.transport.abort()

    def reset(self) -> None:
        import socket
        import struct

        raw = self._writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.abort()


@asynccontextmanager
async def client_of(proxy: FaultProxy) -> AsyncIterator[Client]:
    client = Client(*await asyncio.open_connection("127.0.0.1", proxy.port))
    yield client
    client.abort()


async def test_passes_all_in_order(echo: tuple[Echo, FaultProxy]) -> None:
    body = bytes(range(256)) * 4000
    async with client_of(echo[1]) as client:
        client.say(body)
        assert await client.hear(len(body)) == body


async def test_a_reset_reaches_both_ends_and_the_next_connection_passes(echo: tuple[Echo, FaultProxy]) -> None:
    server, proxy = echo
    async with client_of(proxy) as client:
        client.say(b"one")
        await client.hear(3)
        proxy.reset()
        assert await client.is_reset()
    async with client_of(proxy) as client:
        client.say(b"two")
        assert await client.hear(3) == b"two"
    assert server.ended_with_reset == 1


async def test_an_orderly_end_reaches_both_ends_and_the_next_connection_passes(echo: tuple[Echo, FaultProxy]) -> None:
    server, proxy = echo
    async with client_of(proxy) as client:
        client.say(b"one")
        await client.hear(3)
        proxy.finish()
        assert not await client.is_reset()
    async with client_of(proxy) as client:
        client.say(b"two")
        assert await client.hear(3) == b"two"
    assert server.ended_with_reset == 0


async def test_a_black_hole_keeps_connections_silent_and_a_mended_line_delivers(echo: tuple[Echo, FaultProxy]) -> None:
    server, proxy = echo
    async with client_of(proxy) as old:
        old.say(b"a")
        await old.hear(1)
        proxy.black_hole()
        old.say(b"b")
        async with client_of(proxy) as new:
            new.say(b"c")
            assert await old.hears_nothing()
            assert await new.hears_nothing()
            assert (bytes(server.heard), server.connections) == (b"a", 1)
            proxy.heal()
            assert await old.hear(1) == b"b"
            assert await new.hear(1) == b"c"


async def test_what_a_client_gave_up_in_the_black_hole_never_arrives(echo: tuple[Echo, FaultProxy]) -> None:
    server, proxy = echo
    async with client_of(proxy) as client:
        client.say(b"a")
        await client.hear(1)
        proxy.black_hole()
        client.say(b"never")
        await asyncio.sleep(0.05)
        client.reset()
        await asyncio.sleep(0.05)
        proxy.heal()
        async with client_of(proxy) as other:
            other.say(b"z")
            await other.hear(1)
    assert bytes(server.heard) == b"az"


async def test_a_server_that_is_never_told_keeps_its_end(echo: tuple[Echo, FaultProxy]) -> None:
    server, proxy = echo
    async with client_of(proxy) as client:
        client.say(b"a")
        await client.hear(1)
        proxy.black_hole()
        client.reset()
        await asyncio.sleep(0.05)
        proxy.heal(tells_server=False)
        async with client_of(proxy) as other:
            other.say(b"z")
            assert await other.hear(1) == b"z"
            assert (server.connections, server.ended_with_reset, len(proxy.links)) == (2, 0, 2)
            proxy.reset()
            async with asyncio.timeout(PATIENCE_SECONDS):
                while server.ended_with_reset < 2:
                    await asyncio.sleep(0.01)


async def test_delay_keeps_the_order(echo: tuple[Echo, FaultProxy]) -> None:
    _, proxy = echo
    async with client_of(proxy) as client:
        proxy.delay(0.2)
        client.say(b"first ")
        await asyncio.sleep(0.05)
        assert await client.hears_nothing()
        proxy.heal()
        client.say(b"second")
        assert await client.hear(12) == b"first second"


async def test_replies_are_dropped_from_a_word_of_the_client_on(echo: tuple[Echo, FaultProxy]) -> None:
    server, proxy = echo
    async with client_of(proxy) as client:
        proxy.drop_replies_from(b"commit")
        client.say(b"begin")
        assert await client.hear(5) == b"begin"
        assert not proxy.has_heard_it.is_set()
        client.say(b"commit")
        await proxy.has_heard_it.wait()
        assert await client.hears_nothing()
        proxy.heal()
        assert await client.is_reset()
    assert bytes(server.heard) == b"begincommit"


@pytest.mark.parametrize("towards", list(Towards))
async def test_cut_in_the_middle(echo: tuple[Echo, FaultProxy], towards: Towards) -> None:
    server, proxy = echo
    async with client_of(proxy) as client:
        client.say(b"warm")
        await client.hear(4)
        proxy.cut_after(3, towards)
        client.say(b"abcdef")
        assert await client.is_reset()
    heard = b"warmabc" if towards is Towards.SERVER else b"warmabcdef"
    assert bytes(server.heard) == heard


async def test_dropped_replies_leave_the_requests_alone_and_a_hole_is_never_healed(
    echo: tuple[Echo, FaultProxy],
) -> None:
    server, proxy = echo
    async with client_of(proxy) as client:
        client.say(b"a")
        await client.hear(1)
        proxy.drop_replies()
        client.say(b"b")
        assert await client.hears_nothing()
        assert bytes(server.heard) == b"ab"
        proxy.heal()
        assert await client.is_reset()


async def test_refuses_and_takes_again(echo: tuple[Echo, FaultProxy]) -> None:
    server, proxy = echo
    proxy.refuse()
    async with client_of(proxy) as client:
        assert await client.is_reset()
    proxy.heal()
    async with client_of(proxy) as client:
        client.say(b"a")
        assert await client.hear(1) == b"a"
    assert server.connections == 1


async def test_an_orderly_end_is_passed_on(echo: tuple[Echo, FaultProxy]) -> None:
    server, proxy = echo
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(b"bye")
    await reader.readexactly(3)
    writer.close()
    async with asyncio.timeout(PATIENCE_SECONDS):
        while proxy.links:
            await asyncio.sleep(0.01)
    assert server.ended_with_reset == 0
