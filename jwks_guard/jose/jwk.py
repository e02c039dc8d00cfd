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

from jwks_guard.jose.compact import DECODE_ERRORS, b64url_decode, b64url_encode
from jwks_guard.jose.header import MAX_KID_CHARS, is_kid

PublicKey = RSAPublicKey | ec.EllipticCurvePublicKey | Ed25519PublicKey | Ed448PublicKey
_JSONObject = dict[str, object]
_Loaded = tuple[PublicKey, int, dict[str, str]]

ALGORITHMS_BY_KEY_TYPE: Final[dict[tuple[str, str | None], frozenset[str]]] = {
    ("RSA", None): frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}),
    ("EC", "P-256"): frozenset({"ES256"}),
    ("EC", "P-384"): frozenset({"ES384"}),
    ("EC", "P-521"): frozenset({"ES512"}),
    ("OKP", "Ed25519"): frozenset({"EdDSA", "Ed25519"}),
    ("OKP", "Ed448"): frozenset({"EdDSA", "Ed448"}),
}
"""What a key of this (`kty`, `crv`) can verify; its own `alg` narrows it to one (RFC 8725 3.1)."""

MAX_KEYS = 1000
"""The keys that are taken from a set; the largest that issuers publish have some dozens."""
MAX_VALUES = 50_000
"""The commas in a document; one of half a megabyte of 2048-bit keys has 10,000."""
MAX_MEMBER_BYTES = 4096
_READ = frozenset({"kid", "kty", "crv", "alg", "use", "key_ops", "issuer", "n", "e", "x", "y"})

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

    thumbprint: RFC 7638 with SHA-256, in base64url. algorithms: what it may verify.
    signature_octets: the exact length of its signatures.
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

    @property
    def identity(self) -> tuple[object, ...]:
        """What makes it the same key after a refresh; with anything else in it, it is a new key."""
        return (self.kid, self.thumbprint, self.alg, self.use, self.key_ops)

    def to_jwk(self) -> dict[str, Any]:
        """Give the public JWK that loads to a key of the same identity."""
        key_ops = None if self.key_ops is None else sorted(self.key_ops)
        bindings = {"kid": self.kid, "alg": self.alg, "use": self.use, "key_ops": key_ops}
        return {**self.members, **{name: v for name, v in bindings.items() if v is not None}}


@dataclass(frozen=True, slots=True)
class SkippedKey:
    """A JWK that was left out of its set, and why. kid: None when it has none."""

    kid: str | None
    reason: str


def load_jwk_set(
    document: Mapping[str, object],
) -> tuple[tuple[VerificationKey, ...], tuple[SkippedKey, ...]]:
    """Give the usable keys of a JWK Set (RFC 7517 section 5) and the skipped ones, in its order.

    `keys` holds parsed JSON, or JSON as `jwk_set` leaves it. Of more usable keys than MAX_KEYS the
    first ones are taken, and no more skipped ones are listed.

    Raises ValueError if `keys` is not an array; one unusable JWK never fails its set.
    """
    jwks = document.get("keys")
    if not isinstance(jwks, list):
        raise ValueError("the JWK Set has no array `keys`")
    keys: list[VerificationKey] = []
    skipped: list[SkippedKey] = []
    left = len(jwks)
    for each in jwks:
        if len(keys) >= MAX_KEYS:
            break
        left -= 1
        jwk: object = None
        try:
            jwk = _members(each) if isinstance(each, msgspec.Raw) else each
            keys.append(load_jwk(jwk))
        except UnusableKeyError as error:
            if len(skipped) < MAX_KEYS:
                kid = jwk.get("kid") if isinstance(jwk, dict) else None
                skipped.append(SkippedKey(kid if is_kid(kid) else None, str(error)))
    if left:
        skipped.append(SkippedKey(None, f"{left} more, after the first {MAX_KEYS} usable keys"))
    return tuple(keys), tuple(skipped)


def jwk_set(body: bytes) -> dict[str, object]:
    """Give the JWK Set in `body`, its JWKs still JSON.

    What is no key is never made an object of: half a megabyte of nested arrays would hold up every
    thread for a second.

    Raises ValueError, never with the data in it.
    """
    if body.count(b",") > MAX_VALUES:
        raise ValueError(f"it has more than {MAX_VALUES} values")
    try:
        keys = _decode_set(body).keys
    except DECODE_ERRORS:
        raise ValueError("not a JSON object in UTF-8") from None
    try:
        return {"keys": _decode_array(keys)}
    except DECODE_ERRORS:
        return {}


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


def load_jwk(jwk: object) -> VerificationKey:
    """Give the verification key that `jwk`, any parsed JSON, describes (RFC 7517 section 4).

    `x5c`, `x5t` and unknown members are ignored. Raises UnusableKeyError with the reason.
    """
    if not isinstance(jwk, dict):
        raise UnusableKeyError("not a JSON object")
    kid = jwk.get("kid")
    if not is_kid(kid):
        raise UnusableKeyError(f"`kid` is not a string of 1 to {MAX_KID_CHARS} characters")
    kty, crv = _key_type(jwk)
    for member in _PRIVATE_MEMBERS:
        if member in jwk:
            raise UnusableKeyError(f"published with its private member `{member}`")
    use, key_ops = _use(jwk), _key_ops(jwk)
    alg, algorithms = _algorithms(jwk, kty, crv)
    public_key, signature_octets, members = _LOADERS[kty](jwk)
    return VerificationKey(
        kid=kid,
        thumbprint=thumbprint(members),
        kty=kty,
        crv=crv,
        alg=alg,
        use=use,
        key_ops=key_ops,
        algorithms=algorithms,
        signature_octets=signature_octets,
        members=members,
        public_key=public_key,
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
    return alg, frozenset({alg})


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
    x, y = _octets(jwk, "x"), _octets(jwk, "y")
    # RFC 7518 section 6.2.1.2: each in full length, or one point would have several spellings.
    if not len(x) == len(y) == (curve.key_size + 7) // 8:
        raise UnusableKeyError(f"`x` or `y` has not the length of a {crv} coordinate")
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
        return b64url_decode(text.encode())
    except ValueError:
        raise UnusableKeyError(f"`{name}` is not unpadded base64url") from None


def _string(jwk: _JSONObject, name: str) -> str:
    value = jwk.get(name)
    if not isinstance(value, str):
        raise UnusableKeyError(f"`{name}` is not a string")
    return value
