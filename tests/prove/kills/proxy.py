"""A TCP proxy on loopback that delays, cuts and half-closes what goes through it."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress

from dev.servers.ports import ReservedPort


class Proxy:
    """Passes bytes on to a port, in a thread with a loop of its own.

    Attributes:
        delay: Seconds that every piece is held back in each direction.
        cuts: How many connections were cut.
        half_closes: How many were closed in one direction.
        delays: How many pieces were held back.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._reserved = ReservedPort()
        self.port = self._reserved.number
        self.delay = 0.0
        self.cuts = self.half_closes = self.delays = 0
        self._pairs: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._loop = asyncio.new_event_loop()
        self._server: asyncio.Server | None = None
        self._thread = threading.Thread(target=self._main, daemon=True)
        self._ready = threading.Event()
        self._thread.start()
        self._ready.wait(10)

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self.port}"

    def _main(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", self.port))
        self._ready.set()
        self._loop.run_forever()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.close()
            return
        pair = (writer, up_writer)
        self._pairs.add(pair)
        try:
            with suppress(asyncio.CancelledError):  # nobody asks how it ended
                await asyncio.gather(self._pump(reader, up_writer), self._pump(up_reader, writer))
        finally:
            self._pairs.discard(pair)
            for each in pair:
                with suppress(OSError, RuntimeError):
                    each.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, RuntimeError):  # the second: it was half-closed meanwhile
            while data := await reader.read(65536):
                if self.delay:
                    self.delays += 1
                    await asyncio.sleep(self.delay)
                writer.write(data)
                await writer.drain()
            if writer.can_write_eof():
                writer.write_eof()

    def cut(self) -> None:
        """Reset every connection."""
        self._loop.call_soon_threadsafe(self._cut)

    def _cut(self) -> None:
        for pair in list(self._pairs):
            self.cuts += 1
            for writer in pair:
                writer.transport.abort()

    async def _end(self) -> None:
        if self._server is not None:
            self._server.close()
        self._cut()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def half_close(self) -> None:
        """Close every connection in the direction of the server only: it hears nothing more, and may still speak."""
        self._loop.call_soon_threadsafe(self._half_close)

    def _half_close(self) -> None:
        for _, upstream in list(self._pairs):
            self.half_closes += 1
            with suppress(OSError, RuntimeError):
                if upstream.can_write_eof():
                    upstream.write_eof()

    def close(self) -> None:
        """End it."""
        ending = asyncio.run_coroutine_threadsafe(self._end(), self._loop)
        with suppress(TimeoutError):
            ending.result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()
        self._reserved.release()
