"""How an answer travels to its client: whole, in drips, cut off or not at all."""

from __future__ import annotations

import gzip
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from starlette.datastructures import MutableHeaders

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from jwks_guard.testing.waiting import Signal

# Offered by the server in the ASGI scope's extensions: a callable that ends the connection, by a
# reset if its argument is true.
HANG_UP = "jwks_guard.hang_up"


@dataclass(frozen=True, slots=True)
class Wire:
    """The way back to one client."""

    scope: Scope
    receive: Receive
    send: Send

    async def hang_up(self, *, reset: bool) -> None:
        """End the connection in the middle of the exchange and wait until it is gone."""
        self.scope["extensions"][HANG_UP](reset)
        while (await self.receive())["type"] != "http.disconnect":
            pass


Delivery: TypeAlias = Callable[["Message", bytes, Wire], Awaitable[None]]


async def collect(app: ASGIApp, scope: Scope, receive: Receive) -> tuple[Message, bytes]:
    """The whole answer of `app`: its http.response.start message and its body."""
    messages: list[Message] = []

    async def keep(message: Message) -> None:
        messages.append(message)

    await app(scope, receive, keep)
    return messages[0], b"".join(message.get("body", b"") for message in messages[1:])


async def whole(start: Message, body: bytes, wire: Wire) -> None:
    """Send the answer as it should be sent."""
    await wire.send(start)
    await wire.send({"type": "http.response.body", "body": body})


async def half(start: Message, body: bytes, wire: Wire) -> None:
    """Send half of the body that Content-Length announces, then close the connection."""
    await wire.send(start)
    part = body[: len(body) // 2]
    await wire.send({"type": "http.response.body", "body": part, "more_body": True})
    await wire.hang_up(reset=False)


async def nothing(_: Message, __: bytes, wire: Wire) -> None:
    """Reset the connection instead of answering."""
    await wire.hang_up(reset=True)


def aged(seconds: int) -> Delivery:
    """Send the answer as a cache does that has had it for `seconds`."""

    async def deliver(start: Message, body: bytes, wire: Wire) -> None:
        MutableHeaders(scope=start)["Age"] = str(seconds)
        await whole(start, body, wire)

    return deliver


def padded(size: int) -> Delivery:
    """Send `size` bytes of white space behind the body."""

    async def deliver(start: Message, body: bytes, wire: Wire) -> None:
        body += b" " * size
        MutableHeaders(scope=start)["Content-Length"] = str(len(body))
        await whole(start, body, wire)

    return deliver


def compressed(size: int) -> Delivery:
    """Send the same, but compressed."""

    async def deliver(start: Message, body: bytes, wire: Wire) -> None:
        body = gzip.compress(body + b" " * size)
        headers = MutableHeaders(scope=start)
        headers["Content-Encoding"] = "gzip"
        headers["Content-Length"] = str(len(body))
        await whole(start, body, wire)

    return deliver


def drip(size: int, interval: float, ended: Signal) -> Delivery:
    """Send `size` bytes every `interval` seconds, and the rest at once when `ended` is set."""

    async def deliver(start: Message, body: bytes, wire: Wire) -> None:
        await wire.send(start)
        for offset in range(0, len(body), size):
            part = body[offset : offset + size]
            await wire.send({"type": "http.response.body", "body": part, "more_body": True})
            await pause(interval, ended)
        await wire.send({"type": "http.response.body", "body": b""})

    return deliver


async def pause(seconds: float, ended: Signal) -> None:
    """Let `seconds` pass, or less if `ended` is set before."""
    with suppress(TimeoutError):
        await ended.wait(seconds)
