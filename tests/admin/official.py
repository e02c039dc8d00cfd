"""The official client (`auth0-python`) and ours, sync or async behind one face each."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from contextvars import Context
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal, TypeVarTuple

import anyio
import httpx
from anyio.abc import ByteReceiveStream, ByteSendStream, SocketAttribute
from anyio.from_thread import start_blocking_portal
from anyio.streams.tls import TLSListener
from auth0.management import AsyncAuth0, AsyncManagementClient, Auth0, ManagementClient
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from jwks_guard.admin import (
    ClientCredentials,
    SigningKey,
    SigningKeysClient,
    SyncSigningKeysClient,
)
from jwks_guard.testing import LocalTenant
from tests.support import PATIENCE

Flavour = Literal["sync", "async"]
Arguments = TypeVarTuple("Arguments")
Gateway = Callable[[httpx.Request], httpx.Response]

SCOPES = "read:signing_keys create:signing_keys update:signing_keys"


class HurriedLoop(asyncio.SelectorEventLoop):
    """Writes down how long each `asyncio.sleep` is to last, and ends it at once."""

    def __init__(self) -> None:
        super().__init__()
        self.naps: list[float] = []

    def call_later(
        self,
        delay: float,
        callback: Callable[[*Arguments], object],
        *args: *Arguments,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        self.naps.append(delay)
        return super().call_later(0, callback, *args, context=context)


class Official:
    """Its `keys.signing` of either flavour; `naps` are the seconds slept in the last call.

    The sync one really sleeps, and is timed from outside: one nap, with the requests in it.
    """

    def __init__(self, keys: Any, runner: asyncio.Runner | None = None) -> None:
        self._keys = keys
        self._runner = runner
        self.naps: Sequence[float] = ()

    def list(self, **options: Any) -> Any:
        return self._call(self._keys.list, **options)

    def get(self, kid: str, **options: Any) -> Any:
        return self._call(self._keys.get, kid, **options)

    def rotate(self, **options: Any) -> Any:
        return self._call(self._keys.rotate, **options)

    def revoke(self, kid: str, **options: Any) -> Any:
        return self._call(self._keys.revoke, kid, **options)

    def _call(self, method: Callable[..., Any], *args: str, max_retries: int | None = None) -> Any:
        # How often to retry is an option of a call: ManagementClient has no argument for it.
        options = None if max_retries is None else {"max_retries": max_retries}
        began = time.monotonic()
        try:
            result = method(*args, request_options=options)
            return result if self._runner is None else self._runner.run(result)
        finally:
            self.naps = self._naps(time.monotonic() - began)

    def _naps(self, elapsed: float) -> Sequence[float]:
        if self._runner is None:
            return [elapsed]
        loop = self._runner.get_loop()
        assert isinstance(loop, HurriedLoop)
        naps, loop.naps = loop.naps, []
        return naps


class Blocking:
    """Our async client, called from outside its event loop."""

    def __init__(self, keys: SigningKeysClient, runner: asyncio.Runner) -> None:
        self._keys = keys
        self._runner = runner

    def list(self) -> Sequence[SigningKey]:
        return self._runner.run(self._keys.list())

    def get(self, kid: str) -> SigningKey:
        return self._runner.run(self._keys.get(kid))

    def rotate(self) -> SigningKey:
        return self._runner.run(self._keys.rotate())

    def revoke(self, kid: str) -> SigningKey:
        return self._runner.run(self._keys.revoke(kid))


Ours = SyncSigningKeysClient | Blocking


@contextmanager
def ours(flavour: Flavour, tenant: LocalTenant) -> Iterator[Ours]:
    """Our client of either flavour, which fetches its token itself."""
    auth = ClientCredentials(tenant.client_id, tenant.client_secret)
    if flavour == "sync":
        with SyncSigningKeysClient(tenant.issuer, auth=auth) as keys:
            yield keys
        return
    with asyncio.Runner() as runner:
        client = SigningKeysClient(tenant.issuer, auth=auth)
        try:
            yield Blocking(client, runner)
        finally:
            runner.run(client.aclose())


@contextmanager
def official(
    flavour: Flavour,
    tenant: LocalTenant,
    *,
    token: str | None = None,
    timeout: float = PATIENCE,
    gateway: Gateway | None = None,
) -> Iterator[Official]:
    """The client with a token of its own, or with `token`; `gateway` stands before the tenant.

    `base_url` is its public way to another address than https://{domain}/api/v2: here plain HTTP
    on loopback. The `httpx_client` is given so that it can be closed; it has no `close` itself.
    """
    if token is None:
        token = tenant.token(audience=tenant.management_audience, scope=SCOPES)
    address = {"base_url": tenant.issuer + "api/v2", "token": token}
    transport = None if gateway is None else httpx.MockTransport(gateway)
    with _http(flavour, timeout=timeout, transport=transport, trust_env=False) as (http, runner):
        client: Any = Auth0 if flavour == "sync" else AsyncAuth0
        yield Official(client(**address, httpx_client=http).keys.signing, runner)


@contextmanager
def official_with_credentials(
    flavour: Flavour, tenant: LocalTenant, domain: str
) -> Iterator[Official]:
    """The client that fetches its token itself; see `https` for the domain."""
    with _http(flavour, timeout=PATIENCE) as (http, runner):
        kind: Any = ManagementClient if flavour == "sync" else AsyncManagementClient
        client = kind(
            domain=domain,
            client_id=tenant.client_id,
            client_secret=tenant.client_secret,
            audience=tenant.management_audience,
            httpx_client=http,
        )
        yield Official(client.keys.signing, runner)


@contextmanager
def _http(flavour: Flavour, **options: Any) -> Iterator[tuple[Any, asyncio.Runner | None]]:
    if flavour == "sync":
        with httpx.Client(**options) as http:
            yield http, None
        return
    with asyncio.Runner(loop_factory=HurriedLoop) as runner:
        async_http = httpx.AsyncClient(**options)
        try:
            yield async_http, runner
        finally:
            runner.run(async_http.aclose())


@contextmanager
def https(tenant: LocalTenant, certificate: Path) -> Iterator[str]:
    """The domain of a TLS front of the tenant.

    With client credentials the client speaks https only, through an httpx client of its own. It
    trusts the front as it would a company's proxy: by SSL_CERT_FILE, which is to name
    `certificate`. The file is written here.
    """
    certificate.write_bytes(self_signed("127.0.0.1"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    behind = httpx.URL(tenant.issuer).port or 80
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(_front(context, behind)) as port,
    ):
        yield f"127.0.0.1:{port}"


@asynccontextmanager
async def _front(context: ssl.SSLContext, behind: int) -> AsyncIterator[int]:
    async def relay(client: anyio.abc.ByteStream) -> None:
        async with (
            client,
            await anyio.connect_tcp("127.0.0.1", behind) as server,
            anyio.create_task_group() as both,
        ):
            both.start_soon(_pour, client, server, both.cancel_scope)
            both.start_soon(_pour, server, client, both.cancel_scope)

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with anyio.create_task_group() as serving:
        serving.start_soon(TLSListener(listener, context, standard_compatible=False).serve, relay)
        yield listener.extra(SocketAttribute.local_port)
        serving.cancel_scope.cancel()
    await listener.aclose()


async def _pour(source: ByteReceiveStream, sink: ByteSendStream, ends: anyio.CancelScope) -> None:
    try:
        async for chunk in source:
            await sink.send(chunk)
    except (anyio.BrokenResourceError, anyio.ClosedResourceError):
        pass
    ends.cancel()


def self_signed(address: str) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, address)])
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(address))]), False)
        .add_extension(identifier, False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return private + certificate.public_bytes(Encoding.PEM)
