"""What comes with a request: its origin, its cookies, and a small form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from jwks_guard.asgi.bodies import BodyRefusedError, read_body
from jwks_guard.net import urls

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

MAX_FORM_BYTES = 16_384
_MAX_FIELDS = 20
_FORM_TYPE = "application/x-www-form-urlencoded"


class RefusedError(Exception):
    """The request is refused with `status`; the text says why and what to do."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


def on_loopback(request: Request) -> bool:
    """Whether the browser names this machine itself as the host."""
    try:
        return urls.is_loopback(f"http://{request.headers.get('host', '')}")
    except ValueError:
        return False


def require_own_page(request: Request) -> None:
    """Raise RefusedError unless a page of the console sent this, as the browser says.

    Cross-site request forgery: a page of another origin can make a browser send the cookies and any
    form, but neither Origin (RFC 6454 section 7) nor Sec-Fetch-Site of our own pages.
    """
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site not in (None, "same-origin"):
        raise RefusedError(403, "A page of another site sent this form. Nothing was done.")
    if origin is None and site is None:
        raise RefusedError(
            403, "The browser does not say which page sent this form. Nothing was done."
        )
    if origin is not None:
        _require_own_origin(request, origin)


def _require_own_origin(request: Request, origin: str) -> None:
    scheme, _, host = origin.lower().partition("://")
    if host != request.headers.get("host", "").lower() or scheme not in urls.PORTS:
        raise RefusedError(
            403,
            "A page of another origin sent this form. Nothing was done. If the console is behind a "
            "proxy, have the proxy pass the Host header on as the browser sends it.",
        )
    if scheme == "http" and not on_loopback(request):
        raise RefusedError(
            403,
            "The console is open over plain http, where others can read the cookie. Nothing was "
            "done. Open it over https, or at localhost.",
        )


async def read_form(request: Request) -> Mapping[str, str]:
    """The fields of a form; raises RefusedError for another body, a long one, or a field twice."""
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != _FORM_TYPE:
        raise RefusedError(415, f"The body must be a form ({_FORM_TYPE}). Nothing was done.")
    try:
        body = await read_body(request, MAX_FORM_BYTES)
    except BodyRefusedError as error:
        raise RefusedError(error.status, f"Nothing was done: {error}.") from None
    try:
        pairs = parse_qsl(
            body.decode("ascii"), keep_blank_values=True, max_num_fields=_MAX_FIELDS,
            errors="strict",
        )  # fmt: skip
    except ValueError:  # of which UnicodeError is one
        raise RefusedError(400, "The form can't be read. Nothing was done.") from None
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise RefusedError(400, "The form has a field twice. Nothing was done.")
    return fields


def cookie_name(request: Request, name: str) -> str:
    """The name of a cookie of the console in that browser.

    `__Host-`: no other host of the domain can set it (RFC 6265bis section 4.1.3.2), so that nobody
    plants a session of theirs. On loopback over http it would not be stored at all.
    """
    prefix = "__Host-" if _is_secure(request) else ""
    return f"{prefix}jwks_guard_{name}"


def set_cookie(
    request: Request,
    response: Response,
    name: str,
    value: str,
    *,
    lax: bool = False,
    seconds: int | None = None,
) -> None:
    """Have the browser keep the cookie, until it is closed or for so many seconds.

    Strict: links of other sites do not send it. `lax`: they do, as a redirect to us has to.
    """
    response.set_cookie(
        cookie_name(request, name),
        value,
        max_age=seconds,
        path="/",
        secure=_is_secure(request),
        httponly=True,
        samesite="lax" if lax else "strict",
    )


def drop_cookie(request: Request, response: Response, name: str) -> None:
    """Have the browser forget the cookie."""
    response.delete_cookie(
        cookie_name(request, name), path="/", secure=_is_secure(request), httponly=True
    )


def _is_secure(request: Request) -> bool:
    return request.scope["scheme"] == "https" or not on_loopback(request)
