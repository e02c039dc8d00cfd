"""Untrusted JWKs become verification keys, each on its own (RFC 7517, RFC 7518, RFC 8037)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, RSAPublicNumbers

from jwks_guard.jose.algorithms import ALGORITHMS_BY_KEY_TYPE, AllowList
from jwks_guard.jose.compact import BYTE_ORDER_MARK, DECODE_ERRORS, b64_decode, b64url_encode
from jwks_guard.jose.header import MAX_KID_CHARS, is_kid

PublicKey = RSAPublicKey | ec.EllipticCurvePublicKey | Ed25519PublicKey | Ed448PublicKey
_JSONObject = dict[str, object]
_Loaded = tuple[PublicKey, int, dict[str, str]]

MAX_KEYS = 1000
"""The keys that are taken from a set; the largest that issuers publish have some dozens."""
MAX_VALUES = 50_000
"""The commas in a document; one of half a megabyte of 2048-bit keys has 10,000."""
MAX_MEMBER_BYTES = 4096
_READ = frozenset({"kid", "kty", "crv", "alg", "use", "key_ops", "issuer", "n", "e", "x", "y"})
_TENANT = "{tenantid}"
_EMPTY: Final[tuple[object, ...]] = (None, "", [])
_PRIVATE_MEMBERS = ("d", "p", "q", "dp", "dq", "qi", "oth", "k")
_READ_OR_REFUSED = _READ.union(_PRIVATE_MEMBERS)
_RSA_BITS = range(2048, 8193)
_RSA_EXPONENTS = range(3, 2**32, 2)
_EC_CURVES: Final[dict[str, ec.EllipticCurve]] = {
    "P-256": ec.SECP256R1(),
    "P-384": ec.SECP384R1(),
    "P-521": ec.SECP521R1(),
}
_OKP_CURVES: Final[dict[str, type[Ed25519PublicKey | Ed448PublicKey]]] = {
    "Ed25519": Ed25519PublicKey,
    "Ed448": Ed448PublicKey,
}


_ABSENT = msgspec.Raw()


class _Set(msgspec.Struct):
    keys: msgspec.Raw = _ABSENT


_decode_set = msgspec.json.Decoder(_Set).decode
_decode_array = msgspec.json.Decoder(list[msgspec.Raw]).decode
_Members = msgspec.defstruct(
    "_Members", [(name, msgspec.Raw, _ABSENT) for name in sorted(_READ_OR_REFUSED)]
)
_decode_members = msgspec.json.Decoder(_Members).decode


class UnusableKeyError(ValueError):
    """A JWK that is not a key to verify signatures with; the message is the reason."""


@dataclass(frozen=True, slots=True, eq=False)
class VerificationKey:
    """A public key with all that binds it. Two loads of one JWK: two objects, one `identity`.

    kid: the JWK's, or the thumbprint where it has none: then it is not `named`.
    thumbprint: RFC 7638 with SHA-256, in base64url, over the decoded values.
    algorithms: what it may verify. signature_octets: the exact length of its signatures.
    members: its public members in their one canonical spelling, those the thumbprint is made of.
    """

    kid: str
    thumbprint: str
    kty: str
    crv: str | None
    alg: str | None
    use: str | None
    key_ops: frozenset[str] | None
    algorithms: frozenset[str]
    signature_octets: int
    members: Mapping[str, str] = field(repr=False)
    public_key: PublicKey = field(repr=False)
    named: bool = True

    def may_verify(self, alg: str, allowed: AllowList) -> bool:
        """Whether it may verify signatures by `alg` where these algorithms are allowed."""
        of_type = allowed.unbound if self.alg is None else allowed.fitting
        return alg in self.algorithms and alg in of_type[self.kty, self.crv]

    @property
    def identity(self) -> tuple[object, ...]:
        """What makes it the same key after a refresh; with anything else in it, it is a new key."""
        return (self.kid, self.named, self.thumbprint, self.alg, self.use, self.key_ops)

    def to_jwk(self) -> dict[str, Any]:
        """Give the public JWK that loads to a key of the same identity."""
        key_ops = None if self.key_ops is None else sorted(self.key_ops)
        kid = self.kid if self.named else None
        bindings = {"kid": kid, "alg": self.alg, "use": self.use, "key_ops": key_ops}
        return {**self.members, **{name: v for name, v in bindings.items() if v is not None}}


@dataclass(frozen=True, slots=True)
class SkippedKey:
    """A JWK that was left out of its set, and why. kid: None when it has none."""

    kid: str | None
    reason: str


def load_jwk_set(
    document: Mapping[str, object], issuer: str | None = None
) -> tuple[tuple[VerificationKey, ...], tuple[SkippedKey, ...]]:
    """Give the usable keys of a JWK Set (RFC 7517 section 5) and the skipped ones, in its order.

    `keys` holds parsed JSON, or JSON as `jwk_set` leaves it. Of more usable keys than MAX_KEYS the
    first ones are taken, and no more skipped ones are listed. `issuer` is whose set it is; a JWK
    that names another one is skipped.

    Raises ValueError if `keys` is not an array; one unusable JWK never fails its set.
    """
    given = document.get("keys")
    if not isinstance(given, list):
        raise ValueError("the JWK Set has no array `keys`")
    jwks = [_read(jwk) for jwk in given]
    # A serializer that writes an absent array as [] does so in every JWK. Beside a JWK that has no
    # `key_ops`, an empty one says that its key is for nothing (RFC 7517 section 4.3).
    omitted = any(isinstance(jwk, dict) and "key_ops" not in jwk for jwk in jwks)
    keys: list[VerificationKey] = []
    skipped: list[SkippedKey] = []
    left = len(jwks)
    for jwk in jwks:
        if len(keys) >= MAX_KEYS:
            break
        left -= 1
        try:
            if isinstance(jwk, UnusableKeyError):
                raise jwk
            if omitted and isinstance(jwk, dict) and jwk.get("key_ops") == []:
                raise UnusableKeyError("`key_ops` is empty, and other JWKs of the set have none")
            keys.append(load_jwk(jwk, issuer))
        except UnusableKeyError as error:
            if len(skipped) < MAX_KEYS:
                kid = jwk.get("kid") if isinstance(jwk, dict) else None
                skipped.append(SkippedKey(kid if is_kid(kid) else None, str(error)))
    if left:
        skipped.append(SkippedKey(None, f"{left} more, after the first {MAX_KEYS} usable keys"))
    return tuple(keys), tuple(skipped)


def jwk_set(body: bytes) -> dict[str, object]:
    """Give the JWK Set in `body`, its JWKs still JSON; a byte order mark is ignored (RFC 8259 8.1).

    What is no key is never made an object of: half a megabyte of nested arrays would hold up every
    thread for a second.

    Raises ValueError, never with the data in it.
    """
    if body.count(b",") > MAX_VALUES:
        raise ValueError(f"it has more than {MAX_VALUES} values")
    try:
        keys = _decode_set(body.removeprefix(BYTE_ORDER_MARK)).keys
    except DECODE_ERRORS:
        raise ValueError("not a JSON object in UTF-8") from None
    try:
        return {"keys": _decode_array(keys)}
    except DECODE_ERRORS:
        return {}


def _read(jwk: object) -> object:
    """Give the JWK as parsed JSON, or why it can't be used."""
    try:
        return _members(jwk) if isinstance(jwk, msgspec.Raw) else jwk
    except UnusableKeyError as error:
        return error


def _members(jwk: msgspec.Raw) -> object:
    """Give the members that are read, parsed; what is no object is none."""
    try:
        members = _decode_members(jwk)
    except DECODE_ERRORS:
        return None
    fields = msgspec.structs.asdict(members).items()
    read = {name: value for name, value in fields if value is not _ABSENT}
    for name, value in read.items():
        if memoryview(value).nbytes > MAX_MEMBER_BYTES:
            raise UnusableKeyError(f"`{name}` is longer than {MAX_MEMBER_BYTES} bytes")
    try:
        return {name: msgspec.json.decode(value) for name, value in read.items()}
    except DECODE_ERRORS:
        return None


def load_jwk(jwk: object, issuer: str | None = None) -> VerificationKey:
    """Give the verification key that `jwk`, any parsed JSON, describes (RFC 7517 section 4).

    A member that is null, an empty string or an empty array counts as absent: serializers write
    absent members like that. `x5c`, `x5t` and unknown members are ignored. If the JWK has a member
    `issuer` (Microsoft Entra), it has to match a given `issuer`.

    Raises UnusableKeyError with the reason.
    """
    if not isinstance(jwk, dict):
        raise UnusableKeyError("not a JSON object")
    jwk = {name: value for name, value in jwk.items() if value not in _EMPTY}
    kid = jwk.get("kid")
    if kid is not None and not is_kid(kid):
        raise UnusableKeyError(f"`kid` is not a string of 1 to {MAX_KID_CHARS} characters")
    kty, crv = _key_type(jwk)
    for member in _PRIVATE_MEMBERS:
        if member in jwk:
            raise UnusableKeyError(f"published with its private member `{member}`")
    use, key_ops = _use(jwk), _key_ops(jwk)
    alg, algorithms = _algorithms(jwk, kty, crv)
    if issuer is not None and "issuer" in jwk and not _is_issued_by(jwk["issuer"], issuer):
        raise UnusableKeyError("`issuer` is not the configured issuer")
    public_key, signature_octets, members = _LOADERS[kty](jwk)
    own_name = thumbprint(members)
    return VerificationKey(
        kid=kid or own_name,
        thumbprint=own_name,
        kty=kty,
        crv=crv,
        alg=alg,
        use=use,
        key_ops=key_ops,
        algorithms=algorithms,
        signature_octets=signature_octets,
        members=members,
        public_key=public_key,
        named=kid is not None,
    )


def thumbprint(members: Mapping[str, str]) -> str:
    """Give the SHA-256 thumbprint over a key's required public members (RFC 7638 section 3)."""
    return b64url_encode(sha256(msgspec.json.encode(members, order="sorted")).digest())


def _key_type(jwk: _JSONObject) -> tuple[str, str | None]:
    kty = _string(jwk, "kty")
    if kty not in _LOADERS:
        raise UnusableKeyError("`kty` is not RSA, EC or OKP")
    crv = None if kty == "RSA" else _string(jwk, "crv")
    if (kty, crv) not in ALGORITHMS_BY_KEY_TYPE:
        raise UnusableKeyError(f"`crv` is not a curve that {kty} signatures are verified on here")
    return kty, crv


def _use(jwk: _JSONObject) -> str | None:
    if "use" not in jwk:
        return None
    if _string(jwk, "use") != "sig":
        raise UnusableKeyError("`use` is not sig")
    return "sig"


def _key_ops(jwk: _JSONObject) -> frozenset[str] | None:
    if "key_ops" not in jwk:
        return None
    key_ops = jwk["key_ops"]
    if not isinstance(key_ops, list) or not all(isinstance(each, str) for each in key_ops):
        raise UnusableKeyError("`key_ops` is not an array of strings")
    if "verify" not in key_ops:
        raise UnusableKeyError("`key_ops` is without verify")
    return frozenset(key_ops)


def _algorithms(jwk: _JSONObject, kty: str, crv: str | None) -> tuple[str | None, frozenset[str]]:
    fitting = ALGORITHMS_BY_KEY_TYPE[kty, crv]
    if "alg" not in jwk:
        return None, fitting
    alg = _string(jwk, "alg")
    if alg not in fitting:
        raise UnusableKeyError(f"`alg` is not a signature algorithm of {crv or kty} keys")
    return alg, fitting if kty == "OKP" else frozenset({alg})


def _is_issued_by(issuer_member: object, issuer: str) -> bool:
    """Whether a JWK's `issuer` is `issuer`; in Entra's common key sets it has a placeholder."""
    if not isinstance(issuer_member, str):
        return False
    before, placeholder, after = issuer_member.partition(_TENANT)
    if not placeholder:
        return issuer_member == issuer
    tenant = issuer.removeprefix(before).removesuffix(after)
    return issuer == before + tenant + after and tenant != "" and "/" not in tenant


def _load_rsa(jwk: _JSONObject) -> _Loaded:
    # RFC 7518 section 6.3.1 forbids leading zero octets, but issuers do publish them. They are
    # dropped, so that the spelling of a key makes no second thumbprint of it.
    n, e = (_octets(jwk, name).lstrip(b"\0") for name in ("n", "e"))
    modulus, exponent = int.from_bytes(n, "big"), int.from_bytes(e, "big")
    if modulus.bit_length() not in _RSA_BITS:
        raise UnusableKeyError(f"RSA modulus of {modulus.bit_length()} bits, not of 2048 to 8192")
    if modulus % 2 == 0:
        raise UnusableKeyError("RSA modulus is even")
    if exponent not in _RSA_EXPONENTS:
        raise UnusableKeyError("RSA exponent is not odd and from 3 to under 2**32")
    members = {"kty": "RSA", "n": b64url_encode(n), "e": b64url_encode(e)}
    return RSAPublicNumbers(exponent, modulus).public_key(), len(n), members


def _load_ec(jwk: _JSONObject) -> _Loaded:
    crv = _string(jwk, "crv")
    curve = _EC_CURVES[crv]
    # RFC 7518 section 6.2.1.2: in full length, but issuers do publish them with fewer or more zeros
    # in front. They are made that long, so that the spelling makes no second thumbprint.
    size = (curve.key_size + 7) // 8
    x, y = (_octets(jwk, name).lstrip(b"\0").rjust(size, b"\0") for name in ("x", "y"))
    if not len(x) == len(y) == size:
        raise UnusableKeyError(f"`x` or `y` is longer than a {crv} coordinate")
    try:
        public_key = ec.EllipticCurvePublicKey.from_encoded_point(curve, b"\x04" + x + y)
    except (ValueError, UnsupportedAlgorithm):
        raise UnusableKeyError(f"`x` and `y` are not a point of {crv}") from None
    members = {"kty": "EC", "crv": crv, "x": b64url_encode(x), "y": b64url_encode(y)}
    return public_key, 2 * len(x), members


def _load_okp(jwk: _JSONObject) -> _Loaded:
    crv = _string(jwk, "crv")
    x = _octets(jwk, "x")
    try:
        public_key = _OKP_CURVES[crv].from_public_bytes(x)
    except (ValueError, UnsupportedAlgorithm):
        raise UnusableKeyError(f"`x` is not an {crv} public key") from None
    return public_key, 2 * len(x), {"kty": "OKP", "crv": crv, "x": b64url_encode(x)}


_LOADERS: Final[dict[str, Callable[[_JSONObject], _Loaded]]] = {
    "RSA": _load_rsa,
    "EC": _load_ec,
    "OKP": _load_okp,
}


def _octets(jwk: _JSONObject, name: str) -> bytes:
    text = _string(jwk, name)
    try:
        return b64_decode(text.encode())
    except ValueError:
        raise UnusableKeyError(f"`{name}` is not base64url") from None


def _string(jwk: _JSONObject, name: str) -> str:
    value = jwk.get(name)
    if not isinstance(value, str):
        raise UnusableKeyError(f"`{name}` is not a string")
    return value
