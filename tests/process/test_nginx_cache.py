"""nginx as a cache in front of the issuer: what its answers show of their age."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from jwks_guard import KeyStore, KeysUnavailableError
from jwks_guard.keys.health import HIDDEN_AGE
from jwks_guard.testing import LocalTenant
from tests.process.programs import require_program
from tests.support import JWKS, PATIENCE

pytestmark = pytest.mark.outside

CONFIGURATION = """
daemon off; master_process off; pid {here}/pid; error_log {here}/error;
events {{}}
http {{
    access_log off;
    proxy_cache_path {here}/cache keys_zone=keys:1m;
    proxy_temp_path {here}/a; client_body_temp_path {here}/b; fastcgi_temp_path {here}/c;
    uwsgi_temp_path {here}/d; scgi_temp_path {here}/e;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass {upstream};
            proxy_cache keys;
            add_header X-Cache-Status $upstream_cache_status;
            {directive}
        }}
    }}
}}
"""


@pytest.fixture(autouse=True)
def nginx_is_there() -> None:
    require_program("nginx", "apt-get install -y nginx")


@contextmanager
def cached(tenant: LocalTenant, here: Path, directive: str = "") -> Iterator[KeyStore]:
    """A store that asks an nginx which caches what `tenant` allows."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    upstream = tenant.issuer.removesuffix("/")
    text = CONFIGURATION.format(here=here, port=port, upstream=upstream, directive=directive)
    (here / "nginx.conf").write_text(text)
    with subprocess.Popen(["nginx", "-e", here / "error", "-c", here / "nginx.conf"]) as nginx:
        try:
            yield KeyStore(
                tenant.issuer, jwks_uri=f"http://127.0.0.1:{port}{JWKS}", background=False
            )
        finally:
            nginx.terminate()
            nginx.wait(PATIENCE)


async def refreshed(store: KeyStore, until: str) -> None:
    """Ask again and again, until the health report has what `until` names."""
    given_up = time.monotonic() + PATIENCE
    while not getattr(store.health(), until):
        assert time.monotonic() < given_up, store.health()
        with suppress(KeysUnavailableError):  # it is not up yet
            await store.refresh()
        await asyncio.sleep(0.1)


async def test_nginx_hides_the_age_of_what_it_cached_and_is_told_of(
    local_tenant: LocalTenant, tmp_path: Path
) -> None:
    with cached(local_tenant, tmp_path) as store:
        await refreshed(store, "warning")
    assert store.health().warning == HIDDEN_AGE
    assert store.health().upstream_age == 0.0


async def test_nginx_shows_the_age_by_the_issuers_date_once_it_passes_that_on(
    local_tenant: LocalTenant, tmp_path: Path
) -> None:
    with cached(local_tenant, tmp_path, "proxy_pass_header Date;") as store:
        await refreshed(store, "upstream_age")
    assert store.health().warning is None
