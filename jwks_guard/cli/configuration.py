"""Which tenant is meant and how to authenticate there: of options, environment and a file."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from jwks_guard.admin import ClientCredentials, PrivateKeyJWT, StaticToken
from jwks_guard.admin.auth import Auth
from jwks_guard.admin.management import base_url_of
from jwks_guard.cli.fleet import configuration as fleet_configuration
from jwks_guard.cli.fleet.configuration import FleetConfiguration, content_of, fleet_of, seconds_in
from jwks_guard.errors import ConfigurationError

PREFIX = "JWKS_GUARD_"
_LIFETIME = "token_lifetime_seconds"
_NUMBERS = frozenset({_LIFETIME, *fleet_configuration.NUMBERS})
_PLAIN = (
    *("domain", "client_id", "audience", "jwks_uri", _LIFETIME, "journal"),
    *fleet_configuration.TEXTS,
    *fleet_configuration.NUMBERS,
)
_FILES = ("client_secret_file", "private_key_file", "token_file")
_PROOFS = ("client_secret", *_FILES)
_READY_TOKEN = "token"  # noqa: S105 - a name; in the environment only
_PATHS = frozenset({"journal", "fleet_secret_file", *_FILES})

Values = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Configuration:
    """A tenant, how to authenticate there, and what else the commands have to know.

    `journal` is None where none is named, `token_lifetime` where it is not known.
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
    """The configuration; options win over `environ`, and that over `file`.

    ask: gives the secret of a client ID, where that is all that is missing; None: nobody is there.
    Raises ConfigurationError, which says what to set or to take away.
    """
    in_file, in_environ, values = _values(options, environ, file)
    proof = _proof(in_environ, _variable) or _proof(in_file, lambda name: f"{name} in {file}")
    _require_enough(values, proof, ask)
    return Configuration(
        domain=values["domain"],
        auth=_auth(values, proof, ask),
        jwks_uri=values.get("jwks_uri"),
        token_lifetime=seconds_in(values, _LIFETIME),
        journal=Path(values["journal"]).expanduser() if "journal" in values else None,
        fleet=fleet_of(values),
    )


def configured_fleet(
    options: Mapping[str, str | None], environ: Mapping[str, str], file: Path | None
) -> FleetConfiguration:
    """The fleet alone, with its issuer; whoever only looks at it needs no client of the tenant."""
    _, _, values = _values(options, environ, file)
    if "fleet" not in values:
        raise ConfigurationError(f"Not configured: set {PREFIX}FLEET, or write it to a file.")
    if "issuer" not in values and "domain" not in values:
        raise ConfigurationError(f"Not configured: set {PREFIX}DOMAIN (or --domain) or _ISSUER.")
    fleet = fleet_of(values)
    return replace(fleet, issuer=fleet.issuer or base_url_of(values["domain"]))


def default_journal(environ: Mapping[str, str]) -> Path:
    """Where the journal is kept if nobody names a place (XDG Base Directory Specification)."""
    state = environ.get("XDG_STATE_HOME", "")
    try:
        folder = Path(state) if Path(state).is_absolute() else Path.home() / ".local" / "state"
    except RuntimeError:
        raise ConfigurationError(
            f"There is no home folder to keep the journal in: set {PREFIX}JOURNAL."
        ) from None
    return folder / "jwks-guard" / "journal.jsonl"


def _values(
    options: Mapping[str, str | None], environ: Mapping[str, str], file: Path | None
) -> tuple[Values, Values, Values]:
    """What is in the file, what in the environment, and what counts."""
    in_file = _of_file(file) if file is not None else {}
    in_environ = _of_environment(environ)
    given = {name: value for name, value in options.items() if value is not None}
    return in_file, in_environ, {**in_file, **in_environ, **given}


def _of_environment(environ: Mapping[str, str]) -> Values:
    names = (*_PLAIN, *_PROOFS, _READY_TOKEN)
    found = {name: environ.get(_variable(name), "") for name in names}
    return {name: value for name, value in found.items() if value}


def _variable(name: str) -> str:
    return PREFIX + name.upper()


def _of_file(path: Path) -> Values:
    document, mode = _document(path)
    if unknown := sorted(set(document) - {*_PLAIN, *_PROOFS}):
        raise ConfigurationError(
            f"{path} has {', '.join(unknown)}; what can stand there is "
            f"{', '.join((*_PLAIN, *_PROOFS))}."
        )
    if (secret := _secret_in(document)) and os.name == "posix" and mode & 0o077:
        raise ConfigurationError(
            f"{path} holds a {secret} and can be read by others: chmod 600 {path}"
        )
    for name, value in document.items():
        if name not in _NUMBERS and not (isinstance(value, str) and value):
            raise ConfigurationError(f"{name} in {path} must be a non-empty string.")
    relative = {
        name: path.parent / Path(document[name]).expanduser() for name in _PATHS & {*document}
    }
    return {**document, **{name: str(value) for name, value in relative.items()}}


def _secret_in(document: Values) -> str | None:
    """The name of a member that nobody else may read."""
    if "client_secret" in document:
        return "client_secret"
    has_password = fleet_configuration.holds_password(document.get("fleet"))
    return "fleet with a password" if has_password else None


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


def _proof(values: Values, named: Callable[[str], str]) -> tuple[str, str] | None:
    """The one way to authenticate among `values`, by its name and with its value."""
    found = [name for name in (*_PROOFS, _READY_TOKEN) if name in values]
    if len(found) > 1:
        names = " and ".join(map(named, found))
        raise ConfigurationError(f"{names} contradict each other: keep one way to authenticate.")
    return (found[0], values[found[0]]) if found else None


def _require_enough(
    values: Values, proof: tuple[str, str] | None, ask: Callable[[str], str] | None
) -> None:
    missing = []
    if "domain" not in values:
        missing.append(f"{PREFIX}DOMAIN (or --domain)")
    if "client_id" not in values and (proof is None or not proof[0].startswith("token")):
        missing.append(f"{PREFIX}CLIENT_ID (or --client-id)")
    if proof is None and (missing or ask is None):
        ways = ("CLIENT_SECRET_FILE", "PRIVATE_KEY_FILE", "TOKEN_FILE", "TOKEN")
        missing.append(f"{PREFIX}CLIENT_SECRET (or one of {', '.join(PREFIX + w for w in ways)})")
    if missing:
        raise ConfigurationError(
            f"Not configured: set {', and '.join(missing)}; or write them to a file for --config."
        )


def _auth(values: Values, proof: tuple[str, str] | None, ask: Callable[[str], str] | None) -> Auth:
    name, value = proof or ("client_secret", "")
    if proof is None and ask is not None:
        value = ask(values["client_id"])
    if name.endswith("_file"):
        value = content_of(name, Path(value).expanduser())
    if name.startswith("token"):
        return StaticToken(value)
    client_id, audience = values["client_id"], values.get("audience")
    if name == "private_key_file":
        return PrivateKeyJWT(client_id, value, audience=audience)
    return ClientCredentials(client_id, value, audience=audience)
