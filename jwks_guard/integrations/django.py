"""Guard a Django project, under WSGI and ASGI (extra `django`).

The setting JWKS_GUARD says whose tokens are accepted, with names in capitals: ISSUER, AUDIENCE and
other arguments of SyncTokenVerifier, or VERIFIER, which is one or the dotted path of one; options
of RequestGuard; and EXCLUDE_PATHS, as JWKSGuardMiddleware takes them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial, wraps
from typing import Any, TypeVar, Unpack, overload

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from jwks_guard.asgi.exchange import LateBodyError
from jwks_guard.errors import ConfigurationError, RequestRefusedError
from jwks_guard.integrations.django_guard import project_guard, token_of
from jwks_guard.verify.request import Requirements, checked_requirements
from jwks_guard.verify.sync import SyncTokenVerifier
from jwks_guard.verify.token import VerifiedToken

View = TypeVar("View", bound=Callable[..., Any])


class DjangoGuardMiddleware:
    """Lets through only requests whose bearer token the verifier of JWKS_GUARD accepts.

    Others are answered with 400, 401, 403, 429 or 503, as by JWKSGuardMiddleware. `request.token`
    is the VerifiedToken, or None for an anonymous request, which only EXCLUDE_PATHS and OPTIONAL
    let pass. Put it behind a CORS middleware, which answers preflights. Under ASGI it awaits a
    fetch of keys, unless a middleware behind it can do no more than block.

    Raises ConfigurationError at the start for a setting that can't be used.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self._get_response = get_response
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)
        project_guard()

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        """The response to `request`; under ASGI it has to be awaited."""
        if self._is_async:
            return self._awaited(request)
        guard = project_guard()
        try:
            excluded = guard.pass_excluded(request)
            done = excluded or guard.admit(request)
        except RequestRefusedError as error:
            return _refused(error)
        try:
            response: HttpResponseBase = self._get_response(request)
        except LateBodyError as late:
            return _refused(late.error)
        return response if excluded else guard.complete(done, response)

    async def _awaited(self, request: HttpRequest) -> HttpResponseBase:
        guard = project_guard()
        try:
            excluded = guard.pass_excluded(request)
            done = excluded or await guard.admit_async(request)
        except RequestRefusedError as error:
            return _refused(error)
        response: HttpResponseBase = await self._get_response(request)
        return response if excluded else guard.complete(done, response)


@overload
def require_token(view: View, /) -> View: ...
@overload
def require_token(**required: Unpack[Requirements]) -> Callable[[View], View]: ...
def require_token(view: Any = None, /, **required: Unpack[Requirements]) -> Any:
    """A view that needs a token, with or without the middleware, and although OPTIONAL is set.

    It takes sync and async views; `method_decorator(require_token, name="dispatch")` those of a
    class. What is required, as RequestGuard takes it, comes on top of the setting.
    """
    required = checked_requirements(**required)
    if view is None:
        return partial(require_token, **required)

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        guard = project_guard()
        try:
            done = guard.admit(request)
            guard.check(done.token, **required)
        except RequestRefusedError as error:
            return _refused(error)
        try:
            return guard.complete(done, view(request, *args, **kwargs))
        except LateBodyError as late:
            return _refused(late.error)

    @wraps(view)
    async def awaited(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        guard = project_guard()
        try:
            done = await guard.admit_async(request)
            guard.check(done.token, **required)
        except RequestRefusedError as error:
            return _refused(error)
        return guard.complete(done, await view(request, *args, **kwargs))

    return awaited if _is_async(view) else guarded


def get_token(request: HttpRequest) -> VerifiedToken:
    """The token of a request that was let in; raises ConfigurationError for an anonymous one."""
    token = token_of(request)
    if token is None:
        raise ConfigurationError(
            "This request has no verified token. Put @require_token on its view; where requests "
            "may be anonymous, look at request.token, which is None then."
        )
    return token


def get_verifier() -> SyncTokenVerifier:
    """The verifier of JWKS_GUARD in this process, to distrust a key or to show its health."""
    return project_guard().verifier


def _is_async(view: Any) -> bool:
    """Whether `view` is awaited, as the `dispatch` of an async class is: a plain function."""
    owner = getattr(getattr(view, "func", None), "__self__", None)  # method_decorator binds it so
    return iscoroutinefunction(view) or bool(getattr(owner, "view_is_async", False))


def _refused(error: RequestRefusedError) -> HttpResponse:
    refusal = error.refusal
    return HttpResponse(refusal.body, status=refusal.status, headers=refusal.fields)
