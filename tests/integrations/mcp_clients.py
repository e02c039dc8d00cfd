"""Clients of the MCP SDK, with a token or with the means to get one from the tenant."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs

import httpx2
import pytest
from mcp import Client
from mcp.client.auth.extensions.client_credentials import ClientCredentialsOAuthProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import OAuthClientInformationFull, OAuthToken
from mcp.shared.exceptions import MCPError

from tests.integrations.mcp_serving import Served
from tests.support import PATIENCE

REFUSED = "Server returned an error response"
"""What the SDK's client makes of every status from 400 on but 404."""


class Storage:
    """What the SDK's client remembers of its authorization."""

    def __init__(self, token: str | None = None) -> None:
        self.tokens = None if token is None else OAuthToken(access_token=token)

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return None

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        raise AssertionError("the tenant registers nobody")


class ByClientCredentials(ClientCredentialsOAuthProvider):
    """The SDK's own flow, with the `audience` that this tenant wants to be asked for."""

    async def _exchange_token_client_credentials(self) -> httpx2.Request:
        request = await super()._exchange_token_client_credentials()
        sent = {name: values[0] for name, values in parse_qs(request.content.decode()).items()}
        headers = {
            name: value for name, value in request.headers.items() if name == "authorization"
        }
        data = {**sent, "audience": sent["resource"]}
        return httpx2.Request("POST", request.url, data=data, headers=headers)


def authorized(server: Served, token: str | None = None) -> tuple[ByClientCredentials, Storage]:
    """The authorization of a client that is registered at the tenant, and may have a token."""
    storage = Storage(token)
    tenant = server.tenant
    provider = ByClientCredentials(
        server.url, storage, tenant.client_id, tenant.client_secret, issuer=tenant.issuer
    )
    return provider, storage


@asynccontextmanager
async def sdk_client(
    server: Served, auth: httpx2.Auth | str, mode: str = "auto"
) -> AsyncIterator[Client]:
    headers = {"Authorization": f"Bearer {auth}"} if isinstance(auth, str) else {}
    async with (
        httpx2.AsyncClient(
            headers=headers,
            auth=None if isinstance(auth, str) else auth,
            trust_env=False,
            timeout=PATIENCE,
        ) as http,
        Client(streamable_http_client(server.url, http_client=http), mode=mode) as client,
    ):
        yield client


async def identity(
    server: Served, auth: httpx2.Auth | str, mode: str = "auto", *, tool: str = "whoami"
) -> dict[str, Any]:
    """What the tool says to a client of the SDK."""
    async with sdk_client(server, auth, mode) as client:
        result = await client.call_tool(tool, {})
    said: dict[str, Any] = result.structured_content
    return said


async def failure(server: Served, auth: httpx2.Auth | str) -> str:
    """What a client of the SDK is told."""
    with pytest.RaisesGroup(
        pytest.RaisesExc(MCPError), flatten_subgroups=True, allow_unwrapped=True
    ) as caught:
        await identity(server, auth)
    (error,) = leaves(caught.value)
    return str(error)


def leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for each in error.exceptions for leaf in leaves(each)]
    return [error]
