"""Which fleet the commands ask, and how it judges whether a key can be revoked."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from jwks_guard.errors import ConfigurationError

if TYPE_CHECKING:
    from jwks_guard.fleet import HTTPFleet, RedisFleet

_REDIS = ("redis", "unix")
"""What the schemes of its URLs begin with, also those of Sentinels."""
_INSTALL = "A fleet over Redis needs redis-py: pip install 'jwks-guard[cli,redis]'."
Fleet: TypeAlias = "RedisFleet | HTTPFleet"


@dataclass(frozen=True, slots=True)
class FleetConfiguration:
    """A fleet, by the URL of its Redis or those of its instances, and how it judges a key.

    `urls` is empty if there is no fleet; `issuer` and `expected_instances` are None for the
    defaults.
    """

    urls: tuple[str, ...] = field(default=(), repr=False)
    secret_file: Path | None = None
    prefix: str = "jwks-guard"
    issuer: str | None = None
    expected_instances: int | None = None
    quiet_period: timedelta = timedelta(minutes=10)

    def fleet(self, issuer: str) -> Fleet | None:
        """The fleet, if one is configured, for the keys of `issuer` unless another one is set.

        Raises ConfigurationError.
        """
        return self.required(issuer) if self.urls else None

    def required(self, issuer: str) -> Fleet:
        """The fleet; raises ConfigurationError. Only for a configuration with `urls`."""
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
        secrets = None
        if self.secret_file is not None:  # one on each line, two while it is being replaced
            secrets = content_of("fleet_secret_file", self.secret_file).splitlines()
        return RedisFleet(self.urls[0], secret=secrets, issuer=issuer, prefix=self.prefix)


def content_of(name: str, path: Path) -> str:
    """The text of the file `name` is set to, without the line end that editors leave there."""
    try:
        return path.read_text("ascii").removesuffix("\n").removesuffix("\r")
    except OSError as error:
        why = error.strerror
    except UnicodeDecodeError:
        why = "it is not ASCII text"
    raise ConfigurationError(f"{name}: {path} can't be read: {why}.")
