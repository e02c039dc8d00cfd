"""Send a refusal over ASGI."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import Scope, Send

    from jwks_guard.errors import Refusal

# RFC 6455 section 7.4.1, and 1013 from the registry it set up
POLICY_VIOLATION = 1008
INTERNAL_ERROR = 1011
TRY_AGAIN_LATER = 1013

# For servers that take no other code than 1000 and those of applications (RFC 6455 section 7.4.2);
# 3000 is "Unauthorized" in IANA's registry.
APPLICATION_CODES = {POLICY_VIOLATION: 3000, INTERNAL_ERROR: 4011, TRY_AGAIN_LATER: 4013}


def takes_response(scope: Scope) -> bool:
    """Whether a WebSocket that is not accepted yet can be answered by HTTP."""
    return "websocket.http.response" in (scope.get("extensions") or {})


def close_code(refusal: Refusal) -> int:
    """What a WebSocket is closed with where it can't be answered with `refusal`."""
    return TRY_AGAIN_LATER if refusal.status in (429, 503) else POLICY_VIOLATION


async def send_refusal(refusal: Refusal, scope: Scope, send: Send) -> None:
    """Answer an HTTP request, or a WebSocket that is not accepted yet, with `refusal`.

    For a WebSocket that takes the server's `websocket.http.response` extension. Without it the
    connection is closed, which ASGI servers answer with a plain 403.
    """
    prefix = ""
    if scope["type"] == "websocket":
        if not takes_response(scope):
            await send({"type": "websocket.close", "code": close_code(refusal), "reason": ""})
            return
        prefix = "websocket."
    start = {"status": refusal.status, "headers": list(refusal.headers)}
    await send({"type": f"{prefix}http.response.start", **start})
    body = b"" if scope.get("method") == "HEAD" else refusal.body
    await send({"type": f"{prefix}http.response.body", "body": body})
