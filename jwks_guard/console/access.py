"""Who may see a page and who may act: decided for each request, before any page is asked."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response

from jwks_guard.console import live
from jwks_guard.console.forms import RefusedError, cookie_name, read_form, require_own_page
from jwks_guard.console.rendering import Role, Visitor, page
from jwks_guard.console.sessions import Identity, Session, SessionError, Sessions

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

SESSION = "session"
"""The name of the cookie."""
_SAFE_METHODS = ("GET", "HEAD")
_STREAMS = "/live"
_LOGOUT = "/logout"
MOST_STREAMS = 12
"""Streams of one session: each page that is seen has one."""
SEND_SECONDS = 30.0
"""For so long a stream waits for a browser that reads nothing."""
NOT_AN_OPERATOR = (
    "Your log-in only looks. Nothing was done. Log in as an operator to do this. If you log in at "
    "the issuer whose keys are shown here, the console needs an operator_secret beside that: the "
    "key that has leaked could sign your ID token, too."
)


class Access:
    """Lets requests with a session through to `app`, which reads them from `request.state`.

    `session` and `visitor` are who asks, `why_ended` is called to ask whether the session lasts,
    and `form` has the fields of a POST: one that a page of the console sent, with the token of the
    session, by an operator. Viewers may log out, and post nothing else.

    `role_of` is what the log-in allows now.
    """

    def __init__(
        self, app: ASGIApp, sessions: Sessions, role_of: Callable[[Identity], Role]
    ) -> None:
        self._app = app
        self._sessions = sessions
        self._role_of = role_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":  # a WebSocket: there is none here
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        try:
            await self._admit(request)
        except SessionError as error:
            await _without_session(request, str(error))(scope, receive, send)
        except RefusedError as error:
            await refused(request, error)(scope, receive, send)
        else:
            if _is_stream(request):
                await self._stream(request.state.session, scope, receive, send)
            else:
                await self._app(scope, receive, send)

    async def _stream(self, session: Session, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_in_time(message: Message) -> None:
            async with asyncio.timeout(SEND_SECONDS):
                await send(message)

        session.streams += 1
        try:
            await self._app(scope, receive, send_in_time)
        except (ClientDisconnect, TimeoutError):
            pass  # the server closes the connection
        finally:
            session.streams -= 1

    async def _admit(self, request: Request) -> None:
        # A page that asks by itself must not keep the session of a person who has left.
        by_script = _is_stream(request) or request.method == "HEAD"
        session = self._sessions.find(session_cookie(request), used=not by_script)
        if _is_stream(request) and session.streams >= MOST_STREAMS:
            raise RefusedError(429, "Too many pages are open. Close some, and load this one again.")
        role = self._role_of(session.identity)
        visitor = Visitor(name=session.identity.name, role=role, csrf=session.csrf)
        state = request.state
        state.session, state.visitor = session, visitor
        state.why_ended = lambda: self._sessions.why_ended(session)
        if request.method not in _SAFE_METHODS:
            require_own_page(request)
            state.form = await read_form(request)
            _require_token(session, state.form)
            if not visitor.acts and route_of(request) != _LOGOUT:
                raise RefusedError(403, NOT_AN_OPERATOR)


def session_cookie(request: Request) -> str | None:
    """The value of the session's cookie, if the browser sent one."""
    return request.cookies.get(cookie_name(request, SESSION))


def refused(request: Request, error: RefusedError) -> Response:
    """The page that says why the request is refused."""
    visitor = getattr(request.state, "visitor", None)
    return page(request, "refused.html", visitor, status=error.status, why=str(error), notes=())


def _require_token(session: Session, form: Mapping[str, str]) -> None:
    if not hmac.compare_digest(form.get("csrf", "").encode(), session.csrf.encode()):
        raise RefusedError(
            403,
            "The form does not belong to this session: you may have logged in again since it was "
            "opened. Nothing was done. Open the page again.",
        )


def _without_session(request: Request, why: str) -> Response:
    if request.method not in _SAFE_METHODS:
        text = f"{why or 'You are not logged in.'} Nothing was done. Log in, and do it again."
        return refused(request, RefusedError(401, text))
    if _is_stream(request):
        return live.ended(why or "You are not logged in.")
    if request.headers.get("sec-fetch-mode", "navigate") != "navigate":  # a script asks
        return refused(request, RefusedError(401, why or "You are not logged in."))
    if not why and request.headers.get("sec-fetch-site") == "cross-site":
        # After a link of another site: from this page on, the browser sends the strict cookie.
        return page(request, "onward.html", None, target=root_of(request) + _target_of(request))
    target = f"{root_of(request)}/login?" + urlencode({"next": _target_of(request)})
    return RedirectResponse(target, 303)


def _is_stream(request: Request) -> bool:
    return route_of(request).endswith(_STREAMS)


def root_of(request: Request) -> str:
    """The path at which the console is mounted: "" at the root."""
    root: str = request.scope.get("root_path", "")
    return root.rstrip("/")


def route_of(request: Request) -> str:
    """The path of the request below the console's root, decoded."""
    path: str = request.scope["path"]
    return "/" + path.removeprefix(root_of(request)).lstrip("/")


def _target_of(request: Request) -> str:
    """The path and query of the request below the console's root, as a browser writes them."""
    query = request.scope.get("query_string", b"").decode("latin-1")
    return quote(route_of(request), safe="/") + (f"?{query}" if query else "")
