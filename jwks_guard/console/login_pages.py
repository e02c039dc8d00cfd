"""The pages of logging in and out."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from jwks_guard.console.access import SESSION, refused, root_of, session_cookie
from jwks_guard.console.audit import audit
from jwks_guard.console.forms import (
    RefusedError,
    drop_cookie,
    read_form,
    require_own_page,
    set_cookie,
)
from jwks_guard.console.login import MAX_NAME_CHARS, Attempts, OperatorSecrets, own_path
from jwks_guard.console.oidc import CALLBACK, LOGIN, LOGIN_SECONDS, OpenIDConnect
from jwks_guard.console.rendering import page
from jwks_guard.console.sessions import Identity, SessionError, Sessions

if TYPE_CHECKING:
    from starlette.requests import Request


class LoginPages:
    """Makes and ends `sessions` by `login`; `attempts` limits wrong secrets."""

    def __init__(
        self, login: OperatorSecrets | OpenIDConnect, sessions: Sessions, attempts: Attempts
    ) -> None:
        self._login = login
        self._sessions = sessions
        self._attempts = attempts

    def routes(self) -> list[Route]:
        """What is open to everybody."""
        routes = [Route("/login", self._show, methods=["GET"])]
        if isinstance(self._login, OpenIDConnect):
            return [
                *routes,
                Route("/login/provider", self._to_provider, methods=["GET"]),
                Route(CALLBACK, self._from_provider, methods=["GET"]),
            ]
        return [*routes, Route("/login", self._by_secret, methods=["POST"])]

    @property
    def logout_route(self) -> Route:
        """For those who are logged in."""
        return Route("/logout", self._log_out, methods=["POST"])

    async def _show(self, request: Request) -> Response:
        target = own_path(request.query_params.get("next"))
        try:
            self._sessions.find(session_cookie(request))
        except SessionError as error:
            return self._page(request, target, ended=str(error))
        return RedirectResponse(root_of(request) + target, 303)

    async def _by_secret(self, request: Request) -> Response:
        assert isinstance(self._login, OperatorSecrets)  # noqa: S101
        require_own_page(request)
        form = await read_form(request)
        target = own_path(form.get("next"))
        name = form.get("name", "")[:MAX_NAME_CHARS]
        try:
            self._attempts.spend(request)
            identity = self._login.identify(form)
            if identity is None:
                raise RefusedError(403, "The secret is wrong.")
        except RefusedError as error:
            # Without the name: some people write the secret there.
            audit("console_login", request, result="refused", detail=str(error))
            return self._page(request, target, fault=error, name=name)
        response = RedirectResponse(root_of(request) + target, 303)
        self._begin(request, response, identity)
        return response

    async def _to_provider(self, request: Request) -> Response:
        assert isinstance(self._login, OpenIDConnect)  # noqa: S101
        url, cookie = await self._login.begin(request)
        response = RedirectResponse(url, 303)
        set_cookie(request, response, LOGIN, cookie, lax=True, seconds=LOGIN_SECONDS)
        return response

    async def _from_provider(self, request: Request) -> Response:
        assert isinstance(self._login, OpenIDConnect)  # noqa: S101
        try:
            self._attempts.spend(request)  # each asks the provider, whatever the code is
            identity, target = await self._login.finish(request)
        except RefusedError as error:
            audit("console_login", request, result="refused", detail=str(error))
            response = refused(request, error)
        else:
            # Not a redirect: the browser would not send the strict cookie after one that began at
            # the provider.
            response = page(request, "onward.html", None, target=root_of(request) + target)
            self._begin(request, response, identity)
        drop_cookie(request, response, LOGIN)
        return response

    async def _log_out(self, request: Request) -> Response:
        session = request.state.session
        self._sessions.end(session)
        audit("console_logout", request, result="done", actor=session.identity.actor)
        response = RedirectResponse(f"{root_of(request)}/login", 303)
        drop_cookie(request, response, SESSION)
        return response

    def _begin(self, request: Request, response: Response, identity: Identity) -> None:
        """Begin a session, under a name that nobody could know before, and end the old one."""
        with suppress(SessionError):
            self._sessions.end(self._sessions.find(session_cookie(request)))
        session = self._sessions.begin(identity)
        set_cookie(request, response, SESSION, self._sessions.cookie(session))
        audit("console_login", request, result="done", actor=identity.actor, role=identity.role)

    def _page(
        self,
        request: Request,
        target: str,
        *,
        ended: str = "",
        fault: RefusedError | None = None,
        name: str = "",
    ) -> Response:
        provider = self._login.issuer if isinstance(self._login, OpenIDConnect) else None
        return page(
            request,
            "login.html",
            None,
            status=200 if fault is None else fault.status,
            ended=ended,
            fault=None if fault is None else str(fault),
            name=name,
            target=target,
            provider=provider,
            provider_link="login/provider?" + urlencode({"next": target}),
        )
