"""A constant load on every process of a fleet: by a good key, and by one that is revoked."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import cycle
from typing import Any, Self

CONNECTIONS = 2
"""To each process."""
PAUSE_SECONDS = 0.005
"""Between two requests of a connection; every other one brings a token of the revoked key."""
_PATIENCE = 30.0  # s for all processes to answer
_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Load:
    """Requests on `ports` from the start to the end of its block, to `processes` in all."""

    def __init__(self, ports: Sequence[int], processes: int, *, good: Sequence[str]) -> None:
        self.requests = 0
        self.refused_good = 0
        self.last_accepted = 0.0
        self.seconds = 0.0
        self._ports = ports
        self._processes = processes
        self._good = cycle(good)
        self._doomed = cycle(good)
        self._refused: set[int] = set()
        self._accepted: set[int] = set()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        connections = await self._connections()
        self._began = time.monotonic()
        for number, streams in enumerate(connections):
            self._tasks.append(asyncio.create_task(self._keep_asking(number, streams)))
        return self

    async def __aexit__(self, *_: object) -> None:
        self.seconds = time.monotonic() - self._began
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def gap(self) -> float:
        """Seconds between two tokens of the doomed key at one process: the error of the delays."""
        return self.seconds * self._processes / (self.requests / 2)

    async def turn_to(self, tokens: Sequence[str]) -> None:
        """Ask with these from now on; returns once each connection had one accepted."""
        self._doomed = cycle(tokens)
        self._accepted.clear()
        async with asyncio.timeout(_PATIENCE):
            while len(self._accepted) < len(self._tasks):
                await asyncio.sleep(PAUSE_SECONDS)
                self._raise_failure()
        self._refused.clear()

    def refused_everywhere(self) -> bool:
        """Whether each connection's last token of the doomed key was refused."""
        self._raise_failure()
        return len(self._refused) == len(self._tasks)

    async def _keep_asking(self, number: int, streams: _Streams) -> None:
        while True:
            status, _ = await asked(streams, next(self._good))
            self.refused_good += status != 200
            await asyncio.sleep(PAUSE_SECONDS)
            status, accepted = await asked(streams, next(self._doomed))
            if status == 200:
                self.last_accepted = max(self.last_accepted, accepted["at"])
                self._accepted.add(number)
                self._refused.discard(number)
            else:
                self._refused.add(number)
            self.requests += 2
            await asyncio.sleep(PAUSE_SECONDS)

    async def _connections(self) -> list[_Streams]:
        """As many to each process, whichever takes what comes to its port."""
        held: dict[int, list[_Streams]] = {}
        given_up = time.monotonic() + _PATIENCE
        while sum(map(len, held.values())) < CONNECTIONS * self._processes:
            if time.monotonic() > given_up:
                raise TimeoutError("not every process of the fleet answers")
            for port in self._ports:
                with suppress(ConnectionError, asyncio.IncompleteReadError):
                    streams = await asyncio.open_connection("127.0.0.1", port)
                    _, said = await asked(streams, next(self._good))
                    taken = held.setdefault(said["process"], [])
                    if len(taken) < CONNECTIONS:
                        taken.append(streams)
                    else:
                        streams[1].close()
            await asyncio.sleep(PAUSE_SECONDS)
        return [streams for taken in held.values() for streams in taken]

    def _raise_failure(self) -> None:
        for task in self._tasks:
            if task.done():
                task.result()


async def asked(
    streams: _Streams, token: str, *, target: str = "/", method: str = "GET"
) -> tuple[int, Any]:
    """The status of the answer and what it says, over a connection that is kept."""
    reader, writer = streams
    writer.write(
        f"{method} {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n"
        f"Authorization: Bearer {token}\r\n\r\n".encode()
    )
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    if hasattr(socket, "TCP_QUICKACK"):
        # Workers of uvicorn hold the body back until the head is acknowledged, else 40 ms later.
        connection = writer.get_extra_info("socket")
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
    length = next(
        (int(line[15:]) for line in head.splitlines() if line.startswith("content-length:")), 0
    )
    body = await reader.readexactly(length)
    status = int(head.split(" ", 2)[1])
    return status, json.loads(body) if status == 200 else None


async def called_in_one(port: int, kid: str) -> float:
    """When `distrust` was called in the process that took this request."""
    streams = await asyncio.open_connection("127.0.0.1", port)
    try:
        status, said = await asked(streams, "none", target=f"/distrust/{kid}", method="POST")
    finally:
        streams[1].close()
    if status != 200:
        raise RuntimeError(f"the process that was told answers {status}")
    return float(said["at"])
