"""The authorization endpoint: a login page of one button, and back with a code.

Authorization code flow (RFC 6749 section 4.1) with PKCE, method S256 (RFC 7636), for the tenant's
one client. A login ends at a loopback address only: the tenant is no way to anywhere else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from jwks_guard.testing.codes import Codes, Login, is_challenge
from jwks_guard.testing.oauth_form import single_parameters
from jwks_guard.testing.origins import has_own_host, is_loopback_uri, is_same_origin
from jwks_guard.testing.pages import login_page, refusal_page
from jwks_guard.testing.profile import DEFAULT_SUBJECT
from jwks_guard.testing.settings import AUTHORIZE_PATH

if TYPE_CHECKING:
    from starlette.requests import Request

    from jwks_guard.testing.settings import Settings

# Never granted: the tenant has no refresh tokens.
_NOT_GRANTED = {"offline_access"}
_SCOPE = re.compile(r"[!#-\[\]-~ ]*")  # RFC 6749 section 3.3
_FOREIGN_HOST = "Open this page at the tenant's own address, which `--issuer` sets."


class _RefusedError(Exception):
    """An error that goes back to the client (RFC 6749 section 4.1.2.1)."""

    def __init__(self, error: str, description: str) -> None:
        super().__init__(description)
        self.parameters = {"error": error, "error_description": description}


def authorize_routes(settings: Settings, codes: Codes) -> list[Route]:
    """Show the login page, and take its form."""

    async def show(request: Request) -> Response:
        if not has_own_host(request, settings):
            return refusal_page(_FOREIGN_HOST)
        return _answer(settings, request.scope["query_string"], _page)

    async def log_in(request: Request) -> Response:
        if not has_own_host(request, settings):
            return refusal_page(_FOREIGN_HOST)
        if not is_same_origin(request):
            return refusal_page("The form was sent by a page that is not the tenant's.", 403)
        return _answer(
            settings,
            await request.body(),
            lambda parameters, login: _redirect(parameters, {"code": codes.issue(login)}),
        )

    return [
        Route(AUTHORIZE_PATH, show, methods=["GET"]),
        Route(AUTHORIZE_PATH, log_in, methods=["POST"]),
    ]


def _answer(
    settings: Settings, encoded: bytes, agreed: Callable[[Mapping[str, str], Login], Response]
) -> Response:
    try:
        parameters = single_parameters(encoded)
        _require_redirectable(settings, parameters)
    except ValueError as error:
        return refusal_page(f"{error}.")
    try:
        return agreed(parameters, _requested(settings, parameters))
    except _RefusedError as refusal:
        return _redirect(parameters, refusal.parameters)


def _require_redirectable(settings: Settings, parameters: Mapping[str, str]) -> None:
    # Before this nothing may be redirected (RFC 6749 section 3.1.2.4): not an error either.
    if parameters.get("client_id") != settings.client_id:
        raise ValueError("client_id is not that of this tenant's client")
    if not is_loopback_uri(parameters.get("redirect_uri", "")):
        raise ValueError(
            "redirect_uri has to be an http or https URL at localhost, 127.0.0.1 or [::1], at any"
            " port, without a fragment"
        )


def _requested(settings: Settings, parameters: Mapping[str, str]) -> Login:
    get = parameters.get
    scope, challenge = get("scope", ""), get("code_challenge")
    audience = get("audience", settings.audience)
    if get("response_type") != "code":
        raise _RefusedError("unsupported_response_type", "response_type has to be code")
    if get("response_mode", "query") != "query":
        raise _RefusedError("invalid_request", "response_mode has to be query")
    if get("prompt") == "none":
        raise _RefusedError("login_required", "Nobody stays logged in here")
    if not _SCOPE.fullmatch(scope):
        raise _RefusedError("invalid_scope", "scope has a character that no scope can have")
    if audience not in settings.audiences:
        raise _RefusedError("access_denied", "audience is not one of this tenant's APIs")
    if challenge is not None and get("code_challenge_method") != "S256":
        raise _RefusedError("invalid_request", "code_challenge_method has to be S256")
    if challenge is not None and not is_challenge(challenge):
        raise _RefusedError("invalid_request", "code_challenge is not a SHA-256 in base64url")
    return Login(
        sub=get("sub", DEFAULT_SUBJECT),
        scope=" ".join(each for each in scope.split() if each not in _NOT_GRANTED),
        audience=audience,
        redirect_uri=parameters["redirect_uri"],
        nonce=get("nonce"),
        code_challenge=challenge,
    )


def _page(parameters: Mapping[str, str], login: Login) -> Response:
    hidden = {name: value for name, value in parameters.items() if name not in ("sub", "scope")}
    return login_page(
        hidden,
        sub=login.sub,
        scope=login.scope,
        audience=login.audience,
        redirect_uri=login.redirect_uri,
    )


def _redirect(parameters: Mapping[str, str], answer: Mapping[str, str]) -> Response:
    state = {name: parameters[name] for name in ("state",) if name in parameters}
    uri = parameters["redirect_uri"]
    separator = "&" if "?" in uri else "?"
    # 303: the browser leaves the form behind (RFC 9700 section 4.12).
    return RedirectResponse(uri + separator + urlencode({**answer, **state}), 303)
