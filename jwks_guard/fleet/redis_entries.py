"""Decisions as entries of a hash in Redis: one for each counter, signed if there is a secret.

An entry's field names the key and the replica, its value is the decision and its signatures. A
write is a maximum: a script keeps the larger number, so that two instances that write at the same
time, or one that writes late, can't undo each other.

While a secret is replaced there are two. Each entry is signed with both and read by either, so that
instances with the old one, both, and later the new one alone read what the others write.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Literal, NamedTuple, TypeAlias

import msgspec

from jwks_guard.distrust.state import Decision, Distrust, Name
from jwks_guard.fleet.soundness import DECODE_ERRORS, sound

MAX_ENTRY_BYTES = 16_384
_Field: TypeAlias = tuple[Literal["made", "lifted", "key"], str, str, str]
"""What it is, the issuer and the kid that it is about, and a replica; of "key" a thumbprint."""


_field = msgspec.json.Decoder(_Field)
_value = msgspec.json.Decoder(tuple[Decision, Annotated[list[str], msgspec.Meta(max_length=2)]])


class Entry(NamedTuple):
    """A part of the flag of the key `name`.

    `signed` says whether it has signatures at all, `complete` whether every secret made one.
    """

    name: Name
    flag: Distrust
    signed: bool
    complete: bool


class Entries:
    """Encodes entries, signed with each of `secrets`, and reads those that one of them signed.

    Without any, whatever can write to Redis can lift decisions.
    """

    def __init__(self, secrets: Sequence[str]) -> None:
        self._secrets = [secret.encode() for secret in secrets]
        self.signed = bool(secrets)

    def encoded(self, flags: Mapping[Name, Distrust]) -> Iterator[tuple[bytes, int, bytes]]:
        """The field, the number and the value of each entry of sound flags."""
        for (issuer, kid), flag in flags.items():
            for replica, decision in flag.made.items():
                yield self._entry(("made", issuer, kid, replica), decision)
            for replica, decision in flag.lifted.items():
                yield self._entry(("lifted", issuer, kid, replica), decision)
            for thumbprint in flag.thumbprints:
                yield self._entry(("key", issuer, kid, thumbprint), Decision(1))

    def _entry(self, name: _Field, decision: Decision) -> tuple[bytes, int, bytes]:
        field = msgspec.json.encode(name)
        macs = [_mac(secret, field, decision) for secret in self._secrets]
        return field, decision.number, msgspec.json.encode((decision, macs))

    def decoded(self, field: bytes, value: bytes) -> Entry:
        """Raises ValueError for what is no entry of ours."""
        if len(field) + len(value) > MAX_ENTRY_BYTES:
            raise ValueError("it is too long")
        try:
            (kind, issuer, kid, what), (decision, macs) = _field.decode(field), _value.decode(value)
        except DECODE_ERRORS:
            raise ValueError("it is no entry") from None
        valid = [_is_among(_mac(each, field, decision), macs) for each in self._secrets]
        if valid and not any(valid):
            raise ValueError("it has no valid signature")
        flag = sound((issuer, kid), _part(kind, what, decision))
        if flag is None:
            raise ValueError("it names no key, replica or thumbprint")
        return Entry((issuer, kid), flag, bool(macs), all(valid))


def _part(kind: str, what: str, decision: Decision) -> Distrust:
    if kind == "made":
        return Distrust(made={what: decision})
    if kind == "lifted":
        return Distrust(lifted={what: decision})
    return Distrust(thumbprints=frozenset([what]))


def _mac(secret: bytes, field: bytes, decision: Decision) -> str:
    return hmac.digest(secret, field + msgspec.json.encode(decision), "sha256").hex()


def _is_among(mac: str, macs: Sequence[str]) -> bool:
    return any(hmac.compare_digest(mac.encode(), each.encode()) for each in macs)
