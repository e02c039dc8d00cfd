"""Who may log in at the console, by the settings; and the secret of one that has none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from secrets import token_urlsafe
from typing import Literal

from jwks_guard.base.settings_reader import Found, content_of, variable
from jwks_guard.console import OpenIDConnect, OperatorSecrets
from jwks_guard.errors import ConfigurationError

Login = OperatorSecrets | OpenIDConnect
_NAMES = {
    "issuer": "console_issuer",
    "client_id": "console_client_id",
    "client_secret": "console_client_secret",
    "redirect_uri": "console_redirect_uri",
}
"""Settings by the arguments of OpenIDConnect."""


_PROVIDER = (
    *("console_client_id", "console_client_secret", "console_client_secret_file"),
    *("console_redirect_uri", "console_operators", "console_viewers"),
)


def login_of(found: Found) -> Login | None:
    """The log-in that the settings name, if any; raises ConfigurationError."""
    operator, viewer = _secrets(found, "operator"), _secrets(found, "viewer")
    if "console_issuer" in found.values:
        if viewer is not None:
            raise ConfigurationError(
                f"{_name(found, 'console_viewer_secret')} and {found.names['console_issuer']} "
                f"contradict each other: at a provider, {variable('console_viewers')} says who "
                "looks. Keep one of them."
            )
        return _at_provider(found, operator)
    for name in found.values:
        if name in _PROVIDER:
            raise ConfigurationError(
                f"{found.names[name]} is set without {variable('console_issuer')}: set that one, "
                "or remove this one."
            )
    if operator is None and viewer is not None:
        raise ConfigurationError(
            f"{_name(found, 'console_viewer_secret')} is set without "
            f"{variable('console_operator_secret')}: set that one as well."
        )
    return None if operator is None else OperatorSecrets(operator=operator, viewer=viewer)


def new_login() -> tuple[OperatorSecrets, str]:
    """A log-in by a random secret, and that secret."""
    secret = token_urlsafe(24)
    return OperatorSecrets(operator=secret), secret


def _at_provider(found: Found, operator: Sequence[str] | None) -> OpenIDConnect:
    values = found.values
    roles = _roles(found)
    missing = [] if "console_client_id" in values else [variable("console_client_id")]
    if not roles:
        missing.append(f"{variable('console_operators')} (or {variable('console_viewers')})")
    if missing:
        raise ConfigurationError(
            f"{found.names['console_issuer']} is set without {' and '.join(missing)}: set that as "
            "well."
        )
    try:
        return OpenIDConnect(
            values["console_issuer"],
            values["console_client_id"],
            _text(found, "console_client_secret"),
            roles=roles,
            operator_secret=operator,
            redirect_uri=values.get("console_redirect_uri"),
        )
    except ConfigurationError as error:
        raise found.named(error, _NAMES) from None


def _roles(found: Found) -> Mapping[str, Mapping[str, Literal["viewer", "operator"]]]:
    """The role by claim and value; where both lists have one, it acts."""
    roles: dict[str, dict[str, Literal["viewer", "operator"]]] = {}
    for text in found.values.get("console_viewers", []):
        name, _, value = text.partition("=")
        roles.setdefault(name, {})[value] = "viewer"
    for text in found.values.get("console_operators", []):
        name, _, value = text.partition("=")
        roles.setdefault(name, {})[value] = "operator"
    return roles


def _secrets(found: Found, role: str) -> Sequence[str] | None:
    """The secrets of `role`: one, or two while the first is being replaced."""
    name = f"console_{role}_secret"
    text = _text(found, name)
    if text is None:
        return None
    try:
        return _checked(text.split())
    except ConfigurationError as error:
        raise ConfigurationError(f"{_name(found, name)}: {error}") from None


def _checked(secrets: Sequence[str]) -> Sequence[str]:
    OperatorSecrets(operator=secrets)
    return secrets


def _text(found: Found, name: str) -> str | None:
    """The setting `name`, or the content of the file that is set instead."""
    values, in_file = found.values, f"{name}_file"
    if name in values and in_file in values:
        raise ConfigurationError(
            f"{found.names[name]} and {found.names[in_file]} contradict each other: keep one."
        )
    path = values.get(in_file)
    if isinstance(path, Path):
        return content_of(found.names[in_file], path)
    text = values.get(name)
    return None if text is None else str(text)


def _name(found: Found, name: str) -> str:
    """What an error calls the secret `name`, as it is set or as it could be."""
    return found.names.get(name) or found.names.get(f"{name}_file") or variable(name)
