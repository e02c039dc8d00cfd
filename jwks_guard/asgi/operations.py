"""Operations routes: is it up, is it ready, what does it show, and what is it to refuse."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, TypeAlias

import msgspec
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from jwks_guard.asgi.bodies import BodyRefusedError, read_body
from jwks_guard.asgi.decision_routes import DecisionError, distrusted, reinstated
from jwks_guard.asgi.operations_auth import Admission, OperationsAuth, Permission
from jwks_guard.base.worker import waited
from jwks_guard.errors import (
    ConfigurationError,
    DistrustNotSharedError,
    JWKSGuardError,
    NotFoundError,
    RequestRefusedError,
)
from jwks_guard.fleet.http_messages import (
    INSTANCE_HEADER,
    MAX_MESSAGE_BYTES,
    Exchange,
    ExchangeAnswer,
    Holdings,
    MessageError,
    StateAnswer,
    decoded,
    furthest,
    merged_parts,
    reaches_of,
    shown,
)
from jwks_guard.fleet.members import Members
from jwks_guard.fleet.soundness import TooManyError
from jwks_guard.jose.header import is_kid
from jwks_guard.net.refusals import refusal
from jwks_guard.observability.reading import Shown
from jwks_guard.observability.reading import shown as shown_now
from jwks_guard.observability.workers import Workers, workers_of
from jwks_guard.readiness.state import InstanceState
from jwks_guard.verify.stores import Stores, Verifier, awake

if TYPE_CHECKING:
    from starlette.requests import Request

    from jwks_guard.asgi.protocol import ReadinessJudge

_Endpoint: TypeAlias = Callable[["Request"], Awaitable[Response]]
STORED_SECONDS = 0.75
"""How long the journals are waited for: shorter than instances wait for an answer by default."""
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

    `/livez` answers 200 while the event loop runs, `/readyz` 503 while no key is trusted (issuers
    that were added at run time do not count, as they may be down for good); both are open and show
    no kid. Behind a JWKSGuardMiddleware add `/ops/*` to its `exclude_paths`.

    With `operations_auth` there are also, as JSON: `/state`, `/revocation-readiness/{kid}`,
    `/metrics` (Prometheus, extra `prometheus`), `POST /distrust` and `POST /reinstate` for people
    (`{"kid": "...", "reason": "..."}`, with several issuers `"issuer"` too), and for the instances
    of a fleet over HTTP `POST /fleet/exchange` and `POST /fleet/refresh`.

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
    stores = Stores(verifier)
    routes = _Open(stores).routes()
    if operations_auth is not None:
        scopes: dict[Permission, str] = {"read": read_scope, "distrust": distrust_scope}
        admission = Admission(operations_auth, stores, scopes)
        workers = workers_of(verifier)
        routes += _Guarded(stores, admission, readiness, workers).routes()
    application = Starlette(routes=routes)
    application.router.redirect_slashes = False  # a change is made where it is asked for
    return application


class _Open:
    """What an orchestrator asks for."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores.configured

    def routes(self) -> list[Route]:
        return [Route("/livez", self.livez), Route("/readyz", self.readyz)]

    async def livez(self, request: Request) -> Response:
        return PlainTextResponse("ok\n", headers={"Cache-Control": "no-store"})

    async def readyz(self, request: Request) -> Response:
        await awake(self._stores)
        statuses = {store.health().status for store in self._stores}
        statuses = statuses or {"ok"}
        ready = statuses != {"unavailable"}
        status = statuses.pop() if len(statuses) == 1 else "degraded"
        headers = {"Cache-Control": "no-store"}
        return PlainTextResponse(f"{status}\n", 200 if ready else 503, headers)


class _Guarded:
    """What only those see and do whom `admission` lets."""

    def __init__(
        self,
        stores: Stores,
        admission: Admission,
        judge: ReadinessJudge | None,
        workers: Workers | None,
    ) -> None:
        self._stores = stores
        self._workers = workers
        self._admission = admission
        self._judge = judge
        self._clock = stores.clock
        self._members = Members(None)
        self._register = stores.register
        self._count_members()
        self._holdings = Holdings()

    def routes(self) -> list[Route]:
        reading: dict[str, _Endpoint] = {"/state": self.state, "/metrics": self.metrics}
        if self._judge is not None:
            reading["/revocation-readiness/{kid:path}"] = self.readiness
        changing: dict[str, _Endpoint] = {
            "/distrust": self.distrust,
            "/reinstate": self.reinstate,
            "/fleet/exchange": self.exchange,
            "/fleet/refresh": self.refresh,
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
            except RequestRefusedError as error:
                refused = refusal(error)
                return Response(refused.body, refused.status, refused.fields)
            try:
                answer = await endpoint(request)
            except NotFoundError as error:
                answer = _problem(404, error.code, str(error))
            except DistrustNotSharedError as error:
                answer = _problem(503, error.code, str(error))
            except DecisionError as error:
                answer = _problem(400, "malformed_decision", str(error))
            except JWKSGuardError as error:
                answer = _problem(error.http_status, error.code, str(error))
            except BodyRefusedError as error:
                answer = _problem(error.status, "body_refused", str(error))
            except TooManyError as error:
                answer = _problem(413, "too_many_decisions", f"Nothing was taken: {error}.")
            except MessageError as error:
                answer = _problem(400, "malformed_message", str(error))
            answer.headers[INSTANCE_HEADER] = self._register.instance
            answer.headers["Cache-Control"] = "no-store"
            return answer

        return guarded

    # --- to look at ---

    def _count_members(self) -> None:
        """Count the stores of this moment: issuers come and go."""
        stores = self._stores()
        for member in self._members:
            if member not in stores:
                self._members.discard(member)
        for store in stores:
            self._members.add(store)

    def _states(self) -> list[InstanceState]:
        """What this instance shows."""
        self._count_members()
        return self._members.states(self._clock.time())

    async def state(self, request: Request) -> Response:
        states = shown(self._states())
        error = self._register.journal_error
        return _json(StateAnswer(instance=self._register.instance, states=states, error=error))

    async def readiness(self, request: Request) -> Response:
        kid = request.path_params["kid"]
        if self._judge is None or not is_kid(kid):
            return _problem(404, "not_found", "There is no such key.")
        report = await self._judge.revocation_readiness(kid)
        return JSONResponse(report.to_dict())

    async def metrics(self, request: Request) -> Response:
        try:
            from jwks_guard.observability.metrics import rendered
        except ModuleNotFoundError:
            return PlainTextResponse(_NO_PROMETHEUS, 501)
        try:
            # In a thread: another worker may have locked the files.
            now = await asyncio.to_thread(self._shown)
        except OSError as error:
            return _problem(503, "metrics_unavailable", f"The workers' metrics: {error}.")
        body, content_type = rendered(now, request.headers.get("accept", ""))
        return Response(body, headers={"Content-Type": content_type})

    def _shown(self) -> Shown:
        return shown_now(self._stores()) if self._workers is None else self._workers.read()

    # --- decisions of people ---

    async def distrust(self, request: Request) -> Response:
        return _json(await distrusted(request, self._stores))

    async def reinstate(self, request: Request) -> Response:
        return _json(await reinstated(request, self._stores))

    # --- between instances; nothing waits for a start here: instances that start ask each other ---

    async def exchange(self, request: Request) -> Response:
        """Refuse what the sender distrusts, and answer with what is held then."""
        given = decoded(await read_body(request, MAX_MESSAGE_BYTES), Exchange)
        register, issuers = self._register, self._register.issuers
        await merged_parts(given.parts, register, issuers)
        unstored = await self._unstored() if given.parts else self._register.journal_error
        version, since, parts = await self._holdings.since(given.known, register.state, issuers)
        states = self._states()
        heard = (store.fleet.reaches for store in self._stores() if store.fleet is not None)
        reaches = furthest(reaches_of(states), *heard)
        return _json(
            ExchangeAnswer(
                instance=register.instance,
                states=shown(states),
                error=unstored,
                version=version,
                issuers=sorted(issuers),
                since=since,
                parts=parts,
                reaches=[(*name, *reach) for name, reach in reaches.items()],
            )
        )

    async def _unstored(self) -> str | None:
        """Why a journal does not hold what is refused here; None when all do."""
        writing = {each: each.begin_exchange() for each in self._register.journals}
        await waited(writing.values(), STORED_SECONDS)
        for journal, written in writing.items():
            if not written.done():
                return f"the journal {journal.path} was not written within {STORED_SECONDS:g} s"
        return self._register.journal_error

    async def refresh(self, request: Request) -> Response:
        stores = self._stores()
        await awake(stores)
        for store in stores:
            store.refresh_soon()
        for store in stores:
            await store.refreshed()
        return await self.state(request)


def _json(answer: msgspec.Struct) -> Response:
    return Response(msgspec.json.encode(answer), media_type="application/json")


def _problem(status: int, code: str, description: str) -> Response:
    return JSONResponse({"error": code, "error_description": description}, status)
