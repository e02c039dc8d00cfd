"""Checks of what a caller configures: every error names the argument and what to write instead."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from jwks_guard.errors import ConfigurationError, InvalidRequestError
from jwks_guard.jose.header import MAX_KID_CHARS, is_kid
from jwks_guard.net import urls
from jwks_guard.net.bearer import b64token

MAX_SECONDS = 1e10
"""300 years: beyond it a duration is a mistake, and a large enough one overflows a float."""
MIN_SECRET_CHARS = 16
_EXACTLY = "exactly as in the tokens' `iss`, for example 'https://acme.eu.auth0.com/'"
_PLAIN_HTTP = {
    urls.NOT_HTTPS: "; allow_http=[...] names hosts on a trusted network that may be asked over "
    "plain http"
}


def require_seconds(name: str, value: object, *, positive: bool = True) -> None:
    """Raise ConfigurationError unless `value` is a finite number of seconds above (or from) 0."""
    if (
        not isinstance(value, int | float)
        or isinstance(value, bool)
        or not 0 <= value <= MAX_SECONDS
        or (positive and value == 0)
    ):
        raise ConfigurationError(
            f"{name} must be a number of seconds {'above' if positive else 'of at least'} 0."
        )


def require_bounds(refresh_interval: float, max_stale: float) -> None:
    """Raise ConfigurationError unless both are seconds, and the second is not the shorter one."""
    require_seconds("refresh_interval", refresh_interval)
    require_seconds("max_stale", max_stale)
    if max_stale < refresh_interval:
        raise ConfigurationError("max_stale must be at least refresh_interval.")


def require_timeouts(fetch_timeout: float, max_wait: float, max_upstream_age: float) -> None:
    """Raise ConfigurationError unless all are seconds; only the last one may be 0."""
    require_seconds("fetch_timeout", fetch_timeout)
    require_seconds("max_wait", max_wait)
    require_seconds("max_upstream_age", max_upstream_age, positive=False)


def require_listener(value: object) -> None:
    """Raise ConfigurationError unless `value` can be called, or is None."""
    if value is not None and not callable(value):
        raise ConfigurationError("on_event must be callable with one argument, the Event.")


def require_flag(name: str, value: object) -> None:
    """Raise ConfigurationError unless `value` is True or False: the string "false" is true."""
    if not isinstance(value, bool):
        raise ConfigurationError(f"{name} must be True or False.")


def require_count(name: str, value: object, *, minimum: int) -> None:
    """Raise ConfigurationError unless `value` is an integer of at least `minimum`."""
    if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
        raise ConfigurationError(f"{name} must be an integer of at least {minimum}.")


def require_text(name: str, value: object) -> None:
    """Raise ConfigurationError unless `value` is a non-empty string that UTF-8 can encode."""
    if not isinstance(value, str) or not value or not is_encodable(value):
        raise ConfigurationError(f"{name} must be a non-empty string.")


def require_kid(value: object) -> None:
    """Raise ConfigurationError unless a token can name `value` as its `kid`."""
    require_text("kid", value)
    if not is_kid(value):
        raise ConfigurationError(f"kid must be a string of 1 to {MAX_KID_CHARS} characters.")


def require_issuer(value: object) -> None:
    """Raise ConfigurationError unless `value` can be an `iss` (RFC 7519 section 4.1.1).

    Any string of printable characters can. A URL is only needed for discovery.
    """
    if not isinstance(value, str) or not value or not value.isprintable():
        raise ConfigurationError(f"issuer must be a string, {_EXACTLY}.")


def require_addresses(issuer: str, jwks_uri: object, allow_http: Any) -> frozenset[str]:
    """The hosts that may be asked over plain http, as `allow_http` names them.

    Raises ConfigurationError where keys may not be fetched from `jwks_uri` or, without one, may not
    be discovered from `issuer` (OpenID Connect Discovery 1.0).
    """
    hosts = _host_names(allow_http)
    if jwks_uri is None:
        if (why := url_refusal(issuer, query=False, http_hosts=hosts)) is not None:
            raise ConfigurationError(
                f"issuer can't be used for discovery: {why}. Write it {_EXACTLY}, and add jwks_uri "
                f"where that is not the address of its metadata{_PLAIN_HTTP.get(why, '')}."
            )
    elif (why := url_refusal(jwks_uri, http_hosts=hosts)) is not None:
        raise ConfigurationError(
            f"jwks_uri can't be used: {why}. Write an https URL, or leave it out for discovery"
            f"{_PLAIN_HTTP.get(why, '')}."
        )
    return hosts


def require_jwks_uri(value: object) -> None:
    """Raise ConfigurationError unless keys may be fetched from `value`, or it is None."""
    if value is not None:
        require_addresses("", value, ())


def _host_names(allow_http: Any) -> frozenset[str]:
    listed = isinstance(allow_http, list | tuple | set | frozenset)
    if not listed or not all(isinstance(each, str) and is_host_name(each) for each in allow_http):
        raise ConfigurationError(
            "allow_http must be a list of host names without scheme and port, like ['keycloak']."
        )
    return frozenset(each.lower() for each in allow_http)


def is_host_name(text: str) -> bool:
    """Whether `text` is the name of a host and nothing more: no port, no scheme, no path."""
    url = f"https://{text}/"
    usable = urls.refusal(url, http_on_loopback=False) is None
    return usable and urls.origin(url) == ("https", text.lower(), 443)


def require_secret(secret: object) -> None:
    """Raise ConfigurationError unless `secret` is long enough and can be a bearer token."""
    try:
        if not isinstance(secret, str) or len(secret) < MIN_SECRET_CHARS:
            raise InvalidRequestError("it is no string, or a short one")
        b64token(secret.encode())
    except (InvalidRequestError, UnicodeEncodeError):
        # Without what caused it, which holds the secret.
        raise ConfigurationError(
            f"secret must be a string of {MIN_SECRET_CHARS} characters or more, of letters, "
            "digits and -._~+/ alone; `openssl rand -hex 32` makes one."
        ) from None


def require_one_of(name: str, value: object, values: Collection[str]) -> None:
    """Raise ConfigurationError unless `value` is one of `values`."""
    if value not in values:
        raise ConfigurationError(f"{name} must be {' or '.join(map(repr, values))}.")


def require_strings(name: str, value: Any, *, allowed: frozenset[str] | None = None) -> None:
    """Raise ConfigurationError unless `value` is a list or tuple of one or more such strings."""
    collection = isinstance(value, list | tuple | set | frozenset)
    if not collection or not value or not all(isinstance(v, str) and v for v in value):
        raise ConfigurationError(f"{name} must be a list of one or more non-empty strings.")
    foreign = set(value) - allowed if allowed is not None else set()
    if foreign:
        raise ConfigurationError(
            f"{name} has {', '.join(sorted(foreign))}; "
            f"write one or more of {', '.join(sorted(allowed or ()))}."
        )


def is_encodable(text: str) -> bool:
    """Whether UTF-8 has bytes for `text`; it has none for a lone surrogate."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def url_refusal(
    value: object, *, query: bool = True, http_hosts: Collection[str] = ()
) -> str | None:
    """Why `value` is no URL that is https, or on loopback or one of `http_hosts`; None if it is."""
    if not isinstance(value, str):
        return "it is no URL"
    why = urls.refusal(value, http_on_loopback=True, http_hosts=http_hosts)
    return "it has a query" if why is None and not query and "?" in value else why
