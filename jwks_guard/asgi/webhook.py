"""Hints from a tenant's log stream: when it logs a rotation or a revocation, keys are fetched."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.responses import Response
from starlette.routing import Route

from jwks_guard.asgi.bodies import BodyRefusedError, read_body
from jwks_guard.asgi.operations_auth import Secrets, static_secrets
from jwks_guard.errors import InvalidTokenError
from jwks_guard.verify.stores import Stores, Verifier, awake

if TYPE_CHECKING:
    from starlette.requests import Request

MAX_DELIVERY_BYTES = 1_048_576
MAX_ENTRIES = 1000
"""More than a delivery has; what comes after them is not looked at."""
MAX_OBJECTS = 10_000
"""The same of the objects and arrays in them: a megabyte can have half a million."""
_CHANGES = {
    "POST": re.compile(r"(?:.*/)?keys/signing/rotate/?(?:[?#].*)?"),
    "PUT": re.compile(r"(?:.*/)?keys/signing/[^/?#]+/revoke/?(?:[?#].*)?"),
}
_DECODE_ERRORS = (msgspec.MsgspecError, ValueError, RecursionError)


def log_stream_webhook(verifier: Verifier, *, secret: Secrets, path: str = "/log-stream") -> Route:
    """A route that takes the deliveries of an Auth0 log stream (custom webhook) by POST.

    An entry of a call to the Management API (`sapi`) that rotates or revokes a signing key has the
    keys fetched at once, and at most every 5 s, however many come. It does nothing else:
    the secret is good for a fetch, and no key is trusted or refused by what a delivery says.

    Behind a JWKSGuardMiddleware add `path` to its `exclude_paths`.

    Arguments:
        verifier: a TokenVerifier, MultiIssuerVerifier or SyncTokenVerifier.
        secret: what is written as authorization token in the stream's settings, with `Bearer ` or
            without; of 16 characters or more, two while it is being replaced.
        path: where it is.

    Raises:
        ConfigurationError: the secret can't be used.

    """
    secrets = static_secrets(secret)
    stores = Stores(verifier)

    async def delivery(request: Request) -> Response:
        try:
            secrets.require(_credentials(request))
            body = await read_body(request, MAX_DELIVERY_BYTES)
        except InvalidTokenError:
            return Response(status_code=401)
        except BodyRefusedError as error:
            return Response(status_code=error.status)
        if not tells_of_change(body):
            return Response(status_code=204)
        await awake(stores())
        for store in stores():
            store.refresh_soon()
        return Response(status_code=202)

    return Route(path, delivery, methods=["POST"])


def tells_of_change(body: bytes) -> bool:
    """Whether one of the entries in `body` says that a signing key was rotated or revoked.

    Where in an entry the request stands is not relied on.
    """
    if b"sapi" not in body:
        return False
    return any(_is_change(mapping) for mapping in _of_management_calls(_entries(body)))


def _credentials(request: Request) -> bytes:
    values = request.headers.getlist("authorization")
    if len(values) != 1:
        raise InvalidTokenError("the delivery has no Authorization header, or two")
    return values[0].removeprefix("Bearer ").encode("latin-1")


def _entries(body: bytes) -> list[Any]:
    """The entries: an array of them, a single one, or one a line; what is none is passed over."""
    try:
        document = msgspec.json.decode(body)
        return document[:MAX_ENTRIES] if isinstance(document, list) else [document]
    except _DECODE_ERRORS:
        pass
    entries = []
    for line in body.split(b"\n", MAX_ENTRIES)[:MAX_ENTRIES]:
        if b"sapi" in line and line.lstrip().startswith(b"{"):
            with suppress(*_DECODE_ERRORS):
                entries.append(msgspec.json.decode(line))
    return entries


def _of_management_calls(entries: list[Any]) -> Iterator[dict[str, Any]]:
    """Every object in an entry of the type `sapi`, itself included."""
    todo: list[tuple[Any, bool]] = [(entries, False)]
    for _ in range(MAX_OBJECTS):
        if not todo:
            return
        value, within = todo.pop()
        if isinstance(value, dict):
            within = within or value.get("type") == "sapi"
            if within:
                yield value
        members = value.values() if isinstance(value, dict) else value
        inner = ((each, within) for each in members if isinstance(each, dict | list))
        todo.extend(islice(inner, MAX_OBJECTS))


def _is_change(mapping: dict[str, Any]) -> bool:
    method = mapping.get("method")
    changing = _CHANGES.get(method.upper()) if isinstance(method, str) else None
    paths = (mapping.get("path"), mapping.get("url"))
    return changing is not None and any(
        isinstance(path, str) and changing.fullmatch(path) is not None for path in paths
    )
