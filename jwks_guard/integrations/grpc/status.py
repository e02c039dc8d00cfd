"""The answer to a call that is refused: its code, details and trailing metadata."""

from __future__ import annotations

from typing import Any, NoReturn

import grpc
import grpc.aio

from jwks_guard.errors import RequestRefusedError
from jwks_guard.net.refusals import description

_CODES = {
    400: grpc.StatusCode.UNAUTHENTICATED,  # INVALID_ARGUMENT is what a method says of its message
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
}
_TRAILING = ("www-authenticate", "retry-after")


def refusing(error: RequestRefusedError) -> grpc.RpcMethodHandler[Any, Any]:
    """A handler for calls of all kinds that ends them without reading a message."""

    async def refuse(_: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        await context.abort(*status(error))

    return grpc.stream_stream_rpc_method_handler(refuse)


def abort(context: grpc.ServicerContext, error: RequestRefusedError) -> NoReturn:
    """End a call to a handler of threads with the answer to `error`."""
    code, details, metadata = status(error)
    context.set_trailing_metadata(metadata)
    context.abort(code, details)


def status(error: RequestRefusedError) -> tuple[grpc.StatusCode, str, tuple[tuple[str, str], ...]]:
    """Code, details and trailing metadata of the answer to a call."""
    fields = error.refusal.fields
    # Metadata is printable ASCII: gRPC answers INTERNAL for what an `on_refusal` adds besides.
    sent = {name: text for name, text in fields.items() if text.isascii() and text.isprintable()}
    metadata = tuple((name, sent[name]) for name in _TRAILING if name in sent)
    code = _CODES.get(error.http_status, grpc.StatusCode.UNAUTHENTICATED)
    return code, description(error.refusal), metadata
