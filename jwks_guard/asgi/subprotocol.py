"""The bearer token of a browser's WebSocket, which can send no Authorization header.

`new WebSocket(url, ["bearer", token])` puts the token into the offered subprotocols.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jwks_guard.errors import InvalidRequestError
from jwks_guard.net.bearer import LONG, b64token, require_terse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.types import Message, Scope, Send

    from jwks_guard.verify.sources import Request

_MARK = "bearer"


@dataclass(frozen=True, slots=True)
class SubprotocolOffer:
    """What a client offered: a token, if any, and the subprotocols that are real."""

    token: bytes | None
    others: tuple[str, ...]


def read_offer(subprotocols: Sequence[str]) -> SubprotocolOffer:
    """Part the token, the one item after `bearer`, from the other subprotocols.

    Raises:
        InvalidRequestError: `bearer` twice, or no b64token after it.

    """
    if _MARK not in subprotocols:
        return SubprotocolOffer(None, tuple(subprotocols))
    if subprotocols.count(_MARK) > 1:
        raise InvalidRequestError("the subprotocol `bearer` is offered more than once")
    before = subprotocols.index(_MARK)
    following = "".join(subprotocols[before + 1 : before + 2]).encode("ascii", "replace")
    if len(following) > LONG:
        require_terse(following)
    others = (*subprotocols[:before], *subprotocols[before + 2 :])
    return SubprotocolOffer(b64token(following), others)


def offered_token(request: Request) -> bytes | None:
    """The token of an ASGI WebSocket's offer: a token source."""
    subprotocols: Sequence[str] = request.native.get("subprotocols") or ()
    return read_offer(subprotocols).token if request.native["type"] == "websocket" else None


def hiding_token(scope: Scope, send: Send) -> Send:
    """Take the token out of `scope`, if there is one; gives the `send` that accepts fittingly."""
    offer = read_offer(scope.get("subprotocols") or ())
    if offer.token is None:
        return send
    hide_token(scope, offer)
    return answering_bearer(send, offer)


def hide_token(scope: Scope, offer: SubprotocolOffer) -> None:
    """Leave only the real subprotocols in `scope`: an app may log them, or echo one."""
    header = b"sec-websocket-protocol"
    scope["subprotocols"] = list(offer.others)
    scope["headers"] = [item for item in scope["headers"] if item[0] != header]
    if offer.others:
        scope["headers"].append((header, ", ".join(offer.others).encode("ascii", "replace")))


def answering_bearer(send: Send, offer: SubprotocolOffer) -> Send:
    """A `send` that accepts with `bearer`, unless the app chose one of the other offers.

    A browser drops a connection whose answer is none of the subprotocols it offered, and a token
    must never be that answer.
    """

    async def answer(message: Message) -> None:
        if message["type"] == "websocket.accept" and message.get("subprotocol") not in offer.others:
            message = {**message, "subprotocol": _MARK}
        await send(message)

    return answer
