"""Where a tenant is served: its address, its TLS, and the server while it runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from jwks_guard.errors import ConfigurationError
from jwks_guard.testing.authority import LOOPBACK, new_authority

if TYPE_CHECKING:
    import ssl

    from jwks_guard.testing.app import Site
    from jwks_guard.testing.memory import Memory
    from jwks_guard.testing.server import ServerThread

_NO_SERVER = (
    "The local tenant needs a server: pip install 'jwks-guard[testing]'. Without one, write "
    "in_process=True, or take the fixture local_tenant_in_process."
)


class Serving:
    """Serves a site on `host` and `port` (0: a free one, the same at each start)."""

    def __init__(self, host: str, port: int, *, tls: bool, memory: Memory) -> None:
        self._host = host
        self._port = port
        self._tls = tls
        self._memory = memory
        self._server: ServerThread | None = None

    def start(self, open_site: Callable[[str], Site]) -> None:
        """Listen, then serve what `open_site` gives for the URL of the address; raises OSError."""
        try:
            from jwks_guard.testing.server import ServerThread, listen
        except ModuleNotFoundError:
            raise ConfigurationError(_NO_SERVER) from None
        listener = listen(self._host, self._port)
        try:
            self._port = listener.getsockname()[1]
            site = open_site(self._url())
            tls = self._context(site.settings.host) if self._tls else None
        except BaseException:
            listener.close()
            raise
        self._server = ServerThread(site.app, listener, tls)

    def stop(self) -> None:
        """Close the port and every connection."""
        if self._server is not None:
            self._server.stop()
            self._server = None

    def _url(self) -> str:
        scheme = "https" if self._tls else "http"
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{scheme}://{host}:{self._port}/"

    def _context(self, issuer_host: str) -> ssl.SSLContext:
        """TLS for loopback and both hosts; a new authority only if the kept one is for others."""
        hosts = tuple(dict.fromkeys((*LOOPBACK, self._host, issuer_host)))
        authority = self._memory.authority
        if authority is None or not authority.covers(hosts):
            authority = new_authority(hosts)
            self._memory.keep_authority(authority)
        return authority.server_context(hosts)
