"""The guard that the setting JWKS_GUARD makes of a Django project: one for sync and async code."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from difflib import get_close_matches
from functools import cache
from typing import Any, Unpack, cast

from django.conf import settings
from django.core.signals import setting_changed
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.cache import patch_vary_headers
from django.utils.module_loading import import_string

from jwks_guard.asgi.exchange import LateBodyError
from jwks_guard.asgi.paths import excluded_paths
from jwks_guard.errors import ConfigurationError, Refusal, RequestRefusedError
from jwks_guard.integrations.wsgi_body import WatchedBody
from jwks_guard.verify.any_loop import AnyLoopVerifier
from jwks_guard.verify.request import (
    ANONYMOUS,
    Authenticated,
    GuardOptions,
    RequestGuard,
    Requirements,
    SyncRequestGuard,
)
from jwks_guard.verify.sources import varying
from jwks_guard.verify.sync import SyncTokenVerifier
from jwks_guard.verify.token import VerifiedToken
from jwks_guard.verify.verifier import VerifierOptions

_KEY = "_jwks_guard"
_OPTIONS = (*VerifierOptions.__annotations__, *GuardOptions.__annotations__)
_NAMES = ("ISSUER", "AUDIENCE", "VERIFIER", "EXCLUDE_PATHS", *map(str.upper, _OPTIONS))


class DjangoGuard:
    """Lets in requests whose token `verifier` accepts, in threads and on event loops.

    A request keeps the token that it was let in with: the next call for it verifies nothing.
    """

    def __init__(
        self, verifier: SyncTokenVerifier, exclude_paths: Collection[str], options: GuardOptions
    ) -> None:
        self.verifier = verifier
        self._excluded = excluded_paths(exclude_paths)
        self._guard = SyncRequestGuard(verifier, **options)
        self._async_guard = RequestGuard(AnyLoopVerifier(verifier), **options)
        self._varying = varying(self._guard.sources)

    def pass_excluded(self, request: HttpRequest) -> Authenticated | None:
        """What lets in a request whose path is excluded; None for others.

        `path_info` is what Django matches its URL patterns with, to the letter.
        """
        covered = self._excluded.cover_path(request.path_info)
        return self._noted(request, ANONYMOUS) if covered else None

    def admit(
        self,
        request: HttpRequest,
        late: Callable[[RequestRefusedError], BaseException] = LateBodyError,
    ) -> Authenticated:
        """Let `request` in and set its `token`; raises RequestRefusedError.

        Under WSGI a view reads the body from the client. It raises what `late` makes of the error
        once the token is refused.
        """
        done = self._admitted(request)
        if done is None:
            done = self._guard.authenticate(**_parts(request))
            if done.token is not None and hasattr(request, "environ"):
                self._watch_body(request, done.token, late)
        return self._noted(request, done)

    async def admit_async(self, request: HttpRequest) -> Authenticated:
        """Let `request` in as `admit` does, without blocking the event loop."""
        done = self._admitted(request) or await self._async_guard.authenticate(**_parts(request))
        return self._noted(request, done)

    def check(self, token: VerifiedToken | None, **required: Unpack[Requirements]) -> None:
        """Raise RequestRefusedError unless there is a token that meets what is `required`."""
        self._guard.requiring(**required).check(token)

    def complete(self, done: Authenticated, response: HttpResponseBase) -> HttpResponseBase:
        """Set the headers that belong into the response to a request that was let in."""
        for name, value in done.response_headers:
            response.headers[name.decode()] = value.decode()
        # Or Django's cache gives one user's page to the next, and to requests without a token.
        patch_vary_headers(response, self._varying)
        return response

    def refusal(self, error: RequestRefusedError) -> Refusal:
        """The answer to a request that failed with `error`."""
        return self._guard.refusal(error)

    def _watch_body(
        self,
        request: HttpRequest,
        token: VerifiedToken,
        late: Callable[[RequestRefusedError], BaseException],
    ) -> None:
        def look() -> None:  # without `request`: a cycle would keep it until it is collected
            try:
                self.verifier.remaining(token)
            except RequestRefusedError as error:
                error.refusal = self.refusal(error)
                raise late(error) from None

        # The second one was made of the first, by methods that it had then.
        environ = vars(request)["environ"]
        environ["wsgi.input"] = WatchedBody(environ["wsgi.input"], look)
        vars(request)["_stream"] = WatchedBody(vars(request)["_stream"], look)

    def _admitted(self, request: HttpRequest) -> Authenticated | None:
        guard, token = vars(request).get(_KEY, (None, None))
        return Authenticated(token) if guard is self and token is not None else None

    def _noted(self, request: HttpRequest, done: Authenticated) -> Authenticated:
        vars(request).update({"token": done.token, _KEY: (self, done.token)})
        return done


def token_of(request: HttpRequest) -> VerifiedToken | None:
    """The token that `request` was let in with, if any."""
    token: VerifiedToken | None = vars(request).get(_KEY, (None, None))[1]
    return token


@cache
def project_guard() -> DjangoGuard:
    """The guard that the setting JWKS_GUARD makes, once per process; raises ConfigurationError."""
    given = getattr(settings, "JWKS_GUARD", None)
    if not isinstance(given, Mapping) or not all(name.isupper() for name in given):
        raise ConfigurationError(
            "The setting JWKS_GUARD must be a dict with names in capitals, like "
            '{"ISSUER": "https://acme.eu.auth0.com/", "AUDIENCE": "https://api.acme.com"}.'
        )
    for name in given.keys() - set(_NAMES):
        near = get_close_matches(name, _NAMES, n=1)
        instead = f"did you mean {near[0]}?" if near else "correct the name, or remove it."
        raise ConfigurationError(f"The setting JWKS_GUARD takes no {name}: {instead}")
    arguments = {name.lower(): value for name, value in given.items()}
    exclude_paths = arguments.pop("exclude_paths", ())
    names = GuardOptions.__annotations__.keys() & arguments.keys()
    options = cast(GuardOptions, {name: arguments.pop(name) for name in names})
    return DjangoGuard(_verifier(arguments), exclude_paths, options)


def _verifier(arguments: dict[str, Any]) -> SyncTokenVerifier:
    if "verifier" not in arguments:
        missing = [name.upper() for name in ("issuer", "audience") if name not in arguments]
        if missing:
            raise ConfigurationError(
                f"The setting JWKS_GUARD has no {' and no '.join(missing)}: add it, or give a "
                "VERIFIER instead of both."
            )
        return SyncTokenVerifier(**arguments)
    verifier = arguments.pop("verifier")
    if arguments:
        raise ConfigurationError(
            f"The setting JWKS_GUARD has VERIFIER and {', '.join(arguments).upper()}: give the "
            "latter to the verifier where it is made."
        )
    if isinstance(verifier, str):
        verifier = import_string(verifier)
    if not isinstance(verifier, SyncTokenVerifier):
        raise ConfigurationError(
            "The setting JWKS_GUARD: VERIFIER must be a SyncTokenVerifier, or the dotted path of "
            "one; it serves async views, too."
        )
    return verifier


def _forget(*, setting: str, **_: object) -> None:
    """Make the guard anew: a test has changed the setting."""
    if setting == "JWKS_GUARD":
        project_guard.cache_clear()


setting_changed.connect(_forget)


def _parts(request: HttpRequest) -> dict[str, Any]:
    return {
        "method": request.method,
        "url": request.build_absolute_uri(),
        "headers": request.headers,
        "native": request,
    }
