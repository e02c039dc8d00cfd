"""One test per published advisory on a JOSE library, so that none of them comes true here."""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from jwks_guard.errors import (
    AlgorithmNotAllowedError,
    InvalidClaimError,
    InvalidSignatureError,
    InvalidTokenError,
    MalformedTokenError,
    UnsupportedTokenError,
)
from jwks_guard.jose.algorithms import ALGORITHMS
from jwks_guard.jose.claims import ClaimsPolicy
from jwks_guard.jose.compact import (
    b64url_encode,
    decode_object,
    decode_segment,
    json_object,
    split,
    to_bytes,
)
from jwks_guard.jose.header import parse_header
from jwks_guard.jose.jwk import UnusableKeyError, load_jwk
from jwks_guard.jose.jws import verify_signature

MakeJWK = Callable[..., dict[str, Any]]
PrivateKeys = dict[str, Any]
CLAIMS = {"sub": "alice", "iss": "https://issuer.example/", "aud": "api"}


def verify(token: str | bytes, jwk: dict[str, Any]) -> dict[str, Any]:
    """Verify as a verifier does that allows every supported algorithm, the widest it can be."""
    header, payload, signature, signing_input = split(to_bytes(token, 16_384))
    alg = parse_header(header, ALGORITHMS, frozenset({"jwt", None})).alg
    verify_signature(load_jwk(jwk), alg, signing_input, decode_segment(signature, "signature"))
    return decode_object(payload, "payload")


def segment(value: dict[str, Any]) -> str:
    return b64url_encode(json.dumps(value).encode())


def signed(key: Any, alg: str = "RS256", **header: Any) -> str:
    return jwt.encode(CLAIMS, key, alg, headers={"kid": "key-1", **header})


def policy() -> ClaimsPolicy:
    return ClaimsPolicy("https://issuer.example/", frozenset({"api"}), 0.0, (), None)


def test_the_token_that_the_attacks_start_from_is_accepted(
    private_keys: PrivateKeys, public_jwk: MakeJWK
) -> None:
    claims = verify(signed(private_keys["RSA"]), public_jwk())
    assert claims == CLAIMS
    assert policy().check(claims, 0.0) > 0


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE", "none ", ""])
@pytest.mark.parametrize("signature", ["", "AA", "c2lnbmF0dXJl"])
def test_cve_2015_2951_unsecured_tokens(alg: str, signature: str, public_jwk: MakeJWK) -> None:
    token = f"{segment({'alg': alg, 'kid': 'key-1'})}.{segment(CLAIMS)}.{signature}"
    with pytest.raises((AlgorithmNotAllowedError, MalformedTokenError)):
        verify(token, public_jwk())


# CVE-2015-9235 and CVE-2016-10555 (PEM), CVE-2017-11424 (PKCS #1), CVE-2022-29217 (OpenSSH),
# CVE-2024-33663 (DER), CVE-2026-48526 (JWK), GHSA-mvf2-f6gm-w987 (white space before a PEM).
@pytest.mark.parametrize("alg", ["HS256", "HS384", "HS512"])
@pytest.mark.parametrize(
    "spelling", ["PEM", "PKCS1", "OpenSSH", "DER", "JWK", "padded PEM", "modulus"]
)
@pytest.mark.parametrize("kind", ["RSA", "P-256", "Ed25519"])
def test_cve_2022_29217_public_key_as_the_secret_of_an_hmac(
    kind: str, spelling: str, alg: str, private_keys: PrivateKeys, public_jwk: MakeJWK
) -> None:
    public_key = private_keys[kind].public_key()
    jwk = public_jwk(kind)
    pem = public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    secret = {
        "PEM": pem,
        "padded PEM": b"\n" + pem,
        "PKCS1": rsa_pkcs1(private_keys["RSA"]),
        "OpenSSH": public_key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH),
        "DER": public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        "JWK": json.dumps(jwk).encode(),
        "modulus": str(jwk.get("n", jwk.get("x"))).encode(),
    }[spelling]
    signing_input = f"{segment({'alg': alg, 'kid': 'key-1'})}.{segment(CLAIMS)}"
    mac = hmac.digest(secret, signing_input.encode(), f"sha{alg[2:]}")
    with pytest.raises(AlgorithmNotAllowedError):
        verify(f"{signing_input}.{b64url_encode(mac)}", jwk)


def rsa_pkcs1(private_key: Any) -> bytes:
    public_bytes: bytes = private_key.public_key().public_bytes(Encoding.PEM, PublicFormat.PKCS1)
    return public_bytes


def test_cve_2022_23540_hmac_key_in_the_set_of_an_issuer(private_keys: PrivateKeys) -> None:
    pem = private_keys["RSA"].public_key().public_bytes(
        Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
    )  # fmt: skip
    jwk = {"kty": "oct", "kid": "key-1", "alg": "HS256", "k": b64url_encode(pem)}
    with pytest.raises(UnusableKeyError):
        load_jwk(jwk)


def test_cve_2018_0114_key_that_the_token_brings_along(
    private_keys: PrivateKeys, foreign_keys: PrivateKeys, public_jwk: MakeJWK
) -> None:
    foreign_jwk = jwt.algorithms.RSAAlgorithm.to_jwk(foreign_keys["RSA"].public_key(), as_dict=True)
    for header in (
        {"jwk": foreign_jwk},
        {"jku": "https://attacker.example/jwks.json"},
        {"x5u": "https://attacker.example/chain.pem"},
        {"x5c": ["MIIC"]},
    ):
        with pytest.raises(InvalidSignatureError):
            verify(signed(foreign_keys["RSA"], **header), public_jwk())
        assert verify(signed(private_keys["RSA"], **header), public_jwk()) == CLAIMS


@pytest.mark.parametrize("crit", [["require-mfa"], ["b64"], [], None])
def test_cve_2026_32597_critical_extension_that_is_not_understood(
    crit: Any, private_keys: PrivateKeys, public_jwk: MakeJWK
) -> None:
    header = {"alg": "RS256", "kid": "key-1", "crit": crit, "require-mfa": True, "b64": True}
    signing_input = f"{segment(header)}.{segment(CLAIMS)}"
    signature = jwt.get_algorithm_by_name("RS256").sign(signing_input.encode(), private_keys["RSA"])
    with pytest.raises(UnsupportedTokenError):
        verify(f"{signing_input}.{b64url_encode(signature)}", public_jwk())


def test_ghsa_w7vc_732c_9m39_unencoded_payload_without_crit(
    private_keys: PrivateKeys, public_jwk: MakeJWK
) -> None:
    header = {"alg": "RS256", "kid": "key-1", "b64": False}
    signing_input = f"{segment(header)}." + '{"sub":"mallory"}'
    signature = jwt.get_algorithm_by_name("RS256").sign(signing_input.encode(), private_keys["RSA"])
    with pytest.raises(MalformedTokenError):
        verify(f"{signing_input}.{b64url_encode(signature)}", public_jwk())


def test_ghsa_jq35_7prp_9v3f_allowed_algorithm_in_the_header_and_another_one_in_the_signature(
    private_keys: PrivateKeys, public_jwk: MakeJWK
) -> None:
    signing_input = f"{segment({'alg': 'RS256', 'kid': 'key-1'})}.{segment(CLAIMS)}"
    signature = jwt.get_algorithm_by_name("PS256").sign(signing_input.encode(), private_keys["RSA"])
    token = f"{signing_input}.{b64url_encode(signature)}"
    with pytest.raises(AlgorithmNotAllowedError):
        verify(token, public_jwk(alg="PS256"))
    with pytest.raises(InvalidSignatureError):
        verify(token, public_jwk())


@pytest.mark.parametrize("kind", ["P-256", "P-384", "P-521"])
def test_cve_2022_21449_psychic_signatures(
    kind: str, private_keys: PrivateKeys, public_jwk: MakeJWK
) -> None:
    alg, size, order = {
        "P-256": ("ES256", 32, 2**256 - 2**224 + 2**192),
        "P-384": ("ES384", 48, 2**384 - 2**190),
        "P-521": ("ES512", 66, 2**521 - 2**260),
    }[kind]
    signing_input = f"{segment({'alg': alg, 'kid': 'key-1'})}.{segment(CLAIMS)}"
    numbers = [0, 1, order, 2 ** (8 * size) - 1]
    for r, s in [(r, s) for r in numbers for s in numbers]:
        signature = r.to_bytes(size, "big") + s.to_bytes(size, "big")
        with pytest.raises(InvalidSignatureError):
            verify(f"{signing_input}.{b64url_encode(signature)}", public_jwk(kind))


@pytest.mark.parametrize("length", [0, 1, 16, 255])
def test_cve_2020_28042_shortened_signature(
    length: int, private_keys: PrivateKeys, public_jwk: MakeJWK
) -> None:
    signing_input, _, signature = signed(private_keys["RSA"]).rpartition(".")
    shortened = b64url_encode(decode_segment(signature.encode(), "signature")[:length])
    with pytest.raises((InvalidSignatureError, MalformedTokenError)):
        verify(f"{signing_input}.{shortened}", public_jwk())


@pytest.mark.parametrize(
    "junk", ["!@$%", "\\11", "=", "==", " ", "\n", "\t", "\r\n", "\x00", ".", "é"]
)
def test_cve_2022_25898_foreign_characters_within_a_segment(
    junk: str, private_keys: PrivateKeys, public_jwk: MakeJWK
) -> None:
    token = signed(private_keys["RSA"])
    middle = len(token) - 20
    for position in (0, 5, token.index(".") + 3, middle, len(token)):
        with pytest.raises(InvalidTokenError):
            verify(token[:position] + junk + token[position:], public_jwk())


def test_cve_2022_39227_json_serialization_around_a_compact_token(
    private_keys: PrivateKeys, public_jwk: MakeJWK
) -> None:
    header, payload, signature = signed(private_keys["RSA"]).split(".")
    forged = segment({**CLAIMS, "sub": "mallory"})
    polyglot = (
        f'{{" {header}.{forged}.":"","protected":"{header}", '
        f'"payload":"{payload}","signature":"{signature}"}}'
    )
    with pytest.raises(MalformedTokenError):
        verify(polyglot, public_jwk())


def test_cve_2019_7644_refusal_shows_no_signature(
    private_keys: PrivateKeys, foreign_keys: PrivateKeys, public_jwk: MakeJWK
) -> None:
    good, forged = signed(private_keys["RSA"]), signed(foreign_keys["RSA"])
    with pytest.raises(InvalidSignatureError) as refusal:
        verify(forged, public_jwk())
    for token in (good, forged):
        assert not any(part in repr(refusal.value) for part in token.split("."))


def test_cve_2022_23539_key_of_a_type_that_does_not_fit_the_algorithm(public_jwk: MakeJWK) -> None:
    for kind, alg in [("P-256", "RS256"), ("RSA", "ES256"), ("P-384", "ES256"), ("P-256", "EdDSA")]:
        with pytest.raises(UnusableKeyError):
            load_jwk(public_jwk(kind, alg=alg))
        with pytest.raises(AlgorithmNotAllowedError):
            verify_signature(load_jwk(public_jwk(kind)), alg, b"", b"")


def test_cve_2025_45768_key_that_is_too_short() -> None:
    with pytest.raises(UnusableKeyError, match="1024 bits"):
        load_jwk({"kty": "RSA", "kid": "1", "e": "AQAB", "n": b64url_encode(b"\xff" * 128)})


@pytest.mark.parametrize("claims", [{}, {"sub": "mallory"}])
def test_cve_2024_33664_encrypted_token_is_not_even_parsed(claims: dict[str, Any]) -> None:
    header = segment({"alg": "dir", "enc": "A256GCM", "zip": "DEF"})
    with pytest.raises(UnsupportedTokenError):
        split(f"{header}..aXY.{segment(claims)}.dGFn".encode())


@pytest.mark.parametrize("token", ["." * 16_000, "a." * 8_000, ".a" * 8_000])
def test_cve_2025_30204_token_of_thousands_of_dots(token: str, public_jwk: MakeJWK) -> None:
    with pytest.raises(MalformedTokenError):
        verify(token, public_jwk())


@pytest.mark.parametrize("iss", ["https://issuer.example", "h", "", "ttps://issuer.example/"])
def test_cve_2024_53861_issuer_that_is_a_part_of_the_expected_one(iss: str) -> None:
    with pytest.raises(InvalidClaimError):
        policy().check({**CLAIMS, "iss": iss}, 0.0)


def test_cve_2025_30144_array_of_issuers() -> None:
    with pytest.raises(InvalidClaimError):
        policy().check({**CLAIMS, "iss": ["https://attacker.example/", CLAIMS["iss"]]}, 0.0)


@pytest.mark.parametrize("aud", [[], [""], "", {}, [[]], [0], 0, False])
def test_cve_2020_26160_audience_of_an_unexpected_type(aud: Any) -> None:
    with pytest.raises(InvalidClaimError):
        policy().check({**CLAIMS, "aud": aud}, 0.0)


def test_duplicate_members_mean_the_same_to_all_who_parse_them(
    private_keys: PrivateKeys, public_jwk: MakeJWK
) -> None:
    header = b64url_encode(b'{"alg":"none","alg":"RS256","kid":"other","kid":"key-1"}')
    payload = b64url_encode(b'{"sub":"mallory","sub":"alice"}')
    signing_input = f"{header}.{payload}"
    signature = jwt.get_algorithm_by_name("RS256").sign(signing_input.encode(), private_keys["RSA"])
    claims = verify(f"{signing_input}.{b64url_encode(signature)}", public_jwk())
    assert claims == json_object(b'{"sub":"mallory","sub":"alice"}') == {"sub": "alice"}
