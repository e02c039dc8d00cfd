"""A server of the test's own event loop that leaves no connection open."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TypeAlias

from tests.support import PATIENCE

Serve: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

_TURNS_OF_ACCEPTING = 10
"""More turns of the event loop than it takes from accepting a socket to serving it."""


@asynccontextmanager
async def listening(serve: Serve) -> AsyncIterator[asyncio.Server]:
    """A server on loopback whose connections are closed after `serve`, or at the end.

    A busy machine accepts connections late: also those are closed before this ends.
    """
    serving: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving[task] = writer
        try:
            await serve(reader, writer)
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
            del serving[task]

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield server
    finally:
        # First: of a connection that was accepted, and is not attached yet when the server closes,
        # asyncio leaves the socket open.
        for listener in server.sockets:
            asyncio.get_running_loop().remove_reader(listener.fileno())
        for _ in range(_TURNS_OF_ACCEPTING):
            await asyncio.sleep(0)
        server.close()
        for task, writer in serving.items():
            writer.transport.abort()
            task.cancel()
        if serving:
            await asyncio.wait(serving, timeout=PATIENCE)
