"""Which addresses keys may be fetched from."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit


def refusal(url: str, *, http_on_loopback: bool) -> str | None:
    """Why keys may not be fetched from `url`, or None when they may.

    Keys are as trustworthy as the connection they came over: https, or plain http that never
    leaves the machine.
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
    if parts.scheme == "https" or (
        parts.scheme == "http" and http_on_loopback and is_loopback(url)
    ):
        return None
    return "it is not https"


def is_loopback(url: str) -> bool:
    """Whether the host of `url` is this machine."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
