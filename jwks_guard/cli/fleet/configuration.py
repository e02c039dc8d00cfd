"""Which fleet is meant, and what its verdicts are measured by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from jwks_guard.base.arguments import require_count, require_seconds
from jwks_guard.errors import ConfigurationError

if TYPE_CHECKING:
    from jwks_guard.fleet import HTTPFleet, RedisFleet

TEXTS = ("fleet", "fleet_prefix", "fleet_secret_file", "issuer")
NUMBERS = ("expected_instances", "quiet_period_seconds")
_REDIS = ("redis://", "rediss://", "unix://")
_HTTP = ("https://", "http://")
_INSTALL = "A fleet over Redis needs redis-py: pip install 'jwks-guard[cli,redis]'."
Fleet: TypeAlias = "RedisFleet | HTTPFleet"


@dataclass(frozen=True, slots=True)
class FleetConfiguration:
    """A fleet, by the URL of its Redis or those of its instances, and how a key is judged by it.

    `urls` is empty where none is named, `issuer` and `expected_instances` are None where the
    defaults are meant.
    """

    urls: tuple[str, ...] = field(default=(), repr=False)
    secret_file: Path | None = None
    prefix: str = "jwks-guard"
    issuer: str | None = None
    expected_instances: int | None = None
    quiet_period: timedelta = timedelta(minutes=10)

    def fleet(self, issuer: str) -> Fleet | None:
        """The fleet, if one is named; `issuer` is whose keys are meant if that isn't set.

        Raises ConfigurationError.
        """
        return self.required(issuer) if self.urls else None

    def required(self, issuer: str) -> Fleet:
        """The fleet, which is named."""
        if self.urls[0].startswith(_REDIS):
            return self._over_redis(self.issuer or issuer)
        from jwks_guard.fleet import HTTPFleet

        if self.secret_file is None:
            raise ConfigurationError("A fleet over HTTP needs JWKS_GUARD_FLEET_SECRET_FILE.")
        return HTTPFleet(
            self.urls,
            secret=content_of("fleet_secret_file", self.secret_file),
            issuer=self.issuer or issuer,
        )

    def _over_redis(self, issuer: str) -> RedisFleet:
        try:
            from jwks_guard.fleet import RedisFleet
        except ImportError:
            raise ConfigurationError(_INSTALL) from None
        return RedisFleet(self.urls[0], issuer=issuer, prefix=self.prefix)


def fleet_of(values: Mapping[str, Any]) -> FleetConfiguration:
    """What `values` say of a fleet; raises ConfigurationError, which shows no URL."""
    expected, secret = values.get("expected_instances"), values.get("fleet_secret_file")
    default = FleetConfiguration()
    return FleetConfiguration(
        urls=_urls(values.get("fleet", "")),
        secret_file=None if secret is None else Path(secret).expanduser(),
        prefix=values.get("fleet_prefix", default.prefix),
        issuer=values.get("issuer"),
        expected_instances=None if expected is None else _count("expected_instances", expected),
        quiet_period=seconds_in(values, "quiet_period_seconds") or default.quiet_period,
    )


def holds_password(url: object) -> bool:
    """Whether there may be a password in the URL."""
    return "@" in str(url) or "password" in str(url)


def content_of(name: str, path: Path) -> str:
    """What is in the file, without the line end that editors and `echo` leave there."""
    try:
        return path.read_text("ascii").removesuffix("\n").removesuffix("\r")
    except OSError as error:
        why = error.strerror
    except UnicodeDecodeError:
        why = "it is not ASCII text"
    raise ConfigurationError(f"{name}: {path} can't be read: {why}.")


def seconds_in(values: Mapping[str, Any], name: str) -> timedelta | None:
    """The duration of that name, if there is one; raises ConfigurationError for what is none."""
    value = values.get(name)
    if value is None:
        return None
    try:
        seconds = float(value) if isinstance(value, str) else value
    except ValueError:
        seconds = value
    require_seconds(name, seconds)
    return timedelta(seconds=seconds)


def _urls(text: str) -> tuple[str, ...]:
    """The URL of one Redis, or those of several instances, which white space separates."""
    urls = tuple(text.split())
    over_redis = len(urls) == 1 and urls[0].startswith(_REDIS)
    if not over_redis and not all(url.startswith(_HTTP) for url in urls):
        raise ConfigurationError(
            f"fleet must be the URL of a Redis ({', '.join(_REDIS)}), or those of every instance's "
            "operations routes (https://), with spaces between them."
        )
    return urls


def _count(name: str, value: Any) -> int:
    try:
        count = int(value) if isinstance(value, str) else value
    except ValueError:
        count = value
    require_count(name, count, minimum=1)
    return int(count)
