"""What a client sends to an OAuth endpoint, and how it is refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from starlette.responses import JSONResponse

if TYPE_CHECKING:
    from starlette.requests import Request


class OAuthError(Exception):
    """A refusal of the token endpoint (RFC 6749 section 5.2); statuses as Auth0 chooses them."""

    def __init__(self, status: int, error: str, description: str) -> None:
        super().__init__(description)
        self.response = JSONResponse({"error": error, "error_description": description}, status)


async def token_parameters(request: Request) -> dict[str, str]:
    """The parameters of a token request, from a form or from JSON; raises OAuthError."""
    body = await request.body()
    try:
        if not request.headers.get("Content-Type", "").startswith("application/json"):
            return dict(parse_qsl(body.decode()))
        document = json.loads(body)
    except ValueError:
        raise OAuthError(400, "invalid_request", "The body can't be read.") from None
    members = document.items() if isinstance(document, dict) else ()
    return {name: value for name, value in members if isinstance(value, str)}


def single_parameters(encoded: bytes) -> dict[str, str]:
    """The parameters of an authorization request; one that is empty counts as left out.

    Raises ValueError if one is repeated (RFC 6749 section 3.1) or there are far too many.
    """
    pairs = parse_qsl(encoded.decode("ascii", "replace"), max_num_fields=50)
    parameters = dict(pairs)
    if len(parameters) != len(pairs):
        raise ValueError("a parameter is repeated")
    return parameters
