"""The compact serialization (RFC 7515 section 7.1): strict base64url, JSON, three segments.

Everything here works on bytes that nobody has verified yet.
"""

from __future__ import annotations

from typing import Any

import msgspec
from pybase64 import b64decode, b64encode_as_string

from jwks_guard.errors import InvalidTokenError, MalformedTokenError, UnsupportedTokenError

_LETTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
# By the length modulo 4, how a segment may end so that no unused bit is set. Other ends decode to
# the same bytes: one signature would have several spellings, and one token several digests.
_ENDS = (_LETTERS, b"", b"AQgw", b"AEIMQUYcgkosw048")
_PADDING = (b"", b"", b"==", b"=")
_TO_BASE64URL = bytes.maketrans(b"+/", b"-_")
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_PLUS, _SLASH, _DOT = b"+/."
_TEXT = (str, bytes)

_WITH_SCHEME = "The token begins with `Bearer `, which is the header's: give what follows it."

MAX_DEPTH = 64
"""Levels of nesting that a JSON object may have, far beyond what claims and key sets have."""


def _shallow(levels: int) -> Any:
    """Give the type of a JSON object with no more than so many levels of nesting.

    Its size doubles with each of them. Few claims sets have more than four.
    """
    scalar = str | float | int | bool | None
    value: Any = scalar
    for _ in range(levels - 1):
        value = scalar | list[value] | dict[str, value]
    return dict[str, value]


_decode_shallow = msgspec.json.Decoder(_shallow(4)).decode
_decode = msgspec.json.Decoder(dict[str, Any]).decode
DECODE_ERRORS = (msgspec.MsgspecError, ValueError, RecursionError)
"""What msgspec raises for untrusted bytes: ValueError if not UTF-8, RecursionError if deep."""


def b64url_decode(segment: bytes) -> bytes:
    """Give the bytes that `segment` encodes in base64url without padding (RFC 7515 section 2).

    Raises ValueError, never with the data in it, for padding, white space, the standard alphabet's
    `+` and `/`, and unused bits that are not zero (RFC 4648 section 3.5).
    """
    remainder = len(segment) & 3
    if segment and segment[-1] not in _ENDS[remainder]:
        raise ValueError("not canonical base64url")
    # pybase64 takes the standard alphabet's two as well.
    if _PLUS in segment or _SLASH in segment:
        raise ValueError("not the alphabet of base64url")
    if remainder:
        segment += _PADDING[remainder]
    try:
        return b64decode(segment, b"-_", True)
    except ValueError:
        raise ValueError("not unpadded base64url") from None


def b64_decode(text: bytes) -> bytes:
    """Give the bytes that `text` encodes in base64url or in base64, with or without padding.

    For what an issuer publishes, never for a token. Raises ValueError, never with the data in it.
    """
    bare = text.translate(_TO_BASE64URL).rstrip(b"=")
    try:
        return b64decode(bare + b"=" * (-len(bare) % 4), b"-_", True)
    except ValueError:
        raise ValueError("not base64url") from None


def b64url_encode(data: bytes) -> str:
    """Give `data` in base64url without padding (RFC 7515 section 2)."""
    return b64encode_as_string(data, b"-_").rstrip("=")


def json_object(data: bytes) -> dict[str, Any]:
    """Give the JSON object that `data` holds in UTF-8; of duplicate members the last one.

    Raises ValueError, never with the data in it, for everything else: other JSON values, text
    around the object, a byte order mark, lone surrogates, numbers beyond a float, more than
    MAX_DEPTH levels of nesting.
    """
    try:
        shallow: dict[str, Any] = _decode_shallow(data)
    except msgspec.ValidationError:
        pass  # deeper than that, or no object
    except DECODE_ERRORS:
        raise ValueError("not a JSON object in UTF-8") from None
    else:
        return shallow
    try:
        decoded = _decode(data)
    except DECODE_ERRORS:
        raise ValueError("not a JSON object in UTF-8") from None
    # Without a limit, deep nesting would end the recursion of whatever walks the object later.
    if _deeper_than(decoded, MAX_DEPTH):
        raise ValueError("nested too deeply")
    return decoded


def json_document(data: bytes) -> dict[str, Any]:
    """Give the JSON object of a document that an issuer publishes, as `json_object` does.

    A byte order mark before it is ignored (RFC 8259 section 8.1).
    """
    return json_object(data.removeprefix(BYTE_ORDER_MARK))


def _deeper_than(value: Any, levels: int) -> bool:
    level = [value]
    for _ in range(levels):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
    return bool(level)


def has_scheme(credentials: bytes) -> bool:
    """Tell whether the scheme of an Authorization header stands before a token."""
    return credentials[:7].lower() == b"bearer "


def to_bytes(compact: str | bytes, max_bytes: int) -> bytes:
    """Give `compact` as bytes once it is known to be ASCII and at most `max_bytes` long.

    Raises MalformedTokenError, also for what is neither str nor bytes.
    """
    if type(compact) is bytes and len(compact) <= max_bytes and compact.isascii():
        return compact  # first, as servers give bytes
    if not isinstance(compact, _TEXT):
        raise MalformedTokenError("A token is a str or bytes.")
    if len(compact) > max_bytes:
        raise MalformedTokenError(f"The token is longer than {max_bytes} bytes.")
    if not compact.isascii():
        raise MalformedTokenError("The token has characters outside ASCII.")
    return compact.encode() if isinstance(compact, str) else compact


def split(token: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    """Give the segments (header, payload, signature) and the signing input of a compact JWS.

    Raises UnsupportedTokenError for a JWE (RFC 7516 section 3.1) and for an opaque token,
    MalformedTokenError for all else that is not three segments. Only the payload may be empty: that
    is a JWS, though never a claims set.
    """
    signing_input, _, signature = token.rpartition(b".")
    header, separator, payload = signing_input.partition(b".")
    if not (header and separator and signature) or _DOT in payload:
        raise _not_a_jws(token)
    return header, payload, signature, signing_input


def decode_segment(segment: bytes, part: str) -> bytes:
    """Give the bytes of a token's segment; MalformedTokenError names the `part`."""
    try:
        return b64url_decode(segment)
    except ValueError:
        if has_scheme(segment):
            raise MalformedTokenError(_WITH_SCHEME) from None
        raise MalformedTokenError(f"The token's {part} is not unpadded base64url.") from None


def decode_object(segment: bytes, part: str) -> dict[str, Any]:
    """Give the JSON object in a token's segment; MalformedTokenError names the `part`."""
    try:
        return json_object(b64url_decode(segment))
    except ValueError:
        decode_segment(segment, part)  # which of the two it was
        raise not_an_object(part) from None


def not_an_object(part: str) -> MalformedTokenError:
    """Give the error for a segment that encodes something else than a JSON object."""
    return MalformedTokenError(f"The token's {part} is not a JSON object in UTF-8.")


def malformed(payload: bytes, signature: bytes) -> MalformedTokenError:
    """Give the error for segments of which one can't be decoded; it names the first of those."""
    try:
        decode_segment(signature, "signature")
        decode_object(payload, "payload")
    except MalformedTokenError as error:
        return error
    return MalformedTokenError("The token can't be decoded.")


def _not_a_jws(token: bytes) -> InvalidTokenError:
    if has_scheme(token):
        return MalformedTokenError(_WITH_SCHEME)
    dots = token.count(b".")
    if dots == 4:
        return UnsupportedTokenError(
            "The token is encrypted (JWE, five segments): let the issuer sign access tokens for "
            "this API without encrypting them."
        )
    if dots == 0 and token:
        return UnsupportedTokenError(
            "The token is opaque, not a JWT: request it with the audience of this API."
        )
    return MalformedTokenError(
        "The token is not a compact JWS: header, payload and signature with dots between them."
    )
