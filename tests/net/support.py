"""Bodies that arrive in chunks, and answers made of them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx


class Stream(httpx.AsyncByteStream):
    """A body that arrives in chunks and notes how many were read."""

    def __init__(self, *chunks: bytes, repeat: int = 1) -> None:
        self._chunks = chunks * repeat
        self.read = 0
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            self.read += 1
            yield chunk

    async def aclose(self) -> None:
        self.closed = True


def streamed(body: bytes = b"", status: int = 200, **headers: str) -> httpx.Response:
    """An answer whose body is still to be read; `_` in a header's name stands for `-`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status, stream=Stream(body), headers=named)
