"""SigningKey: one key as the Management API describes it, read from untrusted JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes

State = Literal["next", "current", "previously used", "revoked"]
_FLAGS = ("current", "next", "previous", "revoked")
_DATES = ("current_since", "current_until", "revoked_at")
_TEXTS = ("kid", "cert", "pkcs7", "fingerprint", "thumbprint")


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """One signing key of a tenant (Management API v2, "Get all Application Signing Keys").

    Arguments:
        kid: its key ID, as tokens name it.
        cert: its certificate in PEM, as the API sent it: with CRLF line ends. See `pem`.
        fingerprint: the certificate's SHA-1 in colon-separated hexadecimal.
        thumbprint: the same without colons.
        pkcs7: the certificate in PKCS #7.
        current: whether new tokens are signed with it. A flag that the API leaves out is False.
        next: whether the next rotation makes it current.
        previous: whether it was the current key before.
        current_since: when it became current.
        current_until: when it stopped being current.
        revoked: whether it was withdrawn for good.
        revoked_at: when.
        extra: members that are not known here, and dates that can't be parsed, as they were sent.
        inferred: whether the result of a `rotate` or `revoke` was concluded from reading the keys
            again, because the call itself brought no answer that says so.

    """

    kid: str
    cert: str = field(default="", repr=False)
    fingerprint: str | None = None
    thumbprint: str | None = None
    pkcs7: str | None = field(default=None, repr=False)
    current: bool = False
    next: bool = False
    previous: bool = False
    current_since: datetime | None = None
    current_until: datetime | None = None
    revoked: bool = False
    revoked_at: datetime | None = None
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False, hash=False)
    inferred: bool = False

    @property
    def state(self) -> State:
        """Its place in the rotation; a key that is none of the others was used before."""
        if self.revoked:
            return "revoked"
        if self.current:
            return "current"
        return "next" if self.next else "previously used"

    @property
    def pem(self) -> str:
        """The certificate in PEM, with plain line ends."""
        return self.cert.replace("\r\n", "\n")

    @property
    def certificate(self) -> x509.Certificate:
        """The certificate; raises ValueError when `cert` is none."""
        try:
            return x509.load_pem_x509_certificate(self.pem.encode("ascii", "replace"))
        except x509.InvalidVersion as error:
            raise ValueError(str(error)) from None

    def to_dict(self) -> dict[str, Any]:
        """The key as JSON-compatible data, dates in ISO 8601; `inferred` only where it is true."""
        known = {name: getattr(self, name) for name in (*_TEXTS, *_FLAGS)}
        dates = {name: getattr(self, name) for name in _DATES}
        written = {name: date and date.isoformat() for name, date in dates.items()}
        marks = {"inferred": True} if self.inferred else {}
        return {**known, **written, **self.extra, **marks}


class UnexpectedAnswerError(ValueError):
    """An answer that is not what the API documents; the text says in what."""


def parse_keys(document: object) -> list[SigningKey]:
    """The keys of a list answer; raises UnexpectedAnswerError."""
    if not isinstance(document, list):
        raise UnexpectedAnswerError("it is no JSON array")
    return [parse_key(each) for each in document]


def parse_key(document: object) -> SigningKey:
    """One key; raises UnexpectedAnswerError for what is no key or has members of a wrong type."""
    if not isinstance(document, dict):
        raise UnexpectedAnswerError("a key in it is no JSON object")
    members = {name: value for name, value in document.items() if value is not None}
    if not members.get("kid"):
        raise UnexpectedAnswerError("a key in it has no kid")
    texts: dict[str, Any] = {n: _typed(members, n, str) for n in _TEXTS if n in members}
    flags: dict[str, Any] = {n: _typed(members, n, bool) for n in _FLAGS if n in members}
    dates: dict[str, Any] = {n: _date(members[n]) for n in _DATES if n in members}
    known = {*texts, *flags, *(name for name, date in dates.items() if date is not None)}
    extra = {name: value for name, value in members.items() if name not in known}
    return SigningKey(**texts, **flags, **dates, extra=extra)


def parse_change(document: object, *, state: Literal["next", "revoked"]) -> SigningKey:
    """The key in an answer to rotate or revoke, which is now in `state`: kid and certificate.

    The fingerprints follow from the certificate; the dates are not told.
    """
    key = parse_key(document)
    key = replace(key, next=True) if state == "next" else replace(key, revoked=True)
    try:
        sha1 = key.certificate.fingerprint(hashes.SHA1())  # noqa: S303 - what Auth0 names a key by
    except ValueError:
        return key
    colons = key.fingerprint or sha1.hex(":").upper()
    return replace(key, fingerprint=colons, thumbprint=key.thumbprint or sha1.hex().upper())


def _typed(members: Mapping[str, Any], name: str, kind: type) -> Any:
    value = members[name]
    if not isinstance(value, kind):
        raise UnexpectedAnswerError(f"{name} of a key in it has another type than documented")
    return value


def _date(value: object) -> datetime | None:
    """An ISO 8601 date in UTC, which it is where it names no zone; None for anything else."""
    if not isinstance(value, str):
        return None
    try:
        date = datetime.fromisoformat(value)
        return date.replace(tzinfo=date.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError):  # the latter just outside the years 1 to 9999
        return None
