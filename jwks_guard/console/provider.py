"""What the console asks an OpenID Provider: its metadata, and the ID token for a code."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import quote_plus, urlencode

from jwks_guard.base.clock import EPOCH, Clock, Instant
from jwks_guard.jose.compact import json_document
from jwks_guard.net import urls
from jwks_guard.net.clients import Clients, HTTPClient
from jwks_guard.net.exchange import USER_AGENT, ExchangeError, Reply, exchange, new_request

_SECONDS = 10.0
_CONNECT_SECONDS = 5.0
_MAX_BYTES = 262_144
_KEEP_SECONDS = 3600.0
_MAX_QUOTED = 300
_JSON = {"accept": "application/json", "accept-encoding": "gzip, deflate", "user-agent": USER_AGENT}


class ProviderError(Exception):
    """The provider gave no answer that can be used; the text says why, without secrets."""


@dataclass(frozen=True, slots=True)
class Metadata:
    """Where a log-in goes (OpenID Connect Discovery 1.0 section 3), and what comes back.

    `names_itself`: each answer has `iss` (RFC 9207). `takes_post`: the client may send its secret
    in the form.
    """

    authorization_endpoint: str
    token_endpoint: str
    names_itself: bool
    takes_post: bool


@dataclass(slots=True)
class Provider:
    """The OpenID Provider `issuer` and its client. Without a secret the client is a public one."""

    issuer: str
    client_id: str
    client_secret: str | None = field(repr=False)
    http_client: HTTPClient | None
    clock: Clock
    _clients: Clients = field(init=False)
    _metadata: Metadata | None = field(init=False, default=None)
    _ask_again: Instant = field(init=False, default=EPOCH)

    def __post_init__(self) -> None:
        self._clients = Clients(self.http_client)

    async def metadata(self) -> Metadata:
        """The provider's metadata, asked for hourly; raises ProviderError."""
        now = Instant.now(self.clock)
        if self._metadata is None or self._ask_again.reached(now):
            reply = await self._exchanged("GET", urls.discovery_url(self.issuer), {}, None)
            self._metadata = _metadata(self.issuer, _document(reply, "its metadata"))
            self._ask_again = now.shifted(_KEEP_SECONDS)
        return self._metadata

    async def id_token(self, code: str, *, verifier: str, redirect_uri: str) -> str:
        """The ID token for `code` (RFC 6749 section 4.1.3, RFC 7636); raises ProviderError."""
        metadata = await self.metadata()
        fields = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": verifier,
        }
        headers = self._authenticated(fields, by_post=metadata.takes_post)
        form = urlencode(fields).encode()
        reply = await self._exchanged("POST", metadata.token_endpoint, headers, form)
        token = _document(reply, "the token request").get("id_token")
        if not isinstance(token, str):
            raise ProviderError("its answer has no ID token; the scope openid may be missing")
        return token

    def _authenticated(self, fields: dict[str, str], *, by_post: bool) -> dict[str, str]:
        """The headers of a token request; adds what names the client to `fields`."""
        secret = self.client_secret
        headers = {"content-type": "application/x-www-form-urlencoded"}
        if secret is None:
            fields["client_id"] = self.client_id
        elif by_post:
            fields |= {"client_id": self.client_id, "client_secret": secret}
        else:  # RFC 6749 section 2.3.1
            pair = f"{quote_plus(self.client_id)}:{quote_plus(secret)}"
            headers["authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        return headers

    async def _exchanged(
        self, method: str, url: str, headers: Mapping[str, str], content: bytes | None
    ) -> Reply:
        try:
            async with self._clients.opened() as client:
                return await exchange(
                    client,
                    new_request(method, url, {**_JSON, **headers}, content),
                    timeout=_SECONDS,
                    connect_timeout=_CONNECT_SECONDS,
                    limit=_MAX_BYTES,
                    any_status=True,
                )
        except ExchangeError as error:
            raise ProviderError(f"it can't be reached: {error}") from None


def quoted(text: object) -> str:
    """What a provider says, short and on one line, for people."""
    shown = text if isinstance(text, str) else ""
    return "".join(each if each.isprintable() else " " for each in shown[:_MAX_QUOTED])


def _metadata(issuer: str, document: Mapping[str, Any]) -> Metadata:
    if document.get("issuer") != issuer:
        raise ProviderError(
            f"its metadata name the issuer {quoted(document.get('issuer'))!r}, and {issuer!r} is "
            "configured"
        )
    loopback = urls.is_loopback(issuer)
    for name in ("authorization_endpoint", "token_endpoint"):
        url = document.get(name)
        why = "it is missing" if not isinstance(url, str) else None
        why = why or urls.refusal(str(url), http_on_loopback=loopback)
        if why is not None:
            raise ProviderError(f"its {name} can't be used: {why}")
    methods = document.get("token_endpoint_auth_methods_supported")
    return Metadata(
        authorization_endpoint=document["authorization_endpoint"],
        token_endpoint=document["token_endpoint"],
        names_itself=document.get("authorization_response_iss_parameter_supported") is True,
        takes_post=isinstance(methods, list) and "client_secret_post" in methods,
    )


def _document(reply: Reply, asked: str) -> Mapping[str, Any]:
    try:
        document = json_document(reply.body)
    except ValueError:
        document = {}
    if reply.status != HTTPStatus.OK:
        said = ": ".join(
            quoted(document[name]) for name in ("error", "error_description") if name in document
        )
        raise ProviderError(f"it answered {reply.status} to {asked}{f' ({said})' if said else ''}")
    if not document:
        raise ProviderError(f"it answered {asked} with no JSON object")
    return document
