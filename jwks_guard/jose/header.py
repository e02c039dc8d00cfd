"""The JOSE header and what is refused in it (RFC 7515 section 4, RFC 8725)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeGuard

import msgspec

from jwks_guard.errors import (
    AlgorithmNotAllowedError,
    MalformedTokenError,
    TokenTypeError,
    UnsupportedTokenError,
)
from jwks_guard.jose.compact import DECODE_ERRORS, decode_segment, not_an_object

MAX_KID_CHARS = 512
MAX_HEADER_BYTES = 8192
"""The longest header that is looked at, in base64url: one with a certificate chain (`x5c`) fits."""

_ABSENT = msgspec.Raw()


class _Parameters(msgspec.Struct, gc=False):
    """The parameters that are read; values stay JSON until then, and all others are skipped.

    A forged header costs its maker nothing: to make objects of it would cost us 2 ms for 16 KB.
    """

    alg: msgspec.Raw = _ABSENT
    kid: msgspec.Raw = _ABSENT
    typ: msgspec.Raw = _ABSENT
    crit: msgspec.Raw = _ABSENT


_decode_parameters = msgspec.json.Decoder(_Parameters).decode
_decode_string = msgspec.json.Decoder(str).decode


@dataclass(frozen=True, slots=True)
class Header:
    """What a token says about itself, before its signature is verified.

    alg: on the allow-list. kid: names the key, nothing else does; None for a token without one,
    which an empty string counts as. typ: normalised, or None.
    Of other parameters, `jku`, `x5u`, `x5c` and `jwk` among them, nothing is read.
    """

    alg: str
    kid: str | None
    typ: str | None


def parse_header(
    segment: bytes, algorithms: frozenset[str], token_types: frozenset[str | None]
) -> Header:
    """Give the header in `segment` if its `alg` and `typ` are among those given.

    token_types: as `normalize_typ` gives them; None lets a token without `typ` through.
    Whether the rest of it is JSON in UTF-8 is left to `decode_object`, once the signature is good.

    Raises MalformedTokenError, UnsupportedTokenError (`crit`), AlgorithmNotAllowedError and
    TokenTypeError.
    """
    parameters = _parameters(segment)
    # RFC 7515 section 4.1.11: refuse extensions that are not understood, and none is understood.
    if parameters.crit is not _ABSENT:
        raise UnsupportedTokenError("The header has critical extensions (`crit`).")
    alg = _string(parameters.alg)
    if alg is None:
        raise MalformedTokenError("The header has no `alg` that is a string.")
    if alg not in algorithms:
        allowed = " or ".join(sorted(algorithms))
        raise AlgorithmNotAllowedError(f"The header's `alg` is not {allowed}.")
    typ = _string(parameters.typ)
    if typ is not None:
        typ = normalize_typ(typ)
    elif parameters.typ is not _ABSENT:
        raise TokenTypeError("The header's `typ` is not a string.")
    if typ not in token_types:
        raise TokenTypeError("The header's `typ` is not one of the accepted token types.")
    kid = "" if parameters.kid is _ABSENT else _string(parameters.kid)
    if kid != "" and not is_kid(kid):
        raise MalformedTokenError(
            f"The header's `kid` is not a string of at most {MAX_KID_CHARS} characters."
        )
    return Header(alg, kid or None, typ)


def _parameters(segment: bytes) -> _Parameters:
    if len(segment) > MAX_HEADER_BYTES:
        raise MalformedTokenError(f"The token's header is longer than {MAX_HEADER_BYTES} bytes.")
    try:
        return _decode_parameters(decode_segment(segment, "header"))
    except DECODE_ERRORS:
        raise not_an_object("header") from None


def _string(value: msgspec.Raw) -> str | None:
    """Give the string that `value` is; None for other JSON, and for nothing."""
    if value is _ABSENT:
        return None
    try:
        return _decode_string(value)
    except msgspec.ValidationError:
        return None
    except DECODE_ERRORS:
        raise not_an_object("header") from None


def normalize_typ(value: str) -> str:
    """Give a `typ` in lower case without `application/` (RFC 7515 section 4.1.9)."""
    return value.lower().removeprefix("application/")


def is_kid(value: object) -> TypeGuard[str]:
    """Tell whether `value` can name a key: a string of 1 to 512 characters."""
    return isinstance(value, str) and 0 < len(value) <= MAX_KID_CHARS
