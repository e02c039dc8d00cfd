"""Checks of what a fleet over HTTP is configured with."""

from __future__ import annotations

from collections.abc import Sequence

from jwks_guard.errors import ConfigurationError, InvalidRequestError
from jwks_guard.net import urls as addresses
from jwks_guard.net.bearer import b64token

MIN_SECRET_CHARS = 16


def require_secret(secret: object) -> None:
    """Raise ConfigurationError unless `secret` is long enough and can be a bearer token."""
    try:
        if not isinstance(secret, str) or len(secret) < MIN_SECRET_CHARS:
            raise InvalidRequestError("it is no string, or a short one")
        b64token(secret.encode())
    except (InvalidRequestError, UnicodeEncodeError):
        # Without what caused it, which holds the secret.
        raise ConfigurationError(
            f"A secret must be a string of {MIN_SECRET_CHARS} characters or more, of letters, "
            "digits and -._~+/ alone; `openssl rand -hex 32` makes one."
        ) from None


def require_urls(urls: object) -> None:
    """Raise ConfigurationError unless `urls` are addresses of several instances, or of one."""
    if not isinstance(urls, Sequence) or isinstance(urls, str | bytes) or not urls:
        raise ConfigurationError("urls must be a list of one or more URLs.")
    for url in urls:
        why = _refusal(url)
        if why is not None:
            raise ConfigurationError(
                f"urls holds one that can't be used: {why}. Write where the operations routes of "
                "an instance are, like 'https://10.0.0.1:8443/ops'; http is for loopback only."
            )
    if len({url.removesuffix("/") for url in urls}) != len(urls):
        raise ConfigurationError("urls names an instance twice.")


def _refusal(url: object) -> str | None:
    if not isinstance(url, str):
        return "it is no URL"
    if "?" in url:
        return "it has a query"
    return addresses.refusal(url, http_on_loopback=True)
