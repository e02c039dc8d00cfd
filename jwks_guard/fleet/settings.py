"""The fleet that settings name: by the URL of its Redis, or those of its instances."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from jwks_guard.base.settings_reader import Found, content_of, variable
from jwks_guard.errors import ConfigurationError

if TYPE_CHECKING:
    from jwks_guard.fleet.http import HTTPFleet
    from jwks_guard.fleet.redis import RedisFleet

_REDIS = ("redis", "unix")
"""What the schemes of its URLs begin with, also those of Sentinels."""
_SETTINGS = {"url": "fleet", "urls": "fleet", "secret": "fleet_secret_file"}
"""By the arguments of fleets."""
_INSTALL = "A fleet over Redis needs redis-py: pip install 'jwks-guard[redis]'."
ConfiguredFleet: TypeAlias = "RedisFleet | HTTPFleet"


def fleet_of(
    found: Found, issuer: str | None = None, *, timeout: float = 1.0
) -> ConfiguredFleet | None:
    """The fleet that the settings name, if any; its own methods mean the keys of `issuer`.

    `timeout` is for each call to an instance over HTTP, in seconds.

    Raises ConfigurationError.
    """
    urls = found.values.get("fleet", "").split()
    if not urls:
        _require_no_secret(found)
        return None
    try:
        if urls[0].startswith(_REDIS):
            return _over_redis(urls[0], found, issuer)
        return _over_http(urls, found, issuer, timeout)
    except ConfigurationError as error:
        raise found.named(error, _SETTINGS) from None


def _require_no_secret(found: Found) -> None:
    """Raise ConfigurationError for the secret of a fleet that is missing, as by an empty variable.

    Without the fleet this process would not hear which keys are distrusted.
    """
    if "fleet_secret_file" in found.values:
        raise ConfigurationError(
            f"{found.names['fleet_secret_file']} is set without {variable('fleet')}: set that one, "
            "or remove this one."
        )


def _over_redis(url: str, found: Found, issuer: str | None) -> RedisFleet:
    try:
        from jwks_guard.fleet import RedisFleet
    except ImportError:
        raise ConfigurationError(_INSTALL) from None
    secret = _secret(found)
    return RedisFleet(
        url,
        # One on each line, two while it is being replaced.
        secret=None if secret is None else secret.splitlines(),
        issuer=issuer,
        prefix=found.values.get("fleet_prefix", "jwks-guard"),
    )


def _over_http(urls: list[str], found: Found, issuer: str | None, timeout: float) -> HTTPFleet:
    from jwks_guard.fleet import HTTPFleet

    secret = _secret(found)
    if secret is None:
        raise ConfigurationError(f"A fleet over HTTP needs {variable('fleet_secret_file')}.")
    return HTTPFleet(urls, secret=secret, issuer=issuer, timeout=timeout)


def _secret(found: Found) -> str | None:
    path = found.values.get("fleet_secret_file")
    return None if path is None else content_of(found.names["fleet_secret_file"], path)
