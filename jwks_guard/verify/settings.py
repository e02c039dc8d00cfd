"""The verifier that settings name, with what is no value given in code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from jwks_guard.base.settings import VerifierSettings
from jwks_guard.base.settings_reader import Found, variable
from jwks_guard.errors import ConfigurationError
from jwks_guard.fleet.settings import fleet_of

V = TypeVar("V")
_ARGUMENTS = frozenset({"issuer", "jwks_uri", *VerifierSettings.__annotations__})
_NO_AUDIENCE = " Tokens without `aud` are only accepted with audience=None in code, and client_ids."


def verifier_of(
    make: Callable[..., V],
    for_auth0: Callable[..., V],
    found: Found,
    options: Mapping[str, Any],
) -> V:
    """The verifier that `found` names; `options` are arguments that win over it.

    It is made by `make`, or by `for_auth0` where there is a domain and no issuer. Raises
    ConfigurationError, which names the variable, or the name and the file, of what can't be used.
    """
    values = found.values
    arguments = {name: value for name, value in values.items() if name in _ARGUMENTS}
    arguments.update(options)
    if "issuer" not in arguments and "domain" in values:
        make, arguments["domain"] = for_auth0, values["domain"]
    used = found.without(options)
    try:
        _require_enough(arguments)
        if "fleet" not in options:
            arguments["fleet"] = fleet_of(used)
        return make(**arguments)
    except ConfigurationError as error:
        raise used.named(error) from None


def _require_enough(arguments: Mapping[str, object]) -> None:
    missing = []
    if "issuer" not in arguments and "domain" not in arguments:
        missing.append(f"{variable('issuer')} (or {variable('domain')})")
    if "audience" not in arguments:
        missing.append(variable("audience"))
    if missing:
        raise ConfigurationError(
            f"Not configured: set {' and '.join(missing)}, or write the same to a TOML file, in "
            f"lower case without JWKS_GUARD_.{'' if 'audience' in arguments else _NO_AUDIENCE}"
        )
