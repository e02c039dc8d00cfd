from __future__ import annotations

import json
import tracemalloc
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from hypothesis import given
from hypothesis import strategies as st

from jwks_guard.jose.compact import b64url_decode, b64url_encode, json_object
from jwks_guard.jose.jwk import (
    MAX_KEYS,
    MAX_MEMBER_BYTES,
    MAX_VALUES,
    SkippedKey,
    UnusableKeyError,
    jwk_set,
    load_jwk,
    load_jwk_set,
    thumbprint,
)

MakeJWK = Callable[..., dict[str, Any]]
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
KINDS = ["RSA", "P-256", "P-384", "P-521", "Ed25519", "Ed448"]
OKP = ["Ed25519", "Ed448"]
RSA_ALGORITHMS = {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}


def rsa_jwk(modulus: int, exponent: int = 65537) -> dict[str, Any]:
    def octets(number: int) -> str:
        return b64url_encode(number.to_bytes((number.bit_length() + 7) // 8, "big"))

    return {"kty": "RSA", "kid": "key-1", "n": octets(modulus), "e": octets(exponent)}


@pytest.mark.parametrize(
    ("kind", "algorithms"),
    [
        ("RSA", RSA_ALGORITHMS),
        ("P-256", {"ES256"}),
        ("P-384", {"ES384"}),
        ("P-521", {"ES512"}),
        ("Ed25519", {"EdDSA", "Ed25519"}),
        ("Ed448", {"EdDSA", "Ed448"}),
    ],
)
def test_key_without_alg_verifies_what_fits_its_type_and_curve(
    kind: str, algorithms: set[str], public_jwk: MakeJWK, private_keys: dict[str, Any]
) -> None:
    key = load_jwk(public_jwk(kind))
    assert key.algorithms == algorithms
    assert (key.kid, key.alg, key.use, key.key_ops) == ("key-1", None, None, None)
    assert (key.kty, key.crv) == (public_jwk(kind)["kty"], public_jwk(kind).get("crv"))
    assert key.public_key == private_keys[kind].public_key()


@pytest.mark.parametrize(("kind", "alg"), [(kind, alg) for kind in OKP for alg in ("EdDSA", kind)])
def test_eddsa_and_the_name_of_its_curve_are_one_algorithm(
    kind: str, alg: str, public_jwk: MakeJWK
) -> None:
    key = load_jwk(public_jwk(kind, alg=alg))
    assert key.alg == alg
    assert key.algorithms == {"EdDSA", kind}


def test_key_with_alg_verifies_that_one_only(public_jwk: MakeJWK) -> None:
    key = load_jwk(public_jwk(alg="PS384", use="sig", key_ops=["verify", "sign"]))
    assert key.algorithms == {"PS384"}
    assert (key.alg, key.use) == ("PS384", "sig")
    assert key.key_ops == frozenset({"verify", "sign"})


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"kid": 7}, "`kid` is not a string of 1 to 512 characters"),
        ({"kid": ["key-1"]}, "`kid`"),
        ({"kid": "k" * 513}, "`kid`"),
        ({"kty": None}, "`kty` is not a string"),
        ({"kty": 1}, "`kty` is not a string"),
        ({"kty": {}}, "`kty` is not a string"),
        ({"kty": "rsa"}, "`kty` is not RSA, EC or OKP"),
        ({"kty": "oct", "k": "c2VjcmV0"}, "`kty` is not RSA, EC or OKP"),
        ({"kty": "AKP"}, "`kty` is not RSA, EC or OKP"),
        ({"kty": "EC"}, "`crv` is not a string"),
        ({"kty": "EC", "crv": "secp256k1"}, "`crv` is not a curve that EC signatures"),
        ({"kty": "EC", "crv": "Ed25519"}, "`crv` is not a curve that EC signatures"),
        ({"kty": "OKP", "crv": "X25519"}, "`crv` is not a curve that OKP signatures"),
        ({"kty": "OKP", "crv": "P-256"}, "`crv` is not a curve that OKP signatures"),
        ({"kty": "OKP", "crv": ["Ed25519"]}, "`crv` is not a string"),
        ({"use": "enc"}, "`use` is not sig"),
        ({"use": "SIG"}, "`use` is not sig"),
        ({"use": ["sig"]}, "`use` is not a string"),
        ({"key_ops": ["sign", "encrypt"]}, "`key_ops` is without verify"),
        ({"key_ops": "verify"}, "`key_ops` is not an array of strings"),
        ({"key_ops": ["verify", 1]}, "`key_ops` is not an array of strings"),
        ({"key_ops": [["verify"]]}, "`key_ops` is not an array of strings"),
        ({"key_ops": {"verify": True}}, "`key_ops` is not an array of strings"),
        ({"alg": "ES256"}, "`alg` is not a signature algorithm of RSA keys"),
        ({"alg": "EdDSA"}, "`alg` is not a signature algorithm of RSA keys"),
        ({"alg": "RSA-OAEP"}, "`alg` is not a signature algorithm of RSA keys"),
        ({"alg": "HS256"}, "`alg` is not a signature algorithm of RSA keys"),
        ({"alg": "none"}, "`alg` is not a signature algorithm of RSA keys"),
        ({"alg": 256}, "`alg` is not a string"),
        ({"alg": ["RS256"]}, "`alg` is not a string"),
        ({"n": None}, "`n` is not a string"),
        ({"n": 2**2047 + 1}, "`n` is not a string"),
        ({"n": ""}, "`n` is not a string"),
        ({"n": "A"}, "`n` is not base64url"),
        ({"n": "AQ=AB"}, "`n` is not base64url"),
        ({"n": "=="}, "RSA modulus of 0 bits"),
        ({"n": "AQ AB"}, "`n` is not base64url"),
        ({"n": "AQAB\n"}, "`n` is not base64url"),
        ({"n": "é"}, "`n` is not base64url"),
        ({"n": "\ud800"}, "`n` is not base64url"),
        ({"e": None}, "`e` is not a string"),
        ({"e": 65537}, "`e` is not a string"),
        ({"e": ""}, "`e` is not a string"),
        ({"e": "AA"}, "RSA exponent"),
    ],
)
def test_unusable_rsa_or_foreign_key_is_refused_with_a_reason(
    members: dict[str, Any], reason: str, public_jwk: MakeJWK
) -> None:
    with pytest.raises(UnusableKeyError) as refusal:
        load_jwk(public_jwk(**members))
    assert str(refusal.value).startswith(reason)


PRIVATE_MEMBERS = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"]


@pytest.mark.parametrize("nothing", [None, "", []])
def test_empty_member_counts_as_absent(nothing: object, public_jwk: MakeJWK) -> None:
    optional = ["alg", "use", "key_ops", "x5c", "x5t", "x5t#S256", "x5u", "crv", "issuer"]
    for members in (*([name] for name in (*optional, *PRIVATE_MEMBERS)), optional, PRIVATE_MEMBERS):
        empty = public_jwk() | dict.fromkeys(members, nothing)
        assert load_jwk(empty, "https://issuer.test/").identity == load_jwk(public_jwk()).identity
    for name in ("kty", "n", "e"):
        with pytest.raises(UnusableKeyError, match=f"`{name}`"):
            load_jwk({**public_jwk(), name: nothing})


@pytest.mark.parametrize("member", PRIVATE_MEMBERS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", ["c2VjcmV0", "=", 0, False, {}, [None]])
def test_key_published_with_a_private_member_is_never_trusted(
    member: str, kind: str, value: object, public_jwk: MakeJWK
) -> None:
    with pytest.raises(UnusableKeyError, match=f"private member `{member}`") as refusal:
        load_jwk({**public_jwk(kind), member: value})
    assert "c2VjcmV0" not in str(refusal.value)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("kid", [None, "", []])
def test_key_without_kid_is_named_by_its_thumbprint(
    kind: str, kid: object, public_jwk: MakeJWK
) -> None:
    key = load_jwk({**public_jwk(kind), "kid": kid})
    assert key.kid == key.thumbprint == load_jwk(public_jwk(kind)).thumbprint
    assert not key.named
    assert "kid" not in key.to_jwk()
    assert load_jwk(key.to_jwk()).identity == key.identity


def test_key_whose_kid_is_its_thumbprint_has_a_kid(public_jwk: MakeJWK) -> None:
    bare = load_jwk(public_jwk(kid=None))
    named = load_jwk(public_jwk(kid=bare.thumbprint))
    assert named.named
    assert named.identity != bare.identity
    assert load_jwk(named.to_jwk()).identity == named.identity


TENANT = "9188040d-6c67-4c5b-b112-36a304b66dad"
OWN = f"https://login.microsoftonline.com/{TENANT}/v2.0"
TEMPLATE = "https://login.microsoftonline.com/{tenantid}/v2.0"


@pytest.mark.parametrize("issuer", [OWN, TEMPLATE, None, ""])
def test_key_of_this_issuer_or_of_every_tenant_of_its_platform_is_used(
    issuer: str | None, public_jwk: MakeJWK
) -> None:
    keys, skipped = load_jwk_set({"keys": [{**public_jwk(), "issuer": issuer}]}, OWN)
    assert (len(keys), skipped) == (1, ())


@pytest.mark.parametrize(
    "issuer",
    [
        OWN + "/",
        OWN.replace("9", "8"),
        TEMPLATE + "/",
        "https://login.microsoftonline.com/{tenantid}",
        "https://login.microsoftonline.com{tenantid}",
        "https://login.partner.microsoftonline.cn/{tenantid}/v2.0",
        f"https://login.microsoftonline.com/{TENANT}{{tenantid}}/v2.0",
        "{tenantid}",
        "{tenantid}{tenantid}",
        5,
        {},
        [OWN],
    ],
)
def test_key_of_another_issuer_is_skipped(issuer: object, public_jwk: MakeJWK) -> None:
    keys, skipped = load_jwk_set({"keys": [{**public_jwk(), "issuer": issuer}]}, OWN)
    assert keys == ()
    assert skipped == (SkippedKey("key-1", "`issuer` is not the configured issuer"),)


@pytest.mark.parametrize("jwk", [None, True, 1, 1.5, "RSA", [], [{"kty": "RSA"}]])
def test_jwk_that_is_no_object_is_refused(jwk: object) -> None:
    with pytest.raises(UnusableKeyError, match="not a JSON object"):
        load_jwk(jwk)


@pytest.mark.parametrize("bits", [2048, 3072, 8192])
def test_rsa_modulus_of_2048_to_8192_bits_is_accepted(bits: int) -> None:
    assert load_jwk(rsa_jwk(2 ** (bits - 1) + 1)).kty == "RSA"


@pytest.mark.parametrize("bits", [1, 512, 1024, 2047, 8193, 1_000_000])
def test_rsa_modulus_of_another_size_is_refused(bits: int) -> None:
    with pytest.raises(UnusableKeyError, match=f"RSA modulus of {bits} bits"):
        load_jwk(rsa_jwk(2 ** (bits - 1) | 1))


def test_rsa_modulus_that_is_even_is_refused() -> None:
    with pytest.raises(UnusableKeyError, match="RSA modulus is even"):
        load_jwk(rsa_jwk(2**2047))


@pytest.mark.parametrize("exponent", [3, 5, 65537, 2**32 - 1])
def test_odd_rsa_exponent_from_3_to_32_bits_is_accepted(exponent: int) -> None:
    assert load_jwk(rsa_jwk(2**2047 + 1, exponent)).algorithms == RSA_ALGORITHMS


@pytest.mark.parametrize("exponent", [1, 2, 4, 65536, 2**32, 2**32 + 1, 2**4000 + 1])
def test_other_rsa_exponent_is_refused(exponent: int) -> None:
    with pytest.raises(UnusableKeyError, match="RSA exponent"):
        load_jwk(rsa_jwk(2**2047 + 1, exponent))


def test_leading_zero_octets_give_the_same_rsa_key_and_thumbprint(public_jwk: MakeJWK) -> None:
    plain = public_jwk()
    padded = {
        **plain,
        "n": b64url_encode(b"\0\0" + b64url_decode(plain["n"].encode())),
        "e": b64url_encode(b"\0" + b64url_decode(plain["e"].encode())),
    }
    assert load_jwk(padded).identity == load_jwk(plain).identity
    assert load_jwk(padded).to_jwk() == plain


Spelling = Callable[[bytes], str]


def padded(octets: bytes) -> str:
    return urlsafe_b64encode(octets).decode()


def standard(octets: bytes) -> str:
    return b64encode(octets).decode()


def standard_unpadded(octets: bytes) -> str:
    return b64encode(octets).decode().rstrip("=")


def padded_too_much(octets: bytes) -> str:
    return b64url_encode(octets) + "===="


def with_unused_bits(octets: bytes) -> str:
    text = b64url_encode(octets)
    last = LETTERS.index(text[-1]) | (1 if len(text) % 4 else 0)
    return text[:-1] + LETTERS[last]


def with_zeros(octets: bytes) -> str:
    return b64url_encode(b"\0\0\0" + octets)


def without_zeros(octets: bytes) -> str:
    return b64url_encode(octets.lstrip(b"\0"))


SPELLINGS: list[Spelling] = [
    padded,
    standard,
    standard_unpadded,
    padded_too_much,
    with_unused_bits,
]


@pytest.mark.parametrize("spelling", [*SPELLINGS, with_zeros, without_zeros])
@pytest.mark.parametrize("kind", KINDS)
def test_another_spelling_of_a_key_is_the_same_key(
    spelling: Spelling, kind: str, public_jwk: MakeJWK
) -> None:
    plain = public_jwk(kind)
    numbers = [name for name in ("n", "e", "x", "y") if name in plain]
    spelled = {name: spelling(b64url_decode(plain[name].encode())) for name in numbers}
    if plain["kty"] == "OKP" and spelling in (with_zeros, without_zeros):
        return  # octets and no number: a zero more is another key, or none
    assert load_jwk(plain | spelled).identity == load_jwk(plain).identity
    assert load_jwk(plain | spelled).to_jwk() == plain


@pytest.mark.parametrize("kind", ["P-256", "P-384", "P-521"])
def test_ec_coordinates_that_begin_with_zeros_have_one_thumbprint(kind: str) -> None:
    curve = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()}[kind]
    size = (curve.key_size + 7) // 8
    numbers = next(
        found
        for secret in range(1, 5_000)
        if (found := ec.derive_private_key(secret, curve).public_key().public_numbers()).x
        < 2 ** (8 * size - 8 - (7 if kind == "P-521" else 0))
    )
    x, y = (number.to_bytes(size, "big") for number in (numbers.x, numbers.y))
    assert x[0] == 0
    prints = {
        load_jwk(
            {"kty": "EC", "crv": kind, "x": b64url_encode(one), "y": b64url_encode(y)}
        ).thumbprint
        for one in (x, x.lstrip(b"\0"), b"\0" + x)
    }
    assert len(prints) == 1


@pytest.mark.parametrize("kind", ["P-256", "P-384", "P-521"])
@pytest.mark.parametrize("name", ["x", "y"])
def test_ec_coordinate_is_no_longer_than_its_curves_and_on_the_curve(
    kind: str, name: str, public_jwk: MakeJWK
) -> None:
    jwk = public_jwk(kind)
    octets = b64url_decode(jwk[name].encode())
    with pytest.raises(UnusableKeyError, match=f"longer than a {kind} coordinate"):
        load_jwk({**jwk, name: b64url_encode(b"\1" + octets)})
    for wrong in (octets[:-1], bytes(len(octets)), octets[:-1] + bytes([octets[-1] ^ 1])):
        with pytest.raises(UnusableKeyError, match=f"not a point of {kind}"):
            load_jwk({**jwk, name: b64url_encode(wrong)})


def test_ec_coordinates_that_only_together_have_the_right_length_are_refused(
    public_jwk: MakeJWK,
) -> None:
    jwk = public_jwk("P-256")
    x, y = b64url_decode(jwk["x"].encode()), b64url_decode(jwk["y"].encode())
    with pytest.raises(UnusableKeyError, match="longer"):
        load_jwk({**jwk, "x": b64url_encode(x + y[:1]), "y": b64url_encode(y[1:])})


def test_ec_point_of_another_curve_is_refused(public_jwk: MakeJWK) -> None:
    with pytest.raises(UnusableKeyError):
        load_jwk(public_jwk("P-384", crv="P-256"))


def test_ec_point_at_infinity_is_refused(public_jwk: MakeJWK) -> None:
    zero = b64url_encode(bytes(32))
    with pytest.raises(UnusableKeyError, match="not a point of P-256"):
        load_jwk(public_jwk("P-256", x=zero, y=zero))


@pytest.mark.parametrize(("kind", "length"), [("Ed25519", 32), ("Ed448", 57)])
def test_okp_key_is_of_exact_length(kind: str, length: int, public_jwk: MakeJWK) -> None:
    for wrong in (length - 1, length + 1, 32 + 57 - length):
        with pytest.raises(UnusableKeyError, match=f"`x` is not an {kind} public key"):
            load_jwk(public_jwk(kind, x=b64url_encode(b"\x01" * wrong)))
    with pytest.raises(UnusableKeyError, match="`x` is not a string"):
        load_jwk(public_jwk(kind, x=1))


def test_unknown_members_and_certificates_are_ignored(public_jwk: MakeJWK) -> None:
    jwk = public_jwk(x5c=["not a certificate"], x5t="x" * 40, x5u=5, issuer={"a": [1]}, nbf=1)
    assert load_jwk(jwk).identity == load_jwk(public_jwk()).identity


@pytest.mark.parametrize("kind", KINDS)
def test_key_written_as_a_jwk_loads_to_the_same_identity(kind: str, public_jwk: MakeJWK) -> None:
    algorithm = min(load_jwk(public_jwk(kind)).algorithms)
    for members in ({}, {"alg": algorithm, "use": "sig", "key_ops": ["verify"]}):
        key = load_jwk(public_jwk(kind, **members))
        again = load_jwk(json.loads(json.dumps(key.to_jwk())))
        assert again.identity == key.identity
        assert again.algorithms == key.algorithms
        assert again.public_key == key.public_key


def test_each_member_of_the_identity_makes_another_key(public_jwk: MakeJWK) -> None:
    other_modulus = rsa_jwk(generate_private_key(65537, 2048).public_key().public_numbers().n)["n"]
    identities = {
        load_jwk(public_jwk(**members)).identity
        for members in (
            {},
            {"kid": "key-2"},
            {"n": other_modulus},
            {"alg": "RS256"},
            {"alg": "PS256"},
            {"use": "sig"},
            {"key_ops": ["verify"]},
            {"key_ops": ["verify", "sign"]},
        )
    }
    assert len(identities) == 8


def test_two_loads_of_one_jwk_are_two_objects_with_one_identity(public_jwk: MakeJWK) -> None:
    one, other = load_jwk(public_jwk()), load_jwk(public_jwk())
    assert one != other
    assert one.identity == other.identity


def test_thumbprint_is_the_one_of_rfc_7638_section_3_1() -> None:
    members = {
        "n": (
            "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_B"
            "JECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_F"
            "DW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4"
            "vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
        ),
        "e": "AQAB",
        "kty": "RSA",
    }
    assert thumbprint(members) == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
    key = load_jwk({**members, "alg": "RS256", "kid": "2011-04-29"})
    assert key.thumbprint == thumbprint(members)


@pytest.mark.parametrize("kind", KINDS)
def test_thumbprint_is_over_the_required_members_only(kind: str, public_jwk: MakeJWK) -> None:
    jwk = public_jwk(kind)
    required = {name: jwk[name] for name in ("crv", "e", "kty", "n", "x", "y") if name in jwk}
    canonical = json.dumps(required, sort_keys=True, separators=(",", ":")).encode()
    expected = b64url_encode(sha256(canonical).digest())
    bound = {"kid": "other", "use": "sig", "key_ops": ["verify"]}
    assert load_jwk(jwk).thumbprint == load_jwk({**jwk, **bound}).thumbprint == expected


def test_key_set_keeps_its_usable_keys_and_says_why_the_others_are_skipped(
    public_jwk: MakeJWK,
) -> None:
    keys, skipped = load_jwk_set(
        {
            "keys": [
                public_jwk(kid="first"),
                public_jwk(kid="for-encryption", use="enc"),
                None,
                public_jwk(kid=5),
                public_jwk("P-256", kid="second", alg="ES256"),
                {"kty": "oct", "kid": "shared", "k": "c2VjcmV0"},
            ],
            "unknown": 1,
        }
    )
    assert [key.kid for key in keys] == ["first", "second"]
    assert skipped == (
        SkippedKey("for-encryption", "`use` is not sig"),
        SkippedKey(None, "not a JSON object"),
        SkippedKey(None, "`kid` is not a string of 1 to 512 characters"),
        SkippedKey("shared", "`kty` is not RSA, EC or OKP"),
    )


def test_empty_key_ops_count_as_absent_where_every_key_has_the_member(
    public_jwk: MakeJWK,
) -> None:
    empty, listed = {**public_jwk(), "key_ops": []}, public_jwk(kid="b", key_ops=["verify"])
    null = {**public_jwk(kid="c"), "key_ops": None}
    for jwks in ([empty], [empty, {**empty, "kid": "b"}], [empty, listed], [null, empty, listed]):
        keys, skipped = load_jwk_set({"keys": jwks})
        assert (len(keys), skipped) == (len(jwks), ())


def test_empty_key_ops_beside_a_key_without_any_are_for_nothing(public_jwk: MakeJWK) -> None:
    empty = {**public_jwk(), "key_ops": []}
    for others in ([public_jwk(kid="b")], [None, public_jwk(kid="b")], [{"kty": "oct"}]):
        keys, skipped = load_jwk_set({"keys": [empty, *others]})
        assert "key-1" not in [key.kid for key in keys]
        assert skipped[0].reason == "`key_ops` is empty, and other JWKs of the set have none"


def test_key_set_without_keys_is_empty() -> None:
    assert load_jwk_set({"keys": []}) == ((), ())


@pytest.mark.parametrize(
    "document", [{}, {"keys": None}, {"keys": {}}, {"keys": "x"}, {"Keys": []}]
)
def test_document_without_an_array_of_keys_is_no_key_set(document: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="no array `keys`"):
        load_jwk_set(document)


# --- large and crafted key sets ---

HALF_A_MEGABYTE = 524_288


def body_of(*jwks: object) -> bytes:
    return json.dumps({"keys": list(jwks)}, separators=(",", ":")).encode()


def test_key_set_is_read_from_its_bytes_as_from_parsed_json(public_jwk: MakeJWK) -> None:
    jwks: list[object] = [
        public_jwk(kid="first", x5c=["MIIC"], unknown={"a": [1]}),
        public_jwk("Ed25519", kid="second", key_ops=["verify"]),
        public_jwk(kid="for-encryption", use="enc"),
        public_jwk(kid="leaked", d="AQAB"),
        {"kty": "oct", "kid": "shared", "k": "c2VjcmV0"},
        *[None, [], "x", 1, {}],
    ]
    body = b'{"a":1,"keys":[1],' + body_of(*jwks)[1:]
    keys, skipped = load_jwk_set(jwk_set(body))
    as_parsed, skipped_parsed = load_jwk_set(json_object(body))
    assert [key.identity for key in keys] == [key.identity for key in as_parsed]
    assert skipped == skipped_parsed
    assert len(keys) == 2


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"<html>", b'{"keys":[]', b'{"keys":[]}x'])
def test_bytes_that_are_no_json_object_are_no_key_set(body: bytes) -> None:
    with pytest.raises(ValueError, match="not a JSON object"):
        jwk_set(body)


@pytest.mark.parametrize("body", [b"{}", b'{"keys":null}', b'{"keys":{}}', b'{"Keys":[]}'])
def test_bytes_without_an_array_of_keys_are_no_key_set(body: bytes) -> None:
    with pytest.raises(ValueError, match="no array `keys`"):
        load_jwk_set(jwk_set(body))


@given(st.binary())
def test_any_bytes_give_a_key_set_or_value_error(body: bytes) -> None:
    for each in (body, b'{"keys":[%s]}' % body, b'{"keys":[{"kty":%s}]}' % body):
        with suppress(ValueError):
            load_jwk_set(jwk_set(each))


def filled(element: bytes) -> bytes:
    return (
        b'{"keys":[' + b",".join([element] * (HALF_A_MEGABYTE // (len(element) + 1) - 10)) + b"]}"
    )


@pytest.mark.parametrize("element", [b"1", b"{}", b"[]"])
def test_key_set_of_very_many_values_is_refused_before_they_are_made(element: bytes) -> None:
    body = filled(element)
    assert body.count(b",") > MAX_VALUES
    with pytest.raises(ValueError, match="more than 50000 values"):
        jwk_set(body)


@pytest.mark.parametrize(
    "body",
    [
        filled(b"[" * 60 + b"]" * 60),
        filled(b'{"a":' * 60 + b"1" + b"}" * 60),
        b'{"keys":[],"x":' + filled(b"[" * 60 + b"]" * 60) + b"}",
        b'{"keys":[{"kty":"RSA","n":' + filled(b"[" * 60 + b"]" * 60) + b"}]}",
    ],
)
def test_no_object_is_made_of_what_is_no_member_of_a_key(body: bytes) -> None:
    with suppress(ValueError):
        load_jwk_set(jwk_set(body))  # what is made once only
    tracemalloc.start()
    try:
        load_jwk_set(jwk_set(body))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < len(body), "parsed, they take 40 to 70 times as much"


def test_member_that_is_longer_than_any_key_is_skipped_with_its_reason() -> None:
    long = {"kty": "RSA", "kid": "a", "e": "AQAB", "n": "A" * MAX_MEMBER_BYTES}
    assert load_jwk_set(jwk_set(body_of(long))) == (
        (),
        (SkippedKey(None, "`n` is longer than 4096 bytes"),),
    )


def test_largest_rsa_key_fits(public_jwk: MakeJWK) -> None:
    (key,), _ = load_jwk_set(jwk_set(body_of(rsa_jwk(2**8191 + 1))))
    assert key.signature_octets == 1024


def test_as_many_keys_are_taken_as_anybody_publishes_and_the_rest_is_named() -> None:
    many = [
        {
            "kty": "OKP",
            "crv": "Ed25519",
            "kid": "same",
            "x": b64url_encode(sha256(b"%d" % n).digest()),
        }
        for n in range(MAX_KEYS + 7)
    ]
    keys, skipped = load_jwk_set(jwk_set(body_of(*[None] * (MAX_KEYS + 5), *many)))
    assert len(keys) == MAX_KEYS
    assert len(skipped) == MAX_KEYS + 1
    assert skipped[-1] == SkippedKey(None, "7 more, after the first 1000 usable keys")


def test_key_shows_no_numbers_in_its_repr(public_jwk: MakeJWK) -> None:
    jwk = public_jwk()
    assert jwk["n"] not in repr(load_jwk(jwk))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
likely_values = st.sampled_from(
    [
        "RSA", "EC", "OKP", "oct", "P-256", "P-521", "Ed25519", "Ed448", "sig", "RS256", "EdDSA",
        "AQAB", "key-1", ["verify"], "A" * 43, "_" * 43, "A" * 76, "_" * 342, "_" * 88,
    ]
)  # fmt: skip
members_of_jwks = ["kty", "crv", "n", "e", "x", "y", "kid", "use", "alg", "key_ops"]
any_jwk = st.dictionaries(st.sampled_from(members_of_jwks), likely_values | json_values)


@given(any_jwk | json_values)
def test_any_json_gives_a_key_or_the_reason_why_not(jwk: Any) -> None:
    with suppress(UnusableKeyError):
        key = load_jwk(jwk)
        assert key.kid == (jwk.get("kid") or key.thumbprint)
        assert load_jwk(key.to_jwk()).identity == key.identity


@given(st.sampled_from(KINDS), st.sampled_from(members_of_jwks), likely_values | json_values)
def test_a_good_jwk_with_any_one_member_changed_gives_a_key_or_a_reason(
    public_jwk: MakeJWK, kind: str, name: str, value: Any
) -> None:
    with suppress(UnusableKeyError):
        key = load_jwk({**public_jwk(kind), name: value})
        assert load_jwk(key.to_jwk()).identity == key.identity


@given(st.lists(any_jwk | json_values, max_size=4) | json_values)
def test_any_json_for_keys_gives_keys_and_skipped_ones_or_value_error(keys_member: Any) -> None:
    with suppress(ValueError):
        keys, skipped = load_jwk_set({"keys": keys_member})
        assert len(keys) + len(skipped) == len(keys_member)
