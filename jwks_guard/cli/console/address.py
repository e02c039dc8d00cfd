"""Where the console listens, and who can reach it there."""

from __future__ import annotations

import errno
import os
import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from pathlib import Path

from jwks_guard.base.settings_reader import variable
from jwks_guard.cli.console.serving import Front
from jwks_guard.errors import ConfigurationError
from jwks_guard.testing.server import listen


@dataclass(frozen=True, slots=True)
class Address:
    """An address that is listened on, and what lies in front of it."""

    host: str
    port: int
    front: Front

    @property
    def private(self) -> bool:
        """Whether only this machine reaches it: no proxy carries in what comes from others."""
        return _is_loopback(self.host) and not self.front.proxies

    def url(self, port: int) -> str:
        """Where it is served once it listens on `port`."""
        scheme = "http" if self.front.certificate is None else "https"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{host}:{port}{self.front.root_path}/"

    def require_private(self) -> None:
        """Raise ConfigurationError unless a secret that is printed is enough to guard it."""
        if not self.private:
            raise ConfigurationError(
                "The console can be reached by others here, and no log-in is configured. Nothing "
                f"was started. Set {variable('console_operator_secret_file')} (and "
                f"{variable('console_viewer_secret_file')}), or {variable('console_issuer')}, "
                f"{variable('console_client_id')} and {variable('console_operators')} for OpenID "
                "Connect; `openssl rand -hex 32` makes a secret."
            )


def address_of(
    host: str,
    port: int,
    certificate: Path | None,
    key: Path | None,
    root_path: str,
    proxies: Sequence[str],
) -> Address:
    """The address that the options name; raises ConfigurationError."""
    if (certificate is None) is not (key is None):
        raise ConfigurationError("--tls-certificate and --tls-key belong together: give both.")
    if certificate is not None and key is not None:
        _require_pair(certificate, key)
    if root_path and (not root_path.startswith("/") or "//" in root_path):
        raise ConfigurationError("--root-path begins with one slash, like /console.")
    for proxy in proxies:
        _require_network(proxy)
    front = Front(certificate, key, root_path.rstrip("/"), tuple(proxies))
    if not (_is_loopback(host) or front.certificate or front.proxies):
        raise ConfigurationError(
            f"--host {host}: log-ins need https where others can listen in. Nothing was started. "
            "Give --tls-certificate and --tls-key; or have a proxy in front end TLS, and name its "
            "address by --proxy."
        )
    return Address(host, port, front)


@contextmanager
def listening(address: Address) -> Iterator[socket.socket]:
    """A socket that listens there; raises ConfigurationError."""
    try:
        listener = listen(address.host, address.port)
    except OSError as error:
        remedy = "Name an address of this machine by --host, and a port that is allowed by --port."
        if error.errno == errno.EADDRINUSE:
            remedy = "Name another port by --port."
        raise ConfigurationError(
            f"Can't listen on {address.host}:{address.port}: {error.strerror}. {remedy}"
        ) from None
    with listener:
        yield listener


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _require_network(proxy: str) -> None:
    """Raise ConfigurationError unless it names some machines: by "*" all could forge addresses."""
    try:
        wide = ip_network(proxy).prefixlen == 0
    except ValueError:
        wide = True
    if wide:
        raise ConfigurationError(
            "--proxy must be the address of a proxy or its network, like 10.0.0.7 or 10.0.0.0/24."
        )


def _require_pair(certificate: Path, key: Path) -> None:
    for option, path in (("--tls-certificate", certificate), ("--tls-key", key)):
        if not os.access(path, os.R_OK):
            raise ConfigurationError(f"{option}: {path} can't be read.")
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(
            certificate, key, password=lambda: ""
        )
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"--tls-certificate and --tls-key can't be used: {_cause(error)}. They are PEM files, "
            "the key is not encrypted and belongs to the certificate."
        ) from None


def _cause(error: OSError | ValueError) -> str:
    return getattr(error, "reason", None) or type(error).__name__
