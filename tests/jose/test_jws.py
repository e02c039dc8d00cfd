from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from hypothesis import given, settings
from hypothesis import strategies as st

from jwks_guard.errors import AlgorithmNotAllowedError, InvalidSignatureError
from jwks_guard.jose.algorithms import ALGORITHMS
from jwks_guard.jose.jwk import VerificationKey, load_jwk
from jwks_guard.jose.jws import verify_signature
from tests.jose.encodings import (
    BLOCK,
    DIGEST_INFO_OF_SHA256,
    digest_of,
    filled,
    forged_messages,
    raw_signature,
)

MakeJWK = Callable[..., dict[str, Any]]
PrivateKeys = dict[str, Any]
MESSAGE = b"header.payload"
KIND_OF = {
    **dict.fromkeys(["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"], "RSA"),
    "ES256": "P-256",
    "ES384": "P-384",
    "ES512": "P-521",
    "Ed25519": "Ed25519",
    "Ed448": "Ed448",
}
ECDSA_ALGORITHMS = [
    ("ES256", 32, hashes.SHA256()),
    ("ES384", 48, hashes.SHA384()),
    ("ES512", 66, hashes.SHA512()),
]


def sign(private_keys: PrivateKeys, alg: str, message: bytes = MESSAGE) -> bytes:
    name = "EdDSA" if alg.startswith("Ed") else alg
    return jwt.get_algorithm_by_name(name).sign(message, private_keys[KIND_OF[alg]])


def test_supported_algorithms_are_asymmetric_and_complete() -> None:
    assert {*KIND_OF, "EdDSA"} == ALGORITHMS


@pytest.mark.parametrize("alg", sorted(KIND_OF))
def test_signature_of_the_key_verifies(
    alg: str, private_keys: PrivateKeys, public_jwk: MakeJWK
) -> None:
    signature = sign(private_keys, alg)
    for key in (load_jwk(public_jwk(KIND_OF[alg])), load_jwk(public_jwk(KIND_OF[alg], alg=alg))):
        verify_signature(key, alg, MESSAGE, signature)
        with pytest.raises(InvalidSignatureError):
            verify_signature(key, alg, MESSAGE + b"!", signature)


@pytest.mark.parametrize("alg", ["Ed25519", "Ed448"])
def test_eddsa_fits_both_curves_by_its_old_name(
    alg: str, private_keys: PrivateKeys, public_jwk: MakeJWK
) -> None:
    signature = sign(private_keys, alg)
    verify_signature(load_jwk(public_jwk(alg)), "EdDSA", MESSAGE, signature)
    verify_signature(load_jwk(public_jwk(alg, alg="EdDSA")), "EdDSA", MESSAGE, signature)


@pytest.mark.parametrize("alg", sorted(KIND_OF))
@pytest.mark.parametrize("other", sorted(ALGORITHMS | {"none", "HS256", "ES256K", ""}))
def test_key_bound_to_an_algorithm_verifies_no_other(
    alg: str, other: str, private_keys: PrivateKeys, public_jwk: MakeJWK
) -> None:
    key = load_jwk(public_jwk(KIND_OF[alg], alg=alg))
    if other in {alg, "EdDSA"} & key.algorithms:  # two names of one algorithm
        other = "none"
    with pytest.raises(AlgorithmNotAllowedError):
        verify_signature(key, other, MESSAGE, sign(private_keys, alg))


@pytest.mark.parametrize("kind", ["RSA", "P-256", "P-384", "P-521", "Ed25519", "Ed448"])
def test_key_without_alg_verifies_nothing_that_does_not_fit_its_type_and_curve(
    kind: str, public_jwk: MakeJWK
) -> None:
    key = load_jwk(public_jwk(kind))
    for alg in (ALGORITHMS | {"none", "HS256", "ES256K"}) - key.algorithms:
        with pytest.raises(AlgorithmNotAllowedError):
            verify_signature(key, alg, MESSAGE, b"\0" * 64)


@pytest.mark.parametrize("alg", sorted(KIND_OF))
def test_signature_of_another_key_is_refused(
    alg: str, foreign_keys: PrivateKeys, public_jwk: MakeJWK
) -> None:
    with pytest.raises(InvalidSignatureError):
        verify_signature(load_jwk(public_jwk(KIND_OF[alg])), alg, MESSAGE, sign(foreign_keys, alg))


@pytest.mark.parametrize("alg", sorted(KIND_OF))
def test_every_changed_bit_and_every_other_length_breaks_the_signature(
    alg: str, private_keys: PrivateKeys, public_jwk: MakeJWK
) -> None:
    key = load_jwk(public_jwk(KIND_OF[alg]))
    good = sign(private_keys, alg)
    flipped = [
        good[:i] + bytes([good[i] ^ 1 << bit]) + good[i + 1 :]
        for i in range(0, len(good), len(good) // 8)
        for bit in (0, 7)
    ]
    resized = [b"", good[:-1], good[1:], good + b"\0", b"\0" + good, good * 2, b"\0" * 100_000]
    constant = [b"\0" * len(good), b"\xff" * len(good)]
    for signature in flipped + resized + constant:
        with pytest.raises(InvalidSignatureError):
            verify_signature(key, alg, MESSAGE, signature)


@pytest.mark.parametrize(("alg", "size", "digest"), ECDSA_ALGORITHMS)
def test_ecdsa_signature_is_raw_and_of_exact_length(
    alg: str,
    size: int,
    digest: hashes.HashAlgorithm,
    private_keys: PrivateKeys,
    public_jwk: MakeJWK,
) -> None:
    key = load_jwk(public_jwk(KIND_OF[alg]))
    raw = sign(private_keys, alg)
    assert len(raw) == 2 * size
    r, s = raw[:size], raw[size:]
    der = private_keys[KIND_OF[alg]].sign(MESSAGE, ec.ECDSA(digest))
    for signature in (der, b"\0" + r + b"\0" + s, r[1:] + s[1:], r, s + r):
        with pytest.raises(InvalidSignatureError):
            verify_signature(key, alg, MESSAGE, signature)


def first_signature(
    private_keys: PrivateKeys, alg: str, wanted: Callable[[bytes], bool]
) -> tuple[bytes, bytes]:
    """Give the first message, with its signature, whose signature is `wanted`."""
    messages = (b"%d" % number for number in count())
    signatures = ((message, sign(private_keys, alg, message)) for message in messages)
    return next(pair for pair in signatures if wanted(pair[1]))


@pytest.mark.parametrize("alg", ["RS256", "PS256"])
def test_rsa_signature_without_its_leading_zero_is_refused(
    alg: str, private_keys: PrivateKeys, public_jwk: MakeJWK
) -> None:
    message, signature = first_signature(private_keys, alg, lambda each: each[0] == 0)
    key = load_jwk(public_jwk())
    verify_signature(key, alg, message, signature)
    with pytest.raises(InvalidSignatureError):
        verify_signature(key, alg, message, signature[1:])


@pytest.mark.parametrize("alg", ["RS256", "PS256"])
def test_rsa_signature_plus_the_modulus_is_refused(
    alg: str, private_keys: PrivateKeys, public_jwk: MakeJWK
) -> None:
    modulus = private_keys["RSA"].public_key().public_numbers().n

    def raised(signature: bytes) -> int:
        return int.from_bytes(signature, "big") + int(modulus)

    message, signature = first_signature(private_keys, alg, lambda each: raised(each) < 2**2048)
    with pytest.raises(InvalidSignatureError):
        verify_signature(
            load_jwk(public_jwk()), alg, message, raised(signature).to_bytes(256, "big")
        )


def test_pss_signature_with_another_salt_length_is_refused(
    private_keys: PrivateKeys, public_jwk: MakeJWK
) -> None:
    key = load_jwk(public_jwk())
    for salt_length in (0, 20, 31, 33, padding.PSS.MAX_LENGTH):
        pss = padding.PSS(padding.MGF1(hashes.SHA256()), salt_length)
        signature = private_keys["RSA"].sign(MESSAGE, pss, hashes.SHA256())
        with pytest.raises(InvalidSignatureError):
            verify_signature(key, "PS256", MESSAGE, signature)


@pytest.mark.parametrize(
    ("signed_as", "verified_as"),
    [("RS256", "RS384"), ("RS256", "PS256"), ("PS256", "RS256"), ("PS384", "PS256")],
)
def test_signature_of_another_algorithm_of_the_same_key_is_refused(
    signed_as: str, verified_as: str, private_keys: PrivateKeys, public_jwk: MakeJWK
) -> None:
    with pytest.raises(InvalidSignatureError):
        verify_signature(
            load_jwk(public_jwk()), verified_as, MESSAGE, sign(private_keys, signed_as)
        )


def test_refusals_tell_nothing_of_the_signature(public_jwk: MakeJWK) -> None:
    key = load_jwk(public_jwk())
    with pytest.raises(InvalidSignatureError) as one:
        verify_signature(key, "RS256", MESSAGE, b"a" * 256)
    with pytest.raises(InvalidSignatureError) as other:
        verify_signature(key, "RS256", MESSAGE, b"")
    assert str(one.value) == str(other.value)


@given(alg=st.sampled_from(sorted(ALGORITHMS)), message=st.binary(), data=st.data())
def test_any_bytes_for_a_signature_are_refused_as_one(
    public_jwk: MakeJWK, alg: str, message: bytes, data: st.DataObject
) -> None:
    key: VerificationKey = load_jwk(public_jwk(KIND_OF.get(alg, "Ed448")))
    length = {"RSA": 256, "P-256": 64, "P-384": 96, "P-521": 132, "Ed25519": 64}.get(
        KIND_OF.get(alg, ""), 114
    )
    signature = data.draw(st.binary() | st.binary(min_size=length, max_size=length))
    with pytest.raises(InvalidSignatureError):
        verify_signature(key, alg, message, signature)


HASHES: dict[str, hashes.HashAlgorithm] = {
    "RS256": hashes.SHA256(),
    "RS384": hashes.SHA384(),
    "RS512": hashes.SHA512(),
}


def test_right_encoding_signed_by_hand_verifies(
    private_keys: PrivateKeys, public_jwk: MakeJWK
) -> None:
    encoded = filled(b"\0\1", b"\0" + DIGEST_INFO_OF_SHA256 + digest_of(MESSAGE))
    signature = raw_signature(private_keys["RSA"], encoded)
    verify_signature(load_jwk(public_jwk()), "RS256", MESSAGE, signature)


@pytest.mark.parametrize("name", sorted(forged_messages(bytes(32))))
def test_only_the_one_encoding_of_the_hash_verifies(
    name: str, private_keys: PrivateKeys, public_jwk: MakeJWK
) -> None:
    encoded = forged_messages(digest_of(MESSAGE))[name]
    assert len(encoded) == BLOCK
    with pytest.raises(InvalidSignatureError):
        verify_signature(
            load_jwk(public_jwk()), "RS256", MESSAGE, raw_signature(private_keys["RSA"], encoded)
        )


@settings(max_examples=50)  # each costs a private operation in Python
@given(at=st.integers(2, BLOCK - 1), octet=st.integers(0, 255))
def test_any_other_octet_in_the_encoding_is_refused(
    private_keys: PrivateKeys, public_jwk: MakeJWK, at: int, octet: int
) -> None:
    right = filled(b"\0\1", b"\0" + DIGEST_INFO_OF_SHA256 + digest_of(MESSAGE))
    changed = right[:at] + bytes([octet]) + right[at + 1 :]
    signature = raw_signature(private_keys["RSA"], changed)
    key = load_jwk(public_jwk())
    if changed == right:
        verify_signature(key, "RS256", MESSAGE, signature)
    else:
        with pytest.raises(InvalidSignatureError):
            verify_signature(key, "RS256", MESSAGE, signature)


@given(alg=st.sampled_from(sorted(HASHES)), message=st.binary(max_size=300))
def test_pkcs1_v15_signature_is_of_one_hash_and_one_message(
    private_keys: PrivateKeys, public_jwk: MakeJWK, alg: str, message: bytes
) -> None:
    private_key = private_keys["RSA"]
    signature = private_key.sign(message, padding.PKCS1v15(), HASHES[alg])
    verify_signature(load_jwk(public_jwk()), alg, message, signature)
    with pytest.raises(InvalidSignatureError):
        verify_signature(load_jwk(public_jwk()), alg, message + b"\0", signature)
    for other in sorted(HASHES.keys() - {alg}):
        with pytest.raises(InvalidSignatureError):
            verify_signature(load_jwk(public_jwk()), other, message, signature)
