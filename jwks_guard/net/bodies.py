"""Bodies of untrusted HTTP answers, read and decoded within a limit."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx


class BodyError(Exception):
    """A body that can't be used; the text says why, without quoting it."""


async def read_body(response: httpx.Response, limit: int) -> bytes:
    """The decoded body, at most `limit` bytes of it ever in memory; raises BodyError.

    httpx decodes whole network chunks, of which a few kilobytes can become gigabytes; so the
    raw bytes are read and decoded here, up to the limit.
    """
    too_large = BodyError(f"the answer is larger than {limit} bytes")
    if response.is_stream_consumed:  # a transport that answers with the whole body at once
        body = response.content
    else:
        raw = bytearray()
        async for chunk in response.aiter_raw():
            raw += chunk
            if len(raw) > limit:
                raise too_large
        body = _decoded(bytes(raw), response.headers.get("content-encoding", ""), limit)
    if len(body) > limit:
        raise too_large
    return body


def _decoded(raw: bytes, encoding: str, limit: int) -> bytes:
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return raw
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise BodyError("the answer has a content encoding that was not asked for")
    decoder = zlib.decompressobj(wbits=47)  # 32 + 15: gzip or zlib, by their headers
    try:
        body = decoder.decompress(raw, limit + 1)
    except zlib.error:
        raise BodyError("the compressed answer is damaged") from None
    if not decoder.eof and len(body) <= limit:
        raise BodyError("the compressed answer is truncated")
    return body
