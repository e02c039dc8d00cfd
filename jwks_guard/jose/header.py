"""The JOSE header and what is refused in it (RFC 7515 section 4, RFC 8725)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeGuard

from jwks_guard.errors import (
    AlgorithmNotAllowedError,
    MalformedTokenError,
    TokenTypeError,
    UnsupportedTokenError,
)
from jwks_guard.jose.compact import decode_object

MAX_KID_CHARS = 512


@dataclass(frozen=True, slots=True)
class Header:
    """What a token says about itself, before its signature is verified.

    alg: on the allow-list. kid: names the key, nothing else does. typ: normalised, or None.
    parameters: the header as it was parsed; `jku`, `x5u`, `x5c` and `jwk` in it are never used.
    """

    alg: str
    kid: str
    typ: str | None
    parameters: dict[str, Any] = field(repr=False)


def parse_header(
    segment: bytes, algorithms: frozenset[str], token_types: frozenset[str | None]
) -> Header:
    """Give the header in `segment` if its `alg` and `typ` are among those given.

    token_types: as `normalize_typ` gives them; None lets a token without `typ` through.

    Raises MalformedTokenError, UnsupportedTokenError (`crit`), AlgorithmNotAllowedError and
    TokenTypeError.
    """
    parameters = decode_object(segment, "header")
    # RFC 7515 section 4.1.11: refuse extensions that are not understood, and none is understood.
    if "crit" in parameters:
        raise UnsupportedTokenError("The header has critical extensions (`crit`).")
    alg = parameters.get("alg")
    if not isinstance(alg, str):
        raise MalformedTokenError("The header has no `alg` that is a string.")
    if alg not in algorithms:
        allowed = " or ".join(sorted(algorithms))
        raise AlgorithmNotAllowedError(f"The header's `alg` is not {allowed}.")
    typ = parameters.get("typ")
    if isinstance(typ, str):
        typ = normalize_typ(typ)
    elif "typ" in parameters:
        raise TokenTypeError("The header's `typ` is not a string.")
    if typ not in token_types:
        raise TokenTypeError("The header's `typ` is not one of the accepted token types.")
    kid = parameters.get("kid")
    if not is_kid(kid):
        raise MalformedTokenError(
            f"The header has no `kid` that is a string of 1 to {MAX_KID_CHARS} characters."
        )
    return Header(alg, kid, typ, parameters)


def normalize_typ(value: str) -> str:
    """Give a `typ` in lower case without `application/` (RFC 7515 section 4.1.9)."""
    return value.lower().removeprefix("application/")


def is_kid(value: object) -> TypeGuard[str]:
    """Tell whether `value` can name a key: a string of 1 to 512 characters."""
    return isinstance(value, str) and 0 < len(value) <= MAX_KID_CHARS
