"""Which requests come from a page or program on this machine, and not from any page in a browser.

A browser lets every page send requests to a server on loopback. What a page of another origin may
not do is read the answer, unless its own host name leads to loopback too (DNS rebinding).
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from starlette.requests import Request

    from jwks_guard.testing.settings import Settings

# One pattern over the whole text, without user information, backslashes, control characters or a
# fragment: nothing is left that a browser could read as another host.
_LOOPBACK_URI = re.compile(
    r"https?://(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d{1,5})?(?:[/?][!-\"$-\[\]-~]*)?"
)


def is_loopback_uri(uri: str) -> bool:
    """Whether `uri` is http or https to localhost, 127.0.0.0/8 or ::1, at any port."""
    return _LOOPBACK_URI.fullmatch(uri) is not None


def has_own_host(request: Request, settings: Settings) -> bool:
    """Whether Host is an IP address, localhost or the issuer's: no name that someone else chose."""
    host = _host_of(request.headers.get("Host", ""))
    return host in ("localhost", settings.host) or _is_address(host)


def is_same_origin(request: Request) -> bool:
    """Whether no page of another origin sent this; programs other than browsers send no Origin."""
    origin = request.headers.get("Origin")
    return origin is None or origin.partition("://")[2] == request.headers.get("Host")


def _host_of(header: str) -> str:
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
