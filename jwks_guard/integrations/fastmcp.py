"""FastMCP servers (extra `mcp`, and `pip install fastmcp`): a guard that is their `auth`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Unpack

from fastmcp.server.auth import AccessToken, TokenVerificationError, TokenVerifier
from starlette.middleware import Middleware

from jwks_guard.asgi import JWKSGuardMiddleware, RequestVerifier, ResourceMetadata
from jwks_guard.errors import KeysUnavailableError
from jwks_guard.integrations.mcp import MCPTokenVerifier

if TYPE_CHECKING:
    from starlette.routing import Route

    from jwks_guard.verify.request import GuardOptions


class FastMCPGuard(TokenVerifier):
    """The `auth` of a FastMCP server: puts JWKSGuardMiddleware around the apps that it makes.

    So refusals are the middleware's, an outage 503 and a throttled look-up 429. Custom routes need
    a token, too: name those that do not in `exclude_paths`. As the `token_verifier` of another
    provider (RemoteAuthProvider, MultiAuth) it only verifies: there what is refused is FastMCP's
    401 and an outage 500.

    Arguments:
        verifier: a TokenVerifier or MultiIssuerVerifier.
        exclude_paths: as of JWKSGuardMiddleware.
        options: those of JWKSGuardMiddleware. With what `protected_resource_metadata` gives as
            `resource_metadata` clients find the issuer by themselves.

    Raises ConfigurationError for an argument that can't be used, such as `token_from`: FastMCP
    reads the Authorization header alone.

    """

    def __init__(
        self,
        verifier: RequestVerifier,
        *,
        exclude_paths: Iterable[str] = (),
        **options: Unpack[GuardOptions],
    ) -> None:
        super().__init__(required_scopes=list(options.get("required_scopes", ())))
        metadata = options.get("resource_metadata")
        self._metadata = metadata if isinstance(metadata, ResourceMetadata) else None
        resource = None if self._metadata is None else self._metadata.resource
        self._tokens = MCPTokenVerifier(verifier, resource=resource, **options)
        self._guard = Middleware(
            JWKSGuardMiddleware, verifier=verifier, exclude_paths=exclude_paths, **options
        )

    async def verify_token(self, token: str) -> AccessToken | None:
        """What FastMCP may know of `token`; None for one that is not accepted.

        Raises TokenVerificationError where that can't be told now.
        """
        try:
            found = await self._tokens.verify_token(token)
        except KeysUnavailableError as error:
            raise TokenVerificationError(str(error)) from error
        return None if found is None else AccessToken(**dict(found))

    def get_middleware(self) -> list[Any]:
        """The guard, and inside of it what tells FastMCP whose request it is."""
        return [self._guard, *super().get_middleware()]

    def get_routes(self, mcp_path: str | None = None) -> list[Route]:
        """The route of the metadata; `get_well_known_routes` is for an outer app."""
        self.set_mcp_path(mcp_path)
        return [] if self._metadata is None else [self._metadata.route]
