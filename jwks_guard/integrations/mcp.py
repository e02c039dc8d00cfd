"""MCP servers of the official SDK (extra `mcp`): JWKSGuardMiddleware refuses, this names the party.

The SDK knows only "good" or "401" of a token. The middleware around its app answers everything else
in the right words; MCPTokenVerifier tells the SDK whose request it is, to which it ties sessions.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Unpack

from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings

from jwks_guard.errors import ConfigurationError, KeysUnavailableError, RequestRefusedError
from jwks_guard.verify.request import GuardOptions, RequestGuard

if TYPE_CHECKING:
    from jwks_guard.asgi import ResourceMetadata
    from jwks_guard.verify.request import Verifier
    from jwks_guard.verify.token import VerifiedToken


class MCPTokenVerifier:
    """The `token_verifier` of an MCPServer.

    Put a JWKSGuardMiddleware with the same verifier around the server's app. It refuses what is to
    be refused, before the SDK looks at a token; verifying it a second time is a look into the
    verifier's cache. Without the middleware every refusal is the SDK's 401, and an outage a 500.

    Arguments:
        verifier: a TokenVerifier or MultiIssuerVerifier.
        resource: the URL of this server, as in AuthSettings.resource_server_url. AccessToken has it
            as its `resource` where the token's `aud` names it. Without it, that is the `aud` of a
            token that has only one.
        options: those of RequestGuard that say what a token must grant, where no middleware does.

    Raises ConfigurationError for an argument that can't be used, such as `token_from`: the SDK
    reads the Authorization header, and what the guard verified must be what a tool sees.

    """

    def __init__(
        self, verifier: Verifier, *, resource: str | None = None, **options: Unpack[GuardOptions]
    ) -> None:
        if options.get("token_from") is not None:
            raise ConfigurationError(
                "token_from can't be set here: the MCP SDK reads the Authorization header alone."
            )
        self._guard = RequestGuard(verifier, **options)
        self._resource = resource

    async def verify_token(self, token: str) -> AccessToken | None:
        """What the SDK may know of `token`; None for one that is not accepted, which it calls 401.

        Raises KeysUnavailableError or LookUpThrottledError where that can't be told: a 401 would
        have clients throw away a good token.
        """
        try:
            verified = await self._guard.verifier.verify(token)
            self._guard.check(verified)
        except KeysUnavailableError:
            raise
        except RequestRefusedError:
            return None
        expires_at = verified.expires_at
        return AccessToken(
            token=token,
            client_id=_party(verified, token),
            scopes=sorted(verified.scopes),
            expires_at=None if expires_at is None else int(expires_at),
            resource=_resource(verified, self._resource),
            subject=verified.subject,
            claims=verified.to_dict(),
        )


def auth_settings(metadata: ResourceMetadata) -> AuthSettings:
    """The `auth` of an MCPServer at the resource of `metadata`.

    What a token must grant is for the guard's `required_scopes`: its 403 names them. The audience
    is checked by the verifier.
    """
    return AuthSettings.model_validate(
        {
            "issuer_url": metadata.authorization_servers[0],
            "resource_server_url": metadata.resource,
            "validate_token_resource": False,
        }
    )


def _party(verified: VerifiedToken, compact: str) -> str:
    """The client; for a token that names none its subject.

    One that names neither is a party of its own: the SDK ties a session to client, issuer and
    subject, and without the first and last all such tokens could use each other's sessions.
    """
    return verified.client_id or verified.subject or sha256(compact.encode()).hexdigest()


def _resource(verified: VerifiedToken, resource: str | None) -> str | None:
    """The audience that is `resource` (a slash at its end aside, as the SDK has it)."""
    audience = verified.claims.get("aud", ())
    audiences = (audience,) if isinstance(audience, str) else audience
    if resource is None:
        return audiences[0] if len(audiences) == 1 else None
    plain = resource.removesuffix("/")
    return next((each for each in audiences if each.removesuffix("/") == plain), None)
