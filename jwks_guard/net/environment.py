"""The environment's variables that httpx and OpenSSL read: what can't be used is named."""

from __future__ import annotations

import importlib.util
import os
from ipaddress import ip_address
from pathlib import Path
from urllib.request import getproxies

import httpx

from jwks_guard.errors import EnvironmentVariableError

_SCHEMES = ("http", "https", "socks5", "socks5h")
_KINDS = ("http", "https", "all")


def require_environment() -> None:
    """Raise EnvironmentVariableError where no HTTP client can be made of the environment."""
    require_certificates()
    settings = getproxies()
    exceptions = [each.strip() for each in settings.get("no", "").split(",")]
    if "*" in exceptions:  # then httpx uses no proxy at all
        return
    for kind in _KINDS:
        if value := settings.get(kind):
            _require_proxy(f"{kind.upper()}_PROXY", value)
    for each in filter(None, exceptions):
        if not _is_exception(each):
            raise _unusable(
                "NO_PROXY",
                f"httpx can't read {each!r} in it",
                "Write host names, IPv4 addresses and networks, and IPv6 addresses without "
                "brackets.",
            )


def require_certificates() -> None:
    """Raise EnvironmentVariableError where it names CA certificates that are not there.

    OpenSSL goes on without them, and then trusts no server.
    """
    file, folders = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    log = os.environ.get("SSLKEYLOGFILE")
    instead = "Correct the path, or unset the variable."
    if file and not os.access(file, os.R_OK):
        raise _unusable("SSL_CERT_FILE", f"no file can be read at {file}", instead)
    if folders and not any(Path(each).is_dir() for each in folders.split(os.pathsep)):
        raise _unusable("SSL_CERT_DIR", f"there is no folder at {folders}", instead)
    if log and not Path(log).parent.is_dir():
        raise _unusable("SSLKEYLOGFILE", f"there is no folder for {log}", instead)


def unreadable_certificates(error: OSError) -> EnvironmentVariableError:
    """The error for CA certificates that are there, and can't be loaded."""
    names = [name for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if os.environ.get(name)]
    why = f"its certificates can't be loaded ({type(error).__name__})"
    return _unusable(
        " or ".join(names) or "SSLKEYLOGFILE", why, "Write the path of a PEM file, or unset it."
    )


def _require_proxy(name: str, value: str) -> None:
    # The URL is not quoted: there may be a password in it.
    try:
        scheme = httpx.URL(value if "://" in value else f"http://{value}").scheme
    except httpx.InvalidURL:
        raise _unusable(name, "it is no URL", "Write http://proxy:3128, or unset it.") from None
    if scheme not in _SCHEMES:
        raise _unusable(
            name, "its kind of proxy is not known", "Write http://, https:// or socks5://."
        )
    if scheme.startswith("socks") and importlib.util.find_spec("socksio") is None:
        raise _unusable(
            name,
            "a SOCKS proxy needs the package socksio",
            "Install it by `pip install 'httpx[socks]'`, or unset the variable.",
        )


def _is_exception(host: str) -> bool:
    """Whether httpx can make a pattern of it."""
    try:
        ip_address(host)
    except ValueError:
        try:
            httpx.URL(host if "://" in host else f"all://*{host}")
        except httpx.InvalidURL:
            return False
    return True


def _unusable(name: str, why: str, instead: str) -> EnvironmentVariableError:
    spelled = name if name in os.environ else name.lower()
    return EnvironmentVariableError(
        f"The environment variable {spelled if spelled in os.environ else name} can't be used: "
        f"{why}. {instead}"
    )
