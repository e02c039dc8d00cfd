"""A part of the state as JSON: a line of the journal, and what instances tell each other."""

from __future__ import annotations

import msgspec

from jwks_guard.distrust.state import MAX_NUMBER, Decision, Distrust, Name


class _Part(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    issuer: str
    kid: str
    made: dict[str, Decision] = {}
    lifted: dict[str, Decision] = {}
    thumbprints: list[str] = []


_part = msgspec.json.Decoder(_Part)


def encoded_part(name: Name, flag: Distrust) -> bytes:
    """The flag of `name`, or a part of it, as JSON without a line break."""
    thumbprints = sorted(flag.thumbprints)
    return msgspec.json.encode(_Part(*name, dict(flag.made), dict(flag.lifted), thumbprints))


def decoded_part(data: bytes | msgspec.Raw) -> tuple[Name, Distrust]:
    """The key and the flag in `data`; raises ValueError, which does not quote it."""
    try:
        part = _part.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise ValueError("it is no part of the state") from None
    decisions = (*part.made.values(), *part.lifted.values())
    if not all(0 < decision.number <= MAX_NUMBER for decision in decisions):
        raise ValueError("a number in it is out of range")
    return (part.issuer, part.kid), Distrust(part.made, part.lifted, frozenset(part.thumbprints))
