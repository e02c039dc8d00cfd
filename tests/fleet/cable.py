"""A line to Redis that a test cuts, leads elsewhere, or takes an answer from."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from tests.listening import listening


class Cable:
    """A TCP proxy on loopback; `port` is where new connections lead, None refuses them."""

    def __init__(self, port: int) -> None:
        self.port: int | None = port
        self.losing: bytes | None = None
        """The answer to the next request that has this in it is lost, with its connection."""
        self.refused = 0
        self._target = port
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        return self.url_of()

    def url_of(self, credentials: str = "") -> str:
        assert self._server is not None
        return f"redis://{credentials}127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def cut(self) -> None:
        self.port = None
        for writer in self._writers:
            writer.close()

    def mend(self) -> None:
        self.port = self._target

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            if self.port is None:
                self.refused += 1
                return
            answers, requests = await asyncio.open_connection("127.0.0.1", self.port)
            ends = {writer, requests}
            self._writers |= ends
            lost = asyncio.Event()

            def arrives(request: bytes) -> bool:
                if self.loses(request):
                    lost.set()
                return self.passes(request)

            def comes_back(answer: bytes) -> bool:
                return not lost.is_set() and self.passes(answer)

            try:
                await asyncio.gather(
                    _carry(reader, requests, arrives), _carry(answers, writer, comes_back)
                )
            finally:
                requests.close()
                self._writers -= ends

    def loses(self, request: bytes) -> bool:
        """Whether the answer to this request is lost, with its connection."""
        if self.losing is None or self.losing not in request:
            return False
        self.losing = None
        return True

    def passes(self, data: bytes) -> bool:
        """Whether this is carried on; the connection ends where it is not."""
        return True


async def _carry(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, passes: Callable[[bytes], bool]
) -> None:
    with suppress(OSError):
        while (data := await reader.read(1_048_576)) and passes(data):
            writer.write(data)
    writer.close()


@asynccontextmanager
async def laid(cable: Cable) -> AsyncIterator[None]:
    async with listening(cable.serve) as server:
        cable._server = server
        try:
            yield
        finally:
            cable.cut()


@asynccontextmanager
async def cable_to(port: int) -> AsyncIterator[Cable]:
    cable = Cable(port)
    async with laid(cable):
        yield cable
