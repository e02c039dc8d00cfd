"""A drill on the configured staging tenant, with its fleet and its APIs."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import msgspec

from jwks_guard.admin.auth import Auth, StaticToken
from jwks_guard.base.settings_reader import read_settings
from jwks_guard.cli.incident.drill_traffic import Stage, Traffic
from jwks_guard.cli.incident.target import Target
from jwks_guard.cli.words import counted, printable
from jwks_guard.errors import ConfigurationError, JWKSGuardError, UnavailableError
from jwks_guard.jose.compact import decode_object
from jwks_guard.net.urls import refusal

_PAUSE_SECONDS = 0.05
_ASK_SECONDS = 1.0
_NEEDS = (
    "--drill --staging needs a fleet and access to the Management API as a client: set "
    "JWKS_GUARD_FLEET, and JWKS_GUARD_CLIENT_ID with its secret. Nothing was done."
)
_NO_AUDIENCE = (
    "--drill --staging gets access tokens for the API as its client: set JWKS_GUARD_AUDIENCE, and "
    "allow the client that API. Nothing was done."
)


def require_staging(target: Target, host: str, kid: str, probes: Sequence[str]) -> None:
    """Raise ConfigurationError unless `host` is the configured tenant and all else is there.

    That its name has to be written is what keeps a drill from another tenant.
    """
    if target.session is None or target.fleet is None or target.keys is None:
        raise ConfigurationError(_NEEDS)
    configured = urlsplit(target.session.client.base_url).netloc
    if host.lower() != configured.lower():
        raise ConfigurationError(
            f"--staging {host}: configured is the tenant {configured}. Nothing was done; write "
            "that name if it is the one that the drill is meant for."
        )
    if target.keys.current.kid != kid:
        raise ConfigurationError(
            f"A drill needs tokens of the key, and {kid} is not the current one. Nothing was done; "
            "leave the KID out."
        )
    if not probes:
        raise ConfigurationError(
            "--drill --staging sends requests to your APIs: give --probe URL for each instance, or "
            "for a load balancer. Nothing was done."
        )
    for probe in probes:
        if (why := refusal(probe, http_on_loopback=True)) is not None:
            raise ConfigurationError(f"--probe {probe}: {why}. Nothing was done.")


@asynccontextmanager
async def staging_stage(
    target: Target, kid: str, probes: Sequence[str], config: Path | None, journal: Path | None
) -> AsyncIterator[Stage]:
    """The stage, with a token of the leaked key; raises JWKSGuardError if none can be got."""
    session = target.session
    if session is None:
        raise ConfigurationError(_NEEDS)
    rotation = session.rotation(journal)
    audiences = read_settings(os.environ, config).values.get("audience")
    if not audiences:
        raise ConfigurationError(_NO_AUDIENCE)
    clients = Tokens(session.client.base_url, session.configuration.auth, audiences[0], kid)
    if (leaked := await clients.of_leaked_key()) is None:
        raise ConfigurationError(
            f"The tenant's new tokens are not signed by {kid}. Nothing was done; try it again."
        )
    place = f"{counted(len(probes), 'probe')}; tenant {printable(session.client.base_url)}"
    traffic = Traffic(probes, [leaked], clients.of_new_key, _PAUSE_SECONDS, trust_env=True)
    yield Stage(place, kid, rotation, traffic)


class Tokens:
    """Access tokens for `audience` by client credentials (RFC 6749 section 4.4)."""

    def __init__(self, base_url: str, auth: Auth, audience: str, kid: str) -> None:
        if isinstance(auth, StaticToken):
            raise ConfigurationError(_NEEDS)
        self._base_url = base_url
        self._auth = auth
        self._audience = audience
        self._kid = kid
        self._new: str | None = None
        self._asked = -_ASK_SECONDS

    async def of_leaked_key(self) -> str | None:
        """A token that is signed by it; None if another key signs."""
        token = await self._granted()
        return token if _kid_of(token) == self._kid else None

    async def of_new_key(self) -> str | None:
        """A token that another key has signed; None while there is none."""
        if self._new is None and time.monotonic() - self._asked >= _ASK_SECONDS:
            self._asked = time.monotonic()
            try:
                token = await self._granted()
            except UnavailableError:
                return None
            self._new = token if _kid_of(token) != self._kid else None
        return self._new

    async def _granted(self) -> str:
        body = {
            "grant_type": "client_credentials",
            "client_id": self._auth.client_id,
            "audience": self._audience,
            **self._auth.proof(self._base_url, time.time()),
        }
        async with httpx.AsyncClient() as client:
            try:
                response = await client.post(f"{self._base_url}oauth/token", json=body)
                token = msgspec.json.decode(response.content, type=dict[str, object])[
                    "access_token"
                ]
            except (httpx.HTTPError, msgspec.MsgspecError, ValueError, KeyError):
                token = None
        if not isinstance(token, str):
            raise UnavailableError(
                "The tenant grants its client no access token for JWKS_GUARD_AUDIENCE. Allow the "
                "client that API in the dashboard."
            )
        return token


def _kid_of(token: str) -> object:
    try:
        return decode_object(token.partition(".")[0].encode(), "header").get("kid")
    except JWKSGuardError:
        return None
