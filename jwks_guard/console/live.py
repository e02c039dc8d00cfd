"""Live pages: the parts of a page that have changed, as server-sent events (HTML, section 9.2)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import msgspec
from starlette.responses import StreamingResponse

from jwks_guard.console.gathering import Gatherer
from jwks_guard.console.picture import Picture

BEAT_SECONDS = 5.0
"""A stream that was silent for much longer is dead: the script then connects anew."""
_RETRY = b"retry: 2000\n\n"
_BEAT = b"event: beat\ndata:\n\n"
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
Draw = Callable[[Picture], Mapping[str, str]]


def stream(
    gatherer: Gatherer, draw: Draw, ended: Callable[[Picture], str | None]
) -> StreamingResponse:
    """A stream of the parts of a page that have changed, at first of all.

    `draw` gives the HTML of each part by its name; `ended` says why the visitor's session has
    ended, which ends the stream, or None while it goes on.
    """
    return _answer(_events(gatherer, draw, ended))


def ended(why: str) -> StreamingResponse:
    """A stream that only says why there is none, for a visitor without a session."""

    async def once() -> AsyncIterator[bytes]:
        yield _event("ended", why)

    return _answer(once())


async def _events(
    gatherer: Gatherer, draw: Draw, ended: Callable[[Picture], str | None]
) -> AsyncIterator[bytes]:
    yield _RETRY
    shown: dict[str, str] = {}
    picture: Picture | None = None
    with gatherer.watched():
        while True:
            newer = gatherer.picture if picture is None else await _newer(gatherer, picture)
            if (why := ended(newer)) is not None:
                yield _event("ended", why)
                return
            if newer is picture:
                yield _BEAT
                continue
            picture, parts = newer, draw(newer)
            changed = {name: html for name, html in parts.items() if shown.get(name) != html}
            shown.update(changed)
            yield _event("parts", changed) if changed else _BEAT


async def _newer(gatherer: Gatherer, picture: Picture) -> Picture:
    """The next picture, or the same one after a while."""
    try:
        return await asyncio.wait_for(gatherer.next_picture(picture), BEAT_SECONDS)
    except TimeoutError:
        return picture


def _event(kind: str, data: object) -> bytes:
    # JSON has no line breaks, which would end the field.
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), msgspec.json.encode(data))


def _answer(events: AsyncIterator[bytes]) -> StreamingResponse:
    return StreamingResponse(events, media_type="text/event-stream", headers=_HEADERS)
