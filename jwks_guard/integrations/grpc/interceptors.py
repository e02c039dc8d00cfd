"""The interceptors of `grpc.server` and of `grpc.aio.server`."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, Unpack

import grpc
import grpc.aio

from jwks_guard.asgi.protocol import RequestVerifier
from jwks_guard.errors import RequestRefusedError
from jwks_guard.integrations.grpc.handlers import (
    Handler,
    behavior_of,
    ended_in_time,
    in_thread,
    looking,
)
from jwks_guard.integrations.grpc.methods import GuardsByMethod
from jwks_guard.integrations.grpc.status import abort, refusing
from jwks_guard.integrations.grpc.token import call_token
from jwks_guard.verify.request import GuardOptions, RequestGuard, Requirements, SyncRequestGuard
from jwks_guard.verify.sync import SyncTokenVerifier
from jwks_guard.verify.token import VerifiedToken


class GuardInterceptor(grpc.ServerInterceptor):
    """Lets in calls to a `grpc.server` whose bearer token `verifier` accepts; of all four kinds.

    `grpc.server(pool, interceptors=[GuardInterceptor(verifier)])`. The token is in the metadata
    `authorization`, after `Bearer`, and `get_token()` gives it to the handler. It is verified in
    the handler's thread: the thread that accepts calls never waits for a fetch.

    Refusals are UNAUTHENTICATED (no token, a bad one, malformed credentials), PERMISSION_DENIED,
    RESOURCE_EXHAUSTED where the token's key was not looked up, as too many were, and UNAVAILABLE
    where no key may be trusted. The trailing metadata has `www-authenticate` or `retry-after`.

    Of a call with streams the token is looked at again before each message: none is taken from, or
    sent to, a client whose token is not accepted any more.

    Arguments:
        verifier: a SyncTokenVerifier.
        methods: what the tokens for a method have to grant, by its full name:
            `{"/acme.Things/Write": {"required_scopes": ["write:things"]}}`; `any_scopes`,
            `required_permissions` and `claim_checks` likewise. `/acme.Things/*` is for all methods
            of a service, and holds for those with an entry of their own too. No anonymous call
            reaches a method with an entry, whatever `optional` says.
        exclude_methods: full names of methods, or `/grpc.health.v1.Health/*` for those of a
            service, that need no token and where none is looked at. The name of a method goes
            before that of its service, here and in `methods`.
        options: those of SyncRequestGuard. `native` of a request is its `grpc.HandlerCallDetails`.

    Raises ConfigurationError for an argument that can't be used.

    """

    def __init__(
        self,
        verifier: SyncTokenVerifier,
        *,
        methods: Mapping[str, Requirements] | None = None,
        exclude_methods: Collection[str] = (),
        **options: Unpack[GuardOptions],
    ) -> None:
        self._verifier = verifier
        guard = SyncRequestGuard(verifier, **options)
        self._guards = GuardsByMethod(guard, methods or {}, exclude_methods)

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Handler | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """The handler of the call, which verifies the token first."""
        handler = continuation(handler_call_details)
        guard = self._guards.of(handler_call_details.method)
        if handler is None or guard is None:
            return handler

        def let_in(context: grpc.ServicerContext) -> VerifiedToken | None:
            try:
                return guard.authenticate(**_request(handler_call_details)).token
            except RequestRefusedError as error:
                abort(context, error)

        return in_thread(handler, let_in, looking(self._verifier, guard))


class AioGuardInterceptor(grpc.aio.ServerInterceptor):
    """GuardInterceptor for a `grpc.aio.server`, with a TokenVerifier or MultiIssuerVerifier.

    A refused call reaches neither the handler nor the interceptors behind this one. The token is
    looked at again once the message was read, as that may come any time later. A call with
    streams whose handler is async is ended within a second once its token is not accepted any more,
    with the status that a new call would get, also while no message is sent; its handler is
    cancelled. For handlers of threads (`migration_thread_pool`) GuardInterceptor's rule holds.
    """

    def __init__(
        self,
        verifier: RequestVerifier,
        *,
        methods: Mapping[str, Requirements] | None = None,
        exclude_methods: Collection[str] = (),
        **options: Unpack[GuardOptions],
    ) -> None:
        self._verifier = verifier
        guard = RequestGuard(verifier, **options)
        self._guards = GuardsByMethod(guard, methods or {}, exclude_methods)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """The handler of the call, or one that refuses it."""
        guard = self._guards.of(handler_call_details.method)
        if guard is None:
            return await continuation(handler_call_details)
        try:
            token = (await guard.authenticate(**_request(handler_call_details))).token
        except RequestRefusedError as error:
            return refusing(error)
        call_token.set(token)  # the handler runs in the same context
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        behavior = behavior_of(handler)
        if not (inspect.iscoroutinefunction(behavior) or inspect.isasyncgenfunction(behavior)):
            look = looking(self._verifier, guard)

            def let_in(context: grpc.ServicerContext) -> VerifiedToken | None:
                look(token, context)  # the message may have come any time after the call began
                return token

            return in_thread(handler, let_in, look)
        if token is None:
            return handler
        return ended_in_time(handler, token, self._verifier, guard)


def _request(details: grpc.HandlerCallDetails) -> dict[str, Any]:
    """The arguments of `authenticate`. A key that was sent twice stands twice in the metadata."""
    headers = details.invocation_metadata or ()
    return {"method": "POST", "url": details.method, "headers": headers, "native": details}
