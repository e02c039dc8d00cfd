"""Handlers of calls that bind the token, and look at it again while a call goes on."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import suppress
from contextvars import Context, copy_context
from typing import Any, Protocol, TypeAlias

import grpc
import grpc.aio

from jwks_guard.asgi.protocol import RequestVerifier
from jwks_guard.errors import RequestRefusedError
from jwks_guard.integrations.grpc.status import abort, status
from jwks_guard.integrations.grpc.token import call_token
from jwks_guard.verify.request import RequestGuard, SyncRequestGuard
from jwks_guard.verify.token import VerifiedToken

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
LetIn: TypeAlias = Callable[[grpc.ServicerContext], VerifiedToken | None]
Look: TypeAlias = Callable[[VerifiedToken | None, grpc.ServicerContext], None]

_END = object()
_LONGEST_WAIT = 0.9  # a clock that was set is noticed within a second
_SHORTEST_WAIT = 0.01


class _Verifier(Protocol):
    def remaining(self, token: VerifiedToken) -> float: ...


def behavior_of(handler: Handler) -> Callable[..., Any]:
    """The function of the application that `handler` calls."""
    behavior: Callable[..., Any] = getattr(handler, _kind(handler))
    return behavior


def in_thread(handler: Handler, let_in: LetIn, look: Look) -> Handler:
    """`handler`, made of functions or generators, for calls whose tokens `let_in` gives.

    `look` is called with the token before each message of a stream.
    """
    behavior = behavior_of(handler)

    def begin(
        request: Any, context: grpc.ServicerContext, *send_response: Any
    ) -> tuple[VerifiedToken | None, Context, Any]:
        token, own = let_in(context), copy_context()
        own.run(call_token.set, token)
        if handler.request_streaming:
            request = _each(request, lambda: look(token, context))
        return token, own, own.run(behavior, request, context, *send_response)

    @functools.wraps(behavior)
    def one(request: Any, context: grpc.ServicerContext, *send_response: Any) -> Any:
        return begin(request, context, *send_response)[2]

    @functools.wraps(behavior)
    def many(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        token, own, responses = begin(request, context)
        responses = iter(responses)
        while (response := own.run(next, responses, _END)) is not _END:
            look(token, context)
            yield response

    # Such a behavior, that of grpc's own health service, sends by a function that it is given.
    sends_itself = getattr(behavior, "experimental_non_blocking", False)
    return _with_behavior(handler, many if handler.response_streaming and not sends_itself else one)


def looking(verifier: _Verifier, guard: RequestGuard | SyncRequestGuard) -> Look:
    """A Look that ends the call if `verifier` does not accept the token any more."""

    def look(token: VerifiedToken | None, context: grpc.ServicerContext) -> None:
        try:
            if token is not None:
                verifier.remaining(token)
        except RequestRefusedError as error:
            error.refusal = guard.refusal(error)
            abort(context, error)

    return look


def _each(requests: Iterator[Any], look: Callable[[], None]) -> Iterator[Any]:
    for request in requests:
        look()
        yield request


def ended_in_time(
    handler: Handler, token: VerifiedToken, verifier: RequestVerifier, guard: RequestGuard
) -> Handler:
    """`handler`, which is async, for calls that end once `token` is not accepted any more.

    The token is looked at again before the handler runs: the message may come any time after the
    call began.
    """
    behavior = behavior_of(handler)
    streams = handler.request_streaming or handler.response_streaming

    async def respond(request: Any, context: _Writing) -> Any:
        if not inspect.isasyncgenfunction(behavior):
            return await behavior(request, context)
        async for response in behavior(request, context):
            await context.write(response)
        return None

    async def end_in_time(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        try:
            verifier.remaining(token)
        except RequestRefusedError as refused:
            refused.refusal = guard.refusal(refused)
            await context.abort(*status(refused))
        if not streams:
            return await behavior(request, context)
        writing = _Writing(context)
        answer = asyncio.ensure_future(respond(request, writing))
        refusal = asyncio.ensure_future(_refusal_to_come(verifier, token))
        try:
            await asyncio.wait({answer, refusal}, return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                return answer.result()
            error = refusal.result()
            error.refusal = guard.refusal(error)
            answer.cancel()
            await writing.settle()
            await context.abort(*status(error))
        finally:
            answer.cancel()
            refusal.cancel()

    return _with_behavior(handler, end_in_time)


class _Writing:
    """The context of a call whose writes go on although the handler is cancelled.

    grpc learns from a write that ended that the initial metadata was sent. If the first one is cut
    off, `abort` sends that again, which fails, and the call stays open.
    """

    def __init__(self, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        self._context = context
        self._write: asyncio.Future[None] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    async def write(self, message: Any) -> None:
        self._write = asyncio.ensure_future(self._context.write(message))
        await asyncio.shield(self._write)

    async def settle(self) -> None:
        """Wait for a write to end; not for long, as a client may read nothing."""
        if self._write is not None:
            await asyncio.wait({self._write}, timeout=_LONGEST_WAIT)
            if self._write.done() and not self._write.cancelled():
                self._write.exception()  # looked at: asyncio would print it


async def _refusal_to_come(verifier: RequestVerifier, token: VerifiedToken) -> RequestRefusedError:
    """The error that `token` is refused with, once it is."""
    loop, changed = asyncio.get_running_loop(), asyncio.Event()

    def notice() -> None:
        with suppress(RuntimeError):  # the loop is closed, and its calls with it
            loop.call_soon_threadsafe(changed.set)

    # Subscribed first, asked then: no change in between goes unseen.
    unsubscribe = verifier.subscribe(notice)
    try:
        while True:
            changed.clear()
            seconds = max(_SHORTEST_WAIT, min(verifier.remaining(token), _LONGEST_WAIT))
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await changed.wait()
    except RequestRefusedError as error:
        return error
    finally:
        unsubscribe()


def _kind(handler: Handler) -> str:
    request = "stream" if handler.request_streaming else "unary"
    return f"{request}_{'stream' if handler.response_streaming else 'unary'}"


def _with_behavior(handler: Handler, behavior: Callable[..., Any]) -> Handler:
    make = getattr(grpc, f"{_kind(handler)}_rpc_method_handler")
    made: Handler = make(behavior, handler.request_deserializer, handler.response_serializer)
    return made
