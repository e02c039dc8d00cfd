"""Bodies of requests, read within a limit of bytes and of time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect

if TYPE_CHECKING:
    from starlette.requests import Request

BODY_SECONDS = 5.0


class BodyRefusedError(Exception):
    """The body is not taken; `status` is what the request is answered with."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


async def read_body(request: Request, limit: int, seconds: float = BODY_SECONDS) -> bytes:
    """The body, at most `limit` bytes of it ever in memory; raises BodyRefusedError."""
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    raise BodyRefusedError(413, f"the body is larger than {limit} bytes")
    except TimeoutError:
        raise BodyRefusedError(408, f"the body did not come within {seconds:g} s") from None
    except ClientDisconnect:
        raise BodyRefusedError(400, "the client went away") from None
    return bytes(body)
