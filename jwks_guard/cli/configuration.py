"""Which tenant and fleet are meant and how to authenticate: by options, environment and a file."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta, Struct, ValidationError, convert

from jwks_guard.admin import ClientCredentials, PrivateKeyJWT, StaticToken
from jwks_guard.admin.auth import Auth
from jwks_guard.admin.management import base_url_of
from jwks_guard.base.arguments import MAX_SECONDS
from jwks_guard.cli.fleet_configuration import FleetConfiguration, content_of
from jwks_guard.errors import ConfigurationError

PREFIX = "JWKS_GUARD_"
_PROOFS = ("client_secret", "client_secret_file", "private_key_file", "token_file", "token")
_FLEET = r"^\s*((rediss?(\+sentinel)?|unix)://\S+|https?://\S+(\s+https?://\S+)*)\s*$"
_SECONDS = "a number of seconds above 0"
_MUST_BE = {
    "token_lifetime_seconds": _SECONDS,
    "quiet_period_seconds": _SECONDS,
    "expected_instances": "an integer of at least 1",
    "fleet": "the URL of a Redis (redis://, rediss://, unix://, redis+sentinel://, "
    "rediss+sentinel://), or the URLs of every instance's operations routes (https://) with spaces "
    "between them",
}
_Text = Annotated[str, Meta(min_length=1)]
_Seconds = Annotated[float, Meta(gt=0, le=MAX_SECONDS)]


class Settings(Struct, frozen=True, kw_only=True):
    """What can be set: in the environment, and by lower-case names, but for `token`, in a file."""

    domain: _Text = ""
    client_id: _Text = ""
    audience: _Text | None = None
    jwks_uri: _Text | None = None
    token_lifetime_seconds: _Seconds | None = None
    journal: Path | None = None
    fleet: Annotated[str, Meta(pattern=_FLEET)] = ""
    fleet_prefix: _Text = "jwks-guard"
    fleet_secret_file: Path | None = None
    issuer: _Text | None = None
    expected_instances: Annotated[int, Meta(ge=1)] | None = None
    quiet_period_seconds: _Seconds = 600.0
    client_secret: _Text = ""
    client_secret_file: Path | None = None
    private_key_file: Path | None = None
    token_file: Path | None = None
    token: _Text = ""


_IN_FILES = tuple(name for name in Settings.__struct_fields__ if name != "token")


@dataclass(frozen=True, slots=True)
class _Source:
    """The environment or a file: its settings, how to name one, and what paths start from."""

    values: Mapping[str, Any]
    named: Callable[[str], str]
    folder: Path = Path()

    def checked(self) -> dict[str, Any]:
        """The values with the types of Settings; raises ConfigurationError, which shows none."""
        try:
            # Not strict: numbers are texts in the environment.
            settings = convert(self.values, Settings, strict=False, dec_hook=self._path)
        except ValidationError as error:
            name = str(error).rpartition("$.")[2].partition("`")[0]
            must_be = _MUST_BE.get(name, "a non-empty string")
            raise ConfigurationError(f"{self.named(name)} must be {must_be}.") from None
        return {name: getattr(settings, name) for name in self.values}

    def proof(self) -> str:
        """The name of the one way to authenticate in it; empty if there is none."""
        found = [name for name in _PROOFS if name in self.values]
        if len(found) > 1:
            names = " and ".join(map(self.named, found))
            raise ConfigurationError(
                f"{names} contradict each other: keep one way to authenticate."
            )
        return found[0] if found else ""

    def _path(self, _: type, text: str) -> Path:
        if not text:
            raise ValueError
        # Path.expanduser raises for an unknown user; this leaves the path, which is not found then.
        return self.folder / os.path.expanduser(text)  # noqa: PTH111


@dataclass(frozen=True, slots=True)
class Configuration:
    """A tenant, how to authenticate there, and what else the commands need.

    `journal` is None if no file is named, `token_lifetime` if it is not known.
    """

    domain: str
    auth: Auth
    jwks_uri: str | None = None
    token_lifetime: timedelta | None = None
    journal: Path | None = None
    fleet: FleetConfiguration = field(default_factory=FleetConfiguration)


def configured(
    options: Mapping[str, str | None],
    environ: Mapping[str, str],
    file: Path | None,
    ask: Callable[[str], str] | None,
) -> Configuration:
    """The configuration: `options` win over `environ`, and `environ` over `file`.

    `ask` returns the secret of a client ID, if only the secret is missing; None: there is no
    terminal. Raises ConfigurationError, which says what to set or to remove.
    """
    in_environ, in_file = _in_environment(environ), _in_file(file)
    settings = _settings(options, in_environ, in_file)
    proof = in_environ.proof() or in_file.proof()
    _require_enough(settings, proof, ask)
    lifetime = settings.token_lifetime_seconds
    return Configuration(
        domain=settings.domain,
        auth=_auth(settings, proof, ask),
        jwks_uri=settings.jwks_uri,
        token_lifetime=None if lifetime is None else timedelta(seconds=lifetime),
        journal=settings.journal,
        fleet=_fleet(settings),
    )


def configured_fleet(
    options: Mapping[str, str | None], environ: Mapping[str, str], file: Path | None
) -> FleetConfiguration:
    """The fleet with its issuer, for commands that do not call the Management API."""
    settings = _settings(options, _in_environment(environ), _in_file(file))
    if not settings.fleet:
        raise ConfigurationError(
            f"Not configured: set {PREFIX}FLEET, or write `fleet` to a file for --config."
        )
    if not (settings.issuer or settings.domain):
        raise ConfigurationError(
            f"Not configured: set {PREFIX}DOMAIN (or --domain) or {PREFIX}ISSUER."
        )
    return replace(_fleet(settings), issuer=settings.issuer or base_url_of(settings.domain))


def default_journal(environ: Mapping[str, str]) -> Path:
    """The journal's place if none is configured (XDG Base Directory Specification)."""
    state = environ.get("XDG_STATE_HOME", "")
    try:
        folder = Path(state) if Path(state).is_absolute() else Path.home() / ".local" / "state"
    except RuntimeError:
        raise ConfigurationError(
            f"There is no home folder to keep the journal in: set {PREFIX}JOURNAL."
        ) from None
    return folder / "jwks-guard" / "journal.jsonl"


def _settings(options: Mapping[str, str | None], in_environ: _Source, in_file: _Source) -> Settings:
    given = {name: value for name, value in options.items() if value is not None}
    return Settings(**{**in_file.checked(), **in_environ.checked(), **given})


def _in_environment(environ: Mapping[str, str]) -> _Source:
    found = {name: environ.get(_variable(name)) for name in Settings.__struct_fields__}
    return _Source({name: value for name, value in found.items() if value}, _variable)


def _variable(name: str) -> str:
    return PREFIX + name.upper()


def _in_file(path: Path | None) -> _Source:
    if path is None:
        return _Source({}, str)
    document, mode = _document(path)
    if unknown := sorted(set(document) - {*_IN_FILES}):
        raise ConfigurationError(
            f"{path} has {', '.join(unknown)}; what can stand there is {', '.join(_IN_FILES)}."
        )
    if (secret := _secret_in(document)) and os.name == "posix" and mode & 0o077:
        raise ConfigurationError(
            f"{path} holds a {secret} and can be read by others: chmod 600 {path}"
        )
    return _Source(document, lambda name: f"{name} in {path}", path.parent)


def _secret_in(document: Mapping[str, Any]) -> str:
    """The name of a member that nobody else may read; empty if there is none."""
    if "client_secret" in document:
        return "client_secret"
    url = str(document.get("fleet", ""))
    return "fleet with a password" if "@" in url or "password" in url else ""


def _document(path: Path) -> tuple[dict[str, Any], int]:
    """The TOML document at `path`, and the file's mode."""
    try:
        with path.open("rb") as file:
            return tomllib.load(file), os.fstat(file.fileno()).st_mode
    except OSError as error:
        raise ConfigurationError(f"{path} can't be read: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        # Of the parser's own words: those of a UnicodeDecodeError would hold the file's bytes.
        why = str(error) if isinstance(error, tomllib.TOMLDecodeError) else "it is not UTF-8 text"
        raise ConfigurationError(f"{path} can't be read as TOML: {why}.") from None


def _require_enough(settings: Settings, proof: str, ask: Callable[[str], str] | None) -> None:
    missing = []
    if not settings.domain:
        missing.append(f"{PREFIX}DOMAIN (or --domain)")
    if not settings.client_id and not proof.startswith("token"):
        missing.append(f"{PREFIX}CLIENT_ID (or --client-id)")
    if not proof and (missing or ask is None):
        first, *ways = (_variable(name) for name in _PROOFS)
        missing.append(f"{first} (or one of {', '.join(ways)})")
    if missing:
        raise ConfigurationError(
            f"Not configured: set {', and '.join(missing)}; or write them to a file for --config."
        )


def _auth(settings: Settings, proof: str, ask: Callable[[str], str] | None) -> Auth:
    value = getattr(settings, proof) if proof else ask(settings.client_id) if ask else ""
    if isinstance(value, Path):
        value = content_of(proof, value)
    if proof.startswith("token"):
        return StaticToken(value)
    client_id, audience = settings.client_id, settings.audience
    if proof == "private_key_file":
        return PrivateKeyJWT(client_id, value, audience=audience)
    return ClientCredentials(client_id, value, audience=audience)


def _fleet(settings: Settings) -> FleetConfiguration:
    return FleetConfiguration(
        urls=tuple(settings.fleet.split()),
        secret_file=settings.fleet_secret_file,
        prefix=settings.fleet_prefix,
        issuer=settings.issuer,
        expected_instances=settings.expected_instances,
        quiet_period=timedelta(seconds=settings.quiet_period_seconds),
    )
