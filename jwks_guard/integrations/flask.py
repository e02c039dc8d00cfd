"""Guard a Flask application's views and blueprints (extra `flask`)."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from functools import partial, wraps
from typing import IO, Any, TypeVar, Unpack, cast, overload

from flask import Flask, Response, after_this_request, current_app, g, request
from werkzeug.exceptions import HTTPException, default_exceptions

from jwks_guard.asgi.exchange import LateBodyError
from jwks_guard.errors import ConfigurationError, Refusal, RequestRefusedError
from jwks_guard.integrations.wsgi_body import WatchedBody
from jwks_guard.net.bearer import Header
from jwks_guard.verify.request import (
    Authenticated,
    GuardOptions,
    Requirements,
    SyncRequestGuard,
    checked_requirements,
)
from jwks_guard.verify.sync import SyncTokenVerifier
from jwks_guard.verify.token import VerifiedToken

View = TypeVar("View", bound=Callable[..., Any])
_KEY = "jwks_guard"
_in_view = ContextVar("in_view", default=False)
"""Whether `require_token` is there to make a refusal of a LateBodyError."""


def init_app(app: Flask, verifier: SyncTokenVerifier, **options: Unpack[GuardOptions]) -> None:
    """Have `require_token` and `authenticate` take the tokens that `verifier` accepts, in `app`.

    `verifier` is a SyncTokenVerifier, for async views, too. The options are those of RequestGuard;
    what they require holds for each guarded view. Raises ConfigurationError.
    """
    app.extensions[_KEY] = SyncRequestGuard(verifier, **options)


@overload
def require_token(view: View, /) -> View: ...
@overload
def require_token(**required: Unpack[Requirements]) -> Callable[[View], View]: ...
def require_token(view: Any = None, /, **required: Unpack[Requirements]) -> Any:
    """A view that needs a token, which is `g.token` in it; write it below the route.

    Others get 400, 401, 403, 429 or 503, as werkzeug's exceptions: `errorhandler` applies to them.
    So are those whose token is refused while the view reads the body: reading raises an error that
    is no Exception, and this one the werkzeug exception.
    It takes sync and async views. What is required, as RequestGuard takes it, comes on top of the
    options of `init_app`; with `optional` among those, a token is needed here all the same.
    """
    required = checked_requirements(**required)
    if view is None:
        return partial(require_token, **required)

    @wraps(view)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        token = authenticate(**required)
        try:
            _guard().check(token)
        except RequestRefusedError as error:
            raise _http_exception(error.refusal) from error
        inside = _in_view.set(True)
        try:
            return current_app.ensure_sync(view)(*args, **kwargs)
        except LateBodyError as late:
            raise _http_exception(late.error.refusal) from late.error
        finally:
            _in_view.reset(inside)

    return guarded


def authenticate(**required: Unpack[Requirements]) -> VerifiedToken | None:
    """Let the current request in and set `g.token`, for a blueprint's `before_request`.

    None is an anonymous request, which the option `optional` lets in. Others are refused as by
    `require_token`.
    """
    guard = _guard()
    before = _admitted(guard)
    try:
        done = before or guard.authenticate(
            method=request.method,
            url=request.url,
            headers=list(request.headers),
            native=request,
        )
        if done.token is not None:
            guard.requiring(**required).check(done.token)
    except RequestRefusedError as error:
        raise _http_exception(error.refusal) from error
    if before is None and done.token is not None:
        _watch_body(partial(_look, guard, done.token))
    request.environ[_KEY] = (guard, done.token)  # not in `g`: a test may keep that for another one
    if done.response_headers:
        after_this_request(partial(_with_headers, done.response_headers))
    g.token = done.token
    return done.token


def _watch_body(look: Callable[[], None]) -> None:
    """Have `look` called with each part of the current request's body."""
    request.environ["wsgi.input"] = WatchedBody(request.environ["wsgi.input"], look)
    if "stream" in vars(request):  # werkzeug keeps it for who asked before, with what it has read
        request.stream = cast("IO[bytes]", WatchedBody(request.stream, look))


def _look(guard: SyncRequestGuard, token: VerifiedToken) -> None:
    """Raise what refuses `token` now, as its request's body may have come slowly."""
    try:
        cast("SyncTokenVerifier", guard.verifier).remaining(token)
    except RequestRefusedError as error:
        error.refusal = guard.refusal(error)
        if _in_view.get():
            raise LateBodyError(error) from None
        raise _http_exception(error.refusal) from error


def _guard() -> SyncRequestGuard:
    guard: SyncRequestGuard | None = current_app.extensions.get(_KEY)
    if guard is None:
        raise ConfigurationError(
            "This application has no verifier; call "
            "jwks_guard.integrations.flask.init_app(app, SyncTokenVerifier(...)) where it is made."
        )
    return guard


def _admitted(guard: SyncRequestGuard) -> Authenticated | None:
    """What let the current request in before."""
    before, token = request.environ.get(_KEY, (None, None))
    return Authenticated(token) if before is guard and token is not None else None


def _http_exception(refusal: Refusal) -> HTTPException:
    response = Response(refusal.body, refusal.status, refusal.fields)
    # Of the class of the status, by which Flask finds the application's error handlers.
    return default_exceptions.get(refusal.status, HTTPException)(response=response)


def _with_headers(headers: tuple[Header, ...], response: Response) -> Response:
    for name, value in headers:
        response.headers[name.decode()] = value.decode()
    return response
