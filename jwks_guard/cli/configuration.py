"""Which tenant and fleet are meant and how to authenticate: by options, environment and a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import cast

from jwks_guard.admin import (
    AdminEvent,
    ClientCredentials,
    KeyRotation,
    PrivateKeyJWT,
    SigningKeysClient,
    StaticToken,
)
from jwks_guard.admin.auth import Auth
from jwks_guard.admin.management import base_url_of
from jwks_guard.base.settings import Settings
from jwks_guard.base.settings_reader import (
    PREFIX,
    Found,
    content_of,
    in_environment,
    in_file,
    read_settings,
    variable,
)
from jwks_guard.errors import ConfigurationError
from jwks_guard.fleet.settings import ConfiguredFleet, fleet_of
from jwks_guard.verify.settings import verifier_of
from jwks_guard.verify.verifier import TokenVerifier

_OPTIONS = {"algorithms": "--algorithm"}
_PROOFS = ("client_secret", "client_secret_file", "private_key_file", "token_file", "token")


@dataclass(frozen=True, slots=True)
class Configuration:
    """A tenant, how to authenticate there, and what else the commands need.

    `jwks_uri`, `journal` and `expected_instances` are None if they are not set, `token_lifetime`
    if it is not known.
    """

    domain: str
    auth: Auth
    jwks_uri: str | None = None
    token_lifetime: timedelta | None = None
    journal: Path | None = None
    expected_instances: int | None = None
    quiet_period: timedelta = timedelta(minutes=10)
    _found: Found = field(default_factory=Found, repr=False, compare=False)

    def rotation(
        self,
        client: SigningKeysClient,
        fleet: ConfiguredFleet | None,
        *,
        journal: Path | None = None,
        on_event: Callable[[AdminEvent], object] | None = None,
        confirm_within: float = 120.0,
    ) -> KeyRotation:
        """A KeyRotation for the tenant of `client` and for `fleet`."""
        return KeyRotation(
            client,
            fleet or (),
            token_lifetime=self.token_lifetime,
            quiet_period=self.quiet_period,
            expected_instances=self.expected_instances,
            journal_path=journal,
            on_event=on_event,
            jwks_uri=self.jwks_uri,
            confirm_within=confirm_within,
        )

    def fleet(self) -> ConfiguredFleet | None:
        """The fleet, if one is configured. Raises ConfigurationError."""
        return fleet_of(self._found, _issuer(self._found.values))


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
    in_environ, of_file = in_environment(environ), Found() if file is None else in_file(file)
    found = _given(options).over(in_environ.over(of_file))
    proof = _proof(in_environ) or _proof(of_file)
    _require_enough(found.values, proof, ask)
    settings = found.values
    lifetime = settings.get("token_lifetime_seconds")
    return Configuration(
        domain=settings["domain"],
        auth=_auth(found, proof, ask),
        jwks_uri=settings.get("jwks_uri"),
        token_lifetime=None if lifetime is None else timedelta(seconds=lifetime),
        journal=settings.get("journal"),
        expected_instances=settings.get("expected_instances"),
        quiet_period=timedelta(seconds=settings.get("quiet_period_seconds", 600.0)),
        _found=found,
    )


def names_management(
    options: Mapping[str, str | None], environ: Mapping[str, str], file: Path | None
) -> bool:
    """Whether anything is set that only the Management API needs: a client, or its proof."""
    found = _given(options).over(read_settings(environ, file))
    return any(name in found.values for name in ("client_id", *_PROOFS))


def configured_fleet(
    options: Mapping[str, str | None],
    environ: Mapping[str, str],
    file: Path | None,
    *,
    timeout: float = 1.0,
) -> ConfiguredFleet:
    """The fleet with its issuer, for commands that do not call the Management API.

    `timeout` is for each call to an instance over HTTP, in seconds.
    """
    found = _given(options).over(read_settings(environ, file))
    if not ("issuer" in found.values or "domain" in found.values):
        raise ConfigurationError(
            f"Not configured: set {PREFIX}DOMAIN (or --domain) or {PREFIX}ISSUER."
        )
    fleet = fleet_of(found, _issuer(found.values), timeout=timeout)
    if fleet is None:
        raise ConfigurationError(
            f"Not configured: set {PREFIX}FLEET, or write `fleet` to a file for --config."
        )
    return fleet


@dataclass(frozen=True, slots=True)
class Judge:
    """The verifier that settings name, which takes no part in the fleet but knows what it heard.

    It fetches what it needs and nothing else, and writes no file.
    """

    verifier: TokenVerifier
    fleet: ConfiguredFleet | None


def configured_verifier(
    options: Mapping[str, str | list[str] | None], environ: Mapping[str, str], file: Path | None
) -> Judge | str:
    """The verifier that an API with these settings would have; else what is missing for one.

    `options` win. An issuer among them stands alone: `domain` and `jwks_uri` of the environment
    and the file are those of another one. Raises ConfigurationError.
    """
    settings = read_settings(environ, file)
    if options.get("issuer"):
        settings = settings.without(("domain", "issuer", "jwks_uri"))
    found = _given(options).over(settings)
    missing = []
    if not found.values.keys() & {"issuer", "domain"}:
        missing.append(f"--issuer (or {PREFIX}ISSUER)")
    if "audience" not in found.values:
        missing.append(f"--audience (or {PREFIX}AUDIENCE)")
    if missing:
        return " and ".join(missing)
    fleet = fleet_of(found, _issuer(found.values))
    alone = {"fleet": None, "snapshot_path": None, "background": False}
    register = None if fleet is None else fleet.register
    arguments = {**alone, "register": register}
    return Judge(verifier_of(TokenVerifier, TokenVerifier.for_auth0, found, arguments), fleet)


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


def manages_a_tenant(found: Found) -> bool:
    """Whether `found` says how to authenticate at a Management API, or begins to."""
    return not found.values.keys().isdisjoint(("client_id", *_PROOFS))


def _given(options: Mapping[str, str | list[str] | None]) -> Found:
    given = {name: value for name, value in options.items() if value}
    names = {name: _OPTIONS.get(name, f"--{name.replace('_', '-')}") for name in given}
    return Found(cast(Settings, given), names)


def _issuer(settings: Settings) -> str:
    return settings.get("issuer") or base_url_of(settings["domain"])


def _proof(found: Found) -> str:
    """The name of the one way to authenticate in it; empty if there is none."""
    given = [name for name in _PROOFS if name in found.values]
    if len(given) > 1:
        names = " and ".join(found.names[name] for name in given)
        raise ConfigurationError(f"{names} contradict each other: keep one way to authenticate.")
    return given[0] if given else ""


def _require_enough(settings: Settings, proof: str, ask: Callable[[str], str] | None) -> None:
    missing = []
    if "domain" not in settings:
        missing.append(f"{PREFIX}DOMAIN (or --domain)")
    if "client_id" not in settings and not proof.startswith("token"):
        missing.append(f"{PREFIX}CLIENT_ID (or --client-id)")
    if not proof and (missing or ask is None):
        first, *ways = (variable(name) for name in _PROOFS)
        missing.append(f"{first} (or one of {', '.join(ways)})")
    if missing:
        raise ConfigurationError(
            f"Not configured: set {', and '.join(missing)}; or write them to a file for --config."
        )


def _auth(found: Found, proof: str, ask: Callable[[str], str] | None) -> Auth:
    client_id = found.values.get("client_id", "")
    audience = found.values.get("management_audience")
    secret = _secret(found, proof) if proof else ask(client_id) if ask else ""
    if proof.startswith("token"):
        return StaticToken(secret)
    if proof == "private_key_file":
        return PrivateKeyJWT(client_id, secret, audience=audience)
    return ClientCredentials(client_id, secret, audience=audience)


def _secret(found: Found, proof: str) -> str:
    value = found.values.get(proof)
    return content_of(found.names[proof], value) if isinstance(value, Path) else str(value)
