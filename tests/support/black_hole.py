"""A way to PostgreSQL over TCP that can swallow what passes, without closing anything, or lose one answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from model_service.database.connection import DatabaseAddress

CHUNK = 65536


class BlackHole:
    """Passes everything on until told otherwise. `address` is where clients connect."""

    def __init__(self, server: DatabaseAddress) -> None:
        self._server = server
        self._passing = asyncio.Event()
        self._passing.set()
        self._losing: bytes | None = None
        self._hiding_ends = False
        self.has_hidden_end = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._listener: asyncio.Server | None = None
        self.address = server

    def swallow(self) -> None:
        """From now on nothing passes, in open connections and in new ones; all stay open."""
        self._passing.clear()

    def pass_on(self) -> None:
        """Pass on again; what waited meanwhile goes its way, as packets do that are sent again."""
        self._passing.set()

    def lose_answer_to(self, words: bytes) -> None:
        """Let the next packet with these words through, and cut its connection when the server has answered."""
        self._losing = words

    def hide_ends(self) -> None:
        """From now on a connection that the server ends stays open for the client, which hears its last words."""
        self._hiding_ends = True

    @property
    def has_lost(self) -> bool:
        """Whether the answer that was to be lost has been lost."""
        return self._losing is None

    async def _serve(self, client_in: asyncio.StreamReader, client_out: asyncio.StreamWriter) -> None:
        self._writers.add(client_out)
        await self._passing.wait()
        server_in, server_out = await asyncio.open_unix_connection(f"{self._server.host}/.s.PGSQL.{self._server.port}")
        self._writers.add(server_out)
        back = asyncio.create_task(self._pump(server_in, client_out))
        self._tasks.add(back)
        try:
            while packet := await client_in.read(CHUNK):
                await self._passing.wait()
                lost = self._losing is not None and self._losing in packet
                if lost:
                    back.cancel()
                server_out.write(packet)
                if lost:
                    await asyncio.wait({back})
                    await server_in.read(CHUNK)
                    self._losing = None
                    client_out.transport.abort()
                    return
        except OSError:
            pass
        finally:
            server_out.close()

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while packet := await source.read(CHUNK):
                await self._passing.wait()
                sink.write(packet)
        except OSError:
            pass
        finally:
            if self._hiding_ends:
                self.has_hidden_end.set()
            elif not self._losing:
                sink.close()

    async def open(self) -> None:
        """Listen on a free port."""
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        host, port = self._listener.sockets[0].getsockname()[:2]
        self.address = replace(self._server, host=host, port=port)

    async def _accept(self, client_in: asyncio.StreamReader, client_out: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(client_in, client_out))
        self._tasks.add(task)

    async def close(self) -> None:
        """Cut everything."""
        assert self._listener is not None
        self._listener.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()


@asynccontextmanager
async def black_hole(server: DatabaseAddress) -> AsyncIterator[BlackHole]:
    """One that listens."""
    hole = BlackHole(server)
    await hole.open()
    try:
        yield hole
    finally:
        await hole.close()
