"""Which addresses keys may be fetched from."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit

NOT_HTTPS = "it is not https"
PORTS = {"https": 443, "http": 80}


def refusal(url: str, *, http_on_loopback: bool, http_hosts: Collection[str] = ()) -> str | None:
    """Why keys may not be fetched from `url`, or None when they may.

    Keys are as trustworthy as the connection they came over: https, or plain http that never
    leaves the machine. `http_hosts` are host names, in lower case, that may be asked over plain
    http all the same.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "it is not a URL"
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        return "it has characters that do not belong in a URL"
    if not host:
        return "it has no host"
    if "@" in parts.netloc:
        return "it carries a user name or password"
    if "#" in url:
        return "it has a fragment"
    if parts.scheme == "https":
        return None
    if parts.scheme == "http" and (host in http_hosts or (http_on_loopback and is_loopback(url))):
        return None
    return NOT_HTTPS


def discovery_url(issuer: str) -> str:
    """Where `issuer` has its configuration (OpenID Connect Discovery 1.0 section 4)."""
    return issuer.removesuffix("/") + "/.well-known/openid-configuration"


def is_loopback(url: str) -> bool:
    """Whether the host of `url` is this machine."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def origin(url: str) -> tuple[str, str, int] | None:
    """The scheme, host and port of `url` (RFC 6454 section 4); None where it is no http(s) URL."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    if not host or parts.scheme not in PORTS:
        return None
    return parts.scheme, host, PORTS[parts.scheme] if port is None else port


def serialized_origin(url: str) -> str | None:
    """The origin of `url` as browsers write it (RFC 6454 section 6.2).

    None for what is more than an origin, with one slash at the end at the most, or is not http(s).
    """
    parsed = origin(url)
    if parsed is None or urlsplit(url)._replace(scheme="", netloc="").geturl() not in ("", "/"):
        return None
    scheme, host, port = parsed
    named = f"[{host}]" if ":" in host else host
    return f"{scheme}://{named}" + ("" if port == PORTS[scheme] else f":{port}")
