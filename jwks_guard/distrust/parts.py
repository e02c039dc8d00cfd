"""A part of the state as JSON: a line of the journal, and what instances tell each other."""

from __future__ import annotations

import msgspec

from jwks_guard.distrust.state import Distrust, Name

_encoder = msgspec.json.Encoder(order="deterministic")
_decoder = msgspec.json.Decoder(tuple[str, str, Distrust])


def encoded_part(name: Name, flag: Distrust) -> bytes:
    """The flag of `name`, or a part of it, as JSON without a line break."""
    return _encoder.encode((*name, flag))


def decoded_part(data: bytes | msgspec.Raw) -> tuple[Name, Distrust]:
    """The key and the flag in `data`; raises ValueError, which does not quote it."""
    try:
        issuer, kid, flag = _decoder.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise ValueError("it is no part of the state") from None
    return (issuer, kid), flag
