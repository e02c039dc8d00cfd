"""The log-in by OpenID Connect: authorization code flow with PKCE (OpenID Connect Core 1.0)."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeAlias
from urllib.parse import urlencode, urlsplit

from itsdangerous import BadData, URLSafeTimedSerializer

from jwks_guard.asgi.operations_auth import Secrets, static_secrets
from jwks_guard.base.arguments import require_text, url_refusal
from jwks_guard.base.clock import Clock
from jwks_guard.console.access import root_of
from jwks_guard.console.forms import RefusedError, cookie_name, on_loopback
from jwks_guard.console.login import MAX_NAME_CHARS, own_path
from jwks_guard.console.provider import Provider, ProviderError, quoted
from jwks_guard.console.rendering import Role
from jwks_guard.console.sessions import Identity
from jwks_guard.errors import (
    ConfigurationError,
    JWKSGuardError,
    KeysUnavailableError,
    RemovedKeyError,
    RevokedKeyError,
)
from jwks_guard.net.clients import HTTPClient, require_http_client
from jwks_guard.verify.token import VerifiedToken
from jwks_guard.verify.verifier import TokenVerifier

if TYPE_CHECKING:
    from starlette.requests import Request

CALLBACK = "/login/callback"
LOGIN = "login"
"""The name of the cookie that binds a log-in to the browser that began it."""
LOGIN_SECONDS = 600
_SALT = "jwks_guard console log-in"
_NAMES = ("name", "email", "preferred_username", "sub")
_SCOPES = ("openid", "profile", "email")
Claims: TypeAlias = Mapping[str, Any]
Roles: TypeAlias = (
    Callable[[Claims], Role | None] | Mapping[str, Mapping[str, Literal["viewer", "operator"]]]
)


class OpenIDConnect:
    """A log-in at an OpenID Provider.

    Arguments:
        issuer: the provider, to the letter as in its ID tokens.
        client_id: the console's application there.
        client_secret: its secret; None for a public client.
        roles: gives a role for the claims of an ID token: a callable, which returns "viewer",
            "operator" or None, or a mapping by claim and value, as in
            {"groups": {"sre": "operator", "staff": "viewer"}}. An `email` counts only if the
            provider says that it is verified. Do not use claims that people set themselves.
        operator_secret: where the provider's keys are those that the console is about, an action
            also takes this secret: the key that has leaked can sign ID tokens. Without it, such
            log-ins only look.
        redirect_uri: where the provider sends the browser back to, as it is registered there: the
            console's own address and /login/callback. On loopback it follows from the request.
        scopes: what to ask for; openid must be among them.
        http_client: as in TokenVerifier.
        clock: anything with time() and monotonic().

    Raises ConfigurationError for an argument that can't be used.

    """

    def __init__(
        self,
        issuer: str,
        client_id: str,
        client_secret: str | None = None,
        *,
        roles: Roles,
        operator_secret: Secrets | None = None,
        redirect_uri: str | None = None,
        scopes: Collection[str] = _SCOPES,
        http_client: HTTPClient | None = None,
        clock: Clock = time,
    ) -> None:
        require_text("client_id", client_id)
        if client_secret is not None:
            require_text("client_secret", client_secret)
        require_http_client(http_client)
        _require_redirect_uri(redirect_uri)
        if isinstance(scopes, str) or "openid" not in scopes:
            raise ConfigurationError("scopes must be a list with openid in it.")
        self.verifier = TokenVerifier(
            issuer,
            client_id,
            token_types=("JWT", None),
            required_claims=("exp", "iat", "sub"),
            http_client=http_client,
            clock=clock,
        )
        self.issuer = issuer
        self.operator_secret = None if operator_secret is None else static_secrets(operator_secret)
        self._client_id = client_id
        self._roles = _require_roles(roles)
        self._redirect_uri = redirect_uri
        self._scope = " ".join(scopes)
        self._provider = Provider(issuer, client_id, client_secret, http_client, clock)
        self._key = secrets.token_bytes(32)
        self._cookies = URLSafeTimedSerializer(self._key, salt=_SALT)

    async def begin(self, request: Request) -> tuple[str, str]:
        """Where to send the browser, and the cookie that it has to bring back.

        Raises RefusedError.
        """
        redirect_uri = self._redirect_uri_of(request)
        try:
            metadata = await self._provider.metadata()
        except ProviderError as error:
            raise self._failed(error) from None
        state = secrets.token_urlsafe(32)
        parameters = {
            "response_type": "code",
            "client_id": self._client_id,
            "redirect_uri": redirect_uri,
            "scope": self._scope,
            "state": state,
            "nonce": self._derived("nonce", state),
            "code_challenge": _challenge(self._derived("code_verifier", state)),
            "code_challenge_method": "S256",
        }
        endpoint = metadata.authorization_endpoint
        url = f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(parameters)}"
        target = own_path(request.query_params.get("next"))
        cookie = self._cookies.dumps({"state": state, "next": target})
        return url, str(cookie)

    async def finish(self, request: Request) -> tuple[Identity, str]:
        """Who has logged in, and the path of the console to go to; raises RefusedError."""
        state, target = self._begun(request)
        query = request.query_params
        if not hmac.compare_digest(query.get("state", "").encode(), state.encode()):
            raise RefusedError(
                403,
                "This answer of the provider does not belong to the log-in that this browser began "
                "last. You are not logged in. Log in again.",
            )
        try:
            await self._require_issuer(query.get("iss"))
            if "error" in query:
                said = [quoted(query.get(name)) for name in ("error", "error_description")]
                raise ProviderError(f"it refused: {': '.join(filter(None, said))}")
            token = await self._provider.id_token(
                query.get("code", ""),
                verifier=self._derived("code_verifier", state),
                redirect_uri=self._redirect_uri_of(request),
            )
            verified = await self._verified(token, self._derived("nonce", state))
        except ProviderError as error:
            raise self._failed(error) from None
        return self._identity(verified), target

    def withdrawn(self, token: VerifiedToken) -> str | None:
        """Why a log-in by that ID token does not count any more; None while it does."""
        try:
            self.verifier.remaining(token)
        except RevokedKeyError:
            return "The key that signed your ID token is distrusted."
        except RemovedKeyError:
            return "The provider has withdrawn the key that signed your ID token."
        except JWKSGuardError:  # expired, as ID tokens soon are; or the provider does not answer
            return None
        return None

    async def _verified(self, token: str, nonce: str) -> VerifiedToken:
        """The token, verified (section 3.1.3.7); raises RefusedError."""
        try:
            verified = await self.verifier.verify(token)
        except KeysUnavailableError as error:
            raise RefusedError(
                503, f"The provider's keys can't be had: {error} You are not logged in."
            ) from None
        except JWKSGuardError as error:
            raise _not_accepted(str(error)) from None
        claims = verified.claims
        given = claims.get("nonce")
        if not isinstance(given, str) or not hmac.compare_digest(given.encode(), nonce.encode()):
            raise _not_accepted("It was made for another log-in (nonce).")
        audiences = claims["aud"]
        several = not isinstance(audiences, str) and len(audiences) > 1
        if claims.get("azp", None if several else self._client_id) != self._client_id:
            raise _not_accepted("It was issued to another application (azp).")
        if not isinstance(verified.subject, str) or not verified.subject:
            raise _not_accepted("It names nobody (sub).")
        return verified

    def _identity(self, token: VerifiedToken) -> Identity:
        role = self._role_of(token.claims)
        names = (token.claims.get(name) for name in _NAMES)
        name = next((each for each in map(quoted, names) if each), "somebody")
        actor = f"{quoted(token.subject)} of {self.issuer}"
        return Identity(name=name[:MAX_NAME_CHARS], actor=actor, role=role, token=token)

    def _role_of(self, claims: Claims) -> Role:
        roles = self._roles
        if not isinstance(roles, Mapping):
            role = roles(claims)
            if role in ("viewer", "operator"):
                return role
            raise _without_role("The console's settings (`roles`) give no role for your claims.")
        found = {
            role
            for claim, by_value in roles.items()
            for value, role in by_value.items()
            if value in _values(claims, claim)
        }
        if not found:
            ways = "; ".join(
                f"{value!r} in {claim!r} for {role}"
                for claim, by_value in roles.items()
                for value, role in by_value.items()
            )
            raise _without_role(f"Your ID token would need one of: {ways}.")
        return "operator" if "operator" in found else "viewer"

    def _begun(self, request: Request) -> tuple[str, str]:
        """The state of the log-in that this browser began, and where it wanted to go."""
        try:
            cookie = request.cookies[cookie_name(request, LOGIN)]
            begun = self._cookies.loads(cookie, max_age=LOGIN_SECONDS)
            return begun["state"], own_path(begun["next"])
        except (KeyError, BadData):
            raise RefusedError(
                403,
                "This browser has begun no log-in in the last 10 minutes, or it does not keep "
                "cookies. You are not logged in. Log in again.",
            ) from None

    def _redirect_uri_of(self, request: Request) -> str:
        if self._redirect_uri is not None:
            return self._redirect_uri
        if not on_loopback(request):
            raise RefusedError(
                500,
                "The console does not know its own address. Nobody can log in. Give OpenIDConnect "
                "its redirect_uri, as it is registered at the provider.",
            )
        host = request.headers["host"]
        return f"{request.scope['scheme']}://{host}{root_of(request)}{CALLBACK}"

    async def _require_issuer(self, named: str | None) -> None:
        """RFC 9207: an answer of another provider is not taken for one of ours (mix-up)."""
        expected = (await self._provider.metadata()).names_itself
        if named != self.issuer and (expected or named is not None):
            raise RefusedError(
                403, "The answer comes from another provider (iss). You are not logged in."
            )

    def _derived(self, purpose: str, state: str) -> str:
        """A value of this log-in that the cookie does not hold and nobody else can compute."""
        return _base64url(hmac.digest(self._key, f"{purpose} {state}".encode(), "sha256"))

    def _failed(self, error: ProviderError) -> RefusedError:
        return RefusedError(
            502,
            f"The log-in at {self.issuer} failed: {str(error).rstrip('.')}. You are not logged in.",
        )


def _not_accepted(why: str) -> RefusedError:
    return RefusedError(403, f"The ID token is not accepted. {why} You are not logged in.")


def _without_role(why: str) -> RefusedError:
    return RefusedError(403, f"The provider knows you, but you have no role in this console. {why}")


def _require_redirect_uri(uri: object) -> None:
    if uri is None:
        return
    why = url_refusal(uri, query=False)
    if why is None and not urlsplit(str(uri)).path.endswith(CALLBACK):
        why = f"its path does not end in {CALLBACK}"
    if why is not None:
        raise ConfigurationError(
            f"redirect_uri can't be used: {why}. Write the console's address and {CALLBACK}, for "
            f"example 'https://ops.acme.com{CALLBACK}'."
        )


def _require_roles(roles: Any) -> Roles:
    if callable(roles):
        return roles  # type: ignore[no-any-return]
    values = roles.values() if isinstance(roles, Mapping) else [None]
    if not values or not all(
        isinstance(each, Mapping) and each and set(each.values()) <= {"viewer", "operator"}
        for each in values
    ):
        raise ConfigurationError(
            "roles must be a callable of the claims, or a mapping by claim and value, for example "
            '{"groups": {"sre": "operator", "staff": "viewer"}}.'
        )
    return dict(roles)


def _values(claims: Claims, name: str) -> Collection[object]:
    """The values of a claim: itself, or those of an array; none for an address that is anybody's.

    Where people sign up by themselves, one can write the address of another (section 5.7).
    """
    if name == "email" and claims.get("email_verified") is not True:
        return ()
    claim = claims.get(name)
    return claim if isinstance(claim, list | tuple) else (claim,)


def _challenge(verifier: str) -> str:
    return _base64url(hashlib.sha256(verifier.encode()).digest())


def _base64url(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
