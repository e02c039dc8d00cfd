"""The token endpoint: client credentials and authorization codes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse
from starlette.routing import Route

from jwks_guard.testing.client_auth import ClientAuthentication
from jwks_guard.testing.oauth_form import OAuthError, token_parameters
from jwks_guard.testing.profile import edited
from jwks_guard.testing.settings import TOKEN_PATH
from jwks_guard.testing.tokens import access_token_claims, access_token_header, sign
from jwks_guard.testing.users import id_token_claims, user_audience

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from jwks_guard.testing.codes import Codes
    from jwks_guard.testing.keyring import Keyring
    from jwks_guard.testing.settings import Settings

MANAGEMENT_SCOPES = ("read:signing_keys", "create:signing_keys", "update:signing_keys")
_NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}


class TokenEndpoint:
    """Grants tokens to the tenant's one client."""

    def __init__(self, settings: Settings, keyring: Keyring, codes: Codes) -> None:
        self._settings = settings
        self._keyring = keyring
        self._codes = codes
        self._client = ClientAuthentication(settings)

    @property
    def route(self) -> Route:
        """Where clients ask for a token."""
        return Route(TOKEN_PATH, self.answer, methods=["POST"])

    async def answer(self, request: Request) -> Response:
        """A token, or the reason why there is none."""
        try:
            body = self._grant(request, await token_parameters(request))
        except OAuthError as refusal:
            return refusal.response
        return JSONResponse(body, headers=_NO_STORE)

    def _grant(self, request: Request, parameters: Mapping[str, str]) -> dict[str, Any]:
        match parameters.get("grant_type"):
            case "client_credentials":
                self._client.check(request, parameters)
                return self._granted(self._machine_claims(parameters.get("audience")))
            case "authorization_code":
                return self._user_grant(request, parameters)
        raise OAuthError(403, "unauthorized_client", "Grant type not allowed for the client.")

    def _user_grant(self, request: Request, parameters: Mapping[str, str]) -> dict[str, Any]:
        settings = self._settings
        if self._client.is_attempted(request, parameters):
            self._client.check(request, parameters)
        elif parameters.get("client_id") != settings.client_id:
            raise OAuthError(401, "invalid_client", "client_id is not that of the tenant's client.")
        elif "code_verifier" not in parameters:
            # Else a stolen code would be enough (RFC 7636 section 1).
            raise OAuthError(401, "invalid_client", "Send code_verifier or the client's secret.")
        login = self._codes.redeem(parameters)
        audience = user_audience(settings, login)
        granted = self._granted(
            access_token_claims(settings, sub=login.sub, audience=audience, scope=login.scope)
        )
        if "openid" in login.scopes:
            granted["id_token"] = self._signed(id_token_claims(settings, login))
        return granted

    def _granted(self, claims: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "access_token": self._signed(claims),
            "scope": claims["scope"],
            "expires_in": claims["exp"] - claims["iat"],
            "token_type": "Bearer",
        }

    def _signed(self, claims: Mapping[str, Any]) -> str:
        key = self._keyring.by_status("current")
        return sign(key, header=access_token_header(key), claims=edited(claims, None))

    def _machine_claims(self, audience: str | None) -> dict[str, Any]:
        settings = self._settings
        scopes = {
            settings.management_audience: " ".join(MANAGEMENT_SCOPES),
            **dict.fromkeys(settings.audiences, "read:things write:things"),
        }
        if audience not in scopes:
            raise OAuthError(403, "access_denied", "Service not found.")
        subject = f"{settings.client_id}@clients"
        claims = access_token_claims(
            settings, sub=subject, audience=audience, scope=scopes[audience]
        )
        return {**claims, "gty": "client-credentials"}
