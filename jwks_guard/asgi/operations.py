"""Operations routes: is it up, is it ready, what does it show, and what is it to refuse."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, TypeAlias

from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from jwks_guard.asgi.bodies import BodyRefusedError, read_body
from jwks_guard.asgi.operations_auth import Admission, OperationsAuth, Permission
from jwks_guard.asgi.refetch import Refetch
from jwks_guard.asgi.stores import Verifier, awake, stores_of
from jwks_guard.errors import ConfigurationError, JWKSGuardError, NotFoundError
from jwks_guard.fleet.http import HTTPFleet
from jwks_guard.fleet.http_messages import (
    INSTANCE_HEADER,
    MAX_DECISIONS,
    MAX_POST_BYTES,
    MessageError,
    facts_in,
    furthest,
    known_answer,
    reaches_of,
    state_answer,
)
from jwks_guard.fleet.members import Members
from jwks_guard.fleet.records import Decisions, decisions_in, facts_of
from jwks_guard.jose.header import is_kid
from jwks_guard.keys.instance import this_instance
from jwks_guard.net import bearer

if TYPE_CHECKING:
    from starlette.requests import Request

    from jwks_guard.asgi.protocol import ReadinessJudge
    from jwks_guard.keys.distrust import Name
    from jwks_guard.keys.store import KeyStore
    from jwks_guard.readiness.usage import Reach

_Endpoint: TypeAlias = Callable[["Request"], Awaitable[Response]]
_NO_PROMETHEUS = "/metrics needs its extra: pip install 'jwks-guard[prometheus]'\n"


def operations(
    verifier: Verifier,
    *,
    operations_auth: OperationsAuth | None = None,
    readiness: ReadinessJudge | None = None,
    read_scope: str = "operations:read",
    distrust_scope: str = "operations:distrust",
) -> Starlette:
    """An application to mount, for example at `/ops`.

    `/livez` answers 200 while the event loop runs, `/readyz` 503 while no key is trusted; both are
    open and show no kid. Behind a JWKSGuardMiddleware add `/ops/*` to its `exclude_paths`.

    With `operations_auth` there are also, as JSON: `/state`, `/revocation-readiness/{kid}`,
    `/metrics` (Prometheus, extra `prometheus`), and for the fleet over HTTP `/decisions`,
    `POST /distrust`, `POST /reinstate` and `POST /refresh`.

    Arguments:
        verifier: a TokenVerifier, MultiIssuerVerifier or SyncTokenVerifier.
        operations_auth: a secret of 16 characters or more, two while it is being replaced, or
            StaticSecrets, shown as bearer token; or the verifier of another issuer. A verifier of
            the guarded issuer lets only look: the key that is being revoked must not guard its own
            revocation. None, as of an environment variable that is not set, leaves out all that it
            guards; StaticSecrets.from_environment raises ConfigurationError instead.
        readiness: a KeyRotation of `verifier`; without it there is no `/revocation-readiness`.
        read_scope: what a token needs to look.
        distrust_scope: what a token needs to change what is refused.

    Raises:
        ConfigurationError: a secret or a scope can't be used, or `operations_auth` is a
            SyncTokenVerifier, which would block the event loop.

    """
    judge = getattr(readiness, "revocation_readiness", None)
    if readiness is not None and not iscoroutinefunction(judge):
        raise ConfigurationError("readiness must be a KeyRotation.")
    stores = stores_of(verifier)
    shown = _Open(stores).routes()
    if operations_auth is not None:
        scopes: dict[Permission, str] = {"read": read_scope, "distrust": distrust_scope}
        admission = Admission(operations_auth, stores, scopes)
        shown += _Guarded(stores, admission, readiness).routes()
    application = Starlette(routes=shown)
    application.router.redirect_slashes = False  # a change is made where it is asked for
    return application


class _Open:
    """What an orchestrator asks for."""

    def __init__(self, stores: tuple[KeyStore, ...]) -> None:
        self._stores = stores

    def routes(self) -> list[Route]:
        return [Route("/livez", self.livez), Route("/readyz", self.readyz)]

    async def livez(self, request: Request) -> Response:
        return PlainTextResponse("ok\n", headers={"Cache-Control": "no-store"})

    async def readyz(self, request: Request) -> Response:
        await awake(self._stores)
        statuses = {store.health().status for store in self._stores}
        ready = statuses != {"unavailable"}
        status = statuses.pop() if len(statuses) == 1 else "degraded"
        headers = {"Cache-Control": "no-store"}
        return PlainTextResponse(f"{status}\n", 200 if ready else 503, headers)


class _Guarded:
    """What only those see and do whom `admission` lets."""

    def __init__(
        self,
        stores: tuple[KeyStore, ...],
        admission: Admission,
        judge: ReadinessJudge | None,
    ) -> None:
        self._stores = stores
        self._admission = admission
        self._judge = judge
        self._clock = stores[0].clock
        self._refetches = [Refetch(store) for store in stores]
        self._members = Members()
        for store in stores:
            self._members.add(store)

    def routes(self) -> list[Route]:
        reading: dict[str, _Endpoint] = {
            "/state": self.state,
            "/decisions": self.decisions,
            "/metrics": self.metrics,
        }
        if self._judge is not None:
            reading["/revocation-readiness/{kid:path}"] = self.readiness
        changing: dict[str, _Endpoint] = {
            "/distrust": self.distrust,
            "/reinstate": self.reinstate,
            "/refresh": self.refresh,
        }
        return [
            *(Route(path, self._behind("read", each)) for path, each in reading.items()),
            *(
                Route(path, self._behind("distrust", each), methods=["POST"])
                for path, each in changing.items()
            ),
        ]

    def _behind(self, permission: Permission, endpoint: _Endpoint) -> _Endpoint:
        async def guarded(request: Request) -> Response:
            try:
                await self._admission.admit(request.headers.raw, permission)
            except bearer.REFUSED as error:
                refusal = bearer.refusal(error)
                names = {k.decode(): v.decode("latin-1") for k, v in refusal.headers}
                return Response(refusal.body, refusal.status, names)
            try:
                answer = await endpoint(request)
            except NotFoundError as error:
                answer = _problem(404, error.code, str(error))
            except JWKSGuardError as error:
                answer = _problem(error.http_status, error.code, str(error))
            except BodyRefusedError as error:
                answer = _problem(error.status, "body_refused", str(error))
            except MessageError as error:
                answer = _problem(400, "malformed_message", str(error))
            answer.headers[INSTANCE_HEADER] = this_instance()
            answer.headers["Cache-Control"] = "no-store"
            return answer

        return guarded

    # --- to look at; nothing waits here: instances that start at once ask each other ---

    async def state(self, request: Request) -> Response:
        unsaved = [s.decisions.durable.error for s in self._stores if s.decisions.durable]
        error = next((each for each in unsaved if each is not None), None)
        states = self._members.states(self._clock.time())
        return _json(state_answer(this_instance(), states, error))

    async def decisions(self, request: Request) -> Response:
        reaches: dict[Name, Reach] = reaches_of(self._members.states(self._clock.time()))
        for store in self._stores:
            if isinstance(store.fleet, HTTPFleet):
                reaches = furthest(reaches, store.fleet.reaches)
        return _json(known_answer(facts_of(self._members.known()), reaches))

    async def readiness(self, request: Request) -> Response:
        kid = request.path_params["kid"]
        if self._judge is None or not is_kid(kid):
            return _problem(404, "not_found", "There is no such key.")
        report = await self._judge.revocation_readiness(kid)
        return JSONResponse(report.to_dict())

    async def metrics(self, request: Request) -> Response:
        try:
            from jwks_guard.observability.metrics import CONTENT_TYPE, rendered
        except ModuleNotFoundError:
            return PlainTextResponse(_NO_PROMETHEUS, 501)
        return Response(rendered(self._stores), media_type=CONTENT_TYPE)

    # --- to change what is refused ---

    async def distrust(self, request: Request) -> Response:
        told = decisions_in(facts_in(await read_body(request, MAX_POST_BYTES)))
        if told.lifts:
            return _problem(400, "malformed_message", "To lift something, POST to /reinstate.")
        return await self._go_by(told, request)

    async def reinstate(self, request: Request) -> Response:
        told = decisions_in(facts_in(await read_body(request, MAX_POST_BYTES)))
        if told.stones:
            return _problem(400, "malformed_message", "To distrust a key, POST to /distrust.")
        return await self._go_by(told, request)

    async def refresh(self, request: Request) -> Response:
        await awake(self._stores)
        for refetch in self._refetches:
            refetch.soon()
        for refetch in self._refetches:
            await refetch.done()
        return await self.state(request)

    async def _go_by(self, told: Decisions, request: Request) -> Response:
        """Go by these from now on; what the answer shows is in effect, and stored if it can be."""
        known = self._members.known().merged(told.stones).without(told.lifts)
        if len(known.entries) + len(known.lifted) > MAX_DECISIONS:
            return _problem(413, "too_many_decisions", "No fleet makes as many decisions.")
        self._members.take_over(told)
        for store in self._stores:
            if store.decisions.durable is not None:
                await store.decisions.durable.saved()
        return await self.state(request)


def _json(body: bytes) -> Response:
    return Response(body, media_type="application/json")


def _problem(status: int, code: str, description: str) -> Response:
    return JSONResponse({"error": code, "error_description": description}, status)
