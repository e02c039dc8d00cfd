"""AWS-LC gives the verdicts of `cryptography`, on whatever it is given."""

from __future__ import annotations

import multiprocessing
import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key

from jwks_guard.errors import InvalidSignatureError
from jwks_guard.jose.compact import b64url_encode
from jwks_guard.jose.jwk import VerificationKey, load_jwk
from jwks_guard.jose.jws import SignatureCheck, signature_check
from jwks_guard.jose.rsa_engine import RSAEngine
from tests.jose.encodings import (
    BLOCK,
    DIGEST_INFO_OF_SHA256,
    digest_of,
    filled,
    forged_messages,
    raw_signature,
)
from tests.jose.known_primes import key_of_8192_bits
from tests.support import PATIENCE

pytest.importorskip("awscrt", reason="pip install 'jwks-guard[fast]'")

MESSAGE = b"header.payload"
SHA256 = hashes.SHA256()
MUTATIONS = 20_000
PADDINGS: dict[str, padding.AsymmetricPadding] = {
    "RS256": padding.PKCS1v15(),
    "PS256": padding.PSS(padding.MGF1(SHA256), SHA256.digest_size),
}


@cache
def engine() -> RSAEngine:
    loaded = RSAEngine()
    loaded.load()
    return loaded


@cache
def private_key(bits: int = 2048, exponent: int = 65_537) -> RSAPrivateKey:
    assert exponent in (3, 65_537)
    if bits == 8192:
        return key_of_8192_bits(exponent)
    return generate_private_key(exponent, bits)


def public(modulus: int, exponent: int = 65_537) -> VerificationKey:
    n, e = (
        b64url_encode(number.to_bytes((number.bit_length() + 7) // 8, "big"))
        for number in (modulus, exponent)
    )
    return load_jwk({"kty": "RSA", "kid": "key-1", "n": n, "e": e})


def public_of(key: RSAPrivateKey) -> VerificationKey:
    numbers = key.public_key().public_numbers()
    return public(numbers.n, numbers.e)


def signed(key: RSAPrivateKey, alg: str, message: bytes = MESSAGE) -> bytes:
    return key.sign(message, PADDINGS[alg], SHA256)


def accepts(check: SignatureCheck, signature: bytes, message: bytes = MESSAGE) -> bool:
    try:
        check(message, signature)
    except InvalidSignatureError:
        return False
    return True


def by_both(key: VerificationKey, alg: str) -> Callable[..., bool]:
    """The verdict on a signature, once both engines were seen to agree and ours to be at work."""
    ours, theirs = signature_check(key, alg, engine()), signature_check(key, alg)

    def verdict(signature: bytes, message: bytes = MESSAGE) -> bool:
        accepted = accepts(ours, signature, message)
        assert accepted == accepts(theirs, signature, message), signature.hex()
        assert not engine().fallbacks([key])
        return accepted

    return verdict


def test_engine_says_its_version() -> None:
    assert engine().name.startswith("awscrt ")


@pytest.mark.parametrize("alg", ["RS256", "PS256"])
@pytest.mark.parametrize("bits", [2048, 2056, 3072, 4096, 8192])
def test_signature_of_the_key_verifies_and_none_of_another_message(bits: int, alg: str) -> None:
    verdict = by_both(public_of(private_key(bits)), alg)
    signature = signed(private_key(bits), alg)
    assert verdict(signature)
    assert not verdict(signature, MESSAGE + b"!")


@pytest.mark.parametrize(("alg", "other"), [("RS256", "PS256"), ("PS256", "RS256")])
def test_signature_of_the_other_scheme_is_refused(alg: str, other: str) -> None:
    assert not by_both(public_of(private_key()), alg)(signed(private_key(), other))


@pytest.mark.parametrize("alg", ["RS384", "RS512", "PS384", "PS512"])
def test_hashes_that_the_engine_lacks_are_verified_as_without_it(alg: str) -> None:
    otherwise = signature_check(public_of(private_key()), alg)
    with_engine = signature_check(public_of(private_key()), alg, engine())
    digest = {"384": hashes.SHA384(), "512": hashes.SHA512()}[alg[2:]]
    pss = padding.PSS(padding.MGF1(digest), digest.digest_size)
    signature = private_key().sign(
        MESSAGE, padding.PKCS1v15() if alg.startswith("RS") else pss, digest
    )
    for check in (otherwise, with_engine):
        assert accepts(check, signature)
        assert not accepts(check, signed(private_key(), "RS256"))


@pytest.mark.parametrize("name", sorted(forged_messages(bytes(32))))
def test_only_the_one_encoding_of_the_hash_verifies(name: str) -> None:
    encoded = forged_messages(digest_of(MESSAGE))[name]
    verdict = by_both(public_of(private_key()), "RS256")
    assert not verdict(raw_signature(private_key(), encoded))


def test_right_encoding_signed_by_hand_verifies() -> None:
    encoded = filled(b"\0\1", b"\0" + DIGEST_INFO_OF_SHA256 + digest_of(MESSAGE))
    assert by_both(public_of(private_key()), "RS256")(raw_signature(private_key(), encoded))


@pytest.mark.parametrize("at", range(2, BLOCK, 6))
def test_any_other_octet_in_the_encoding_is_refused(at: int) -> None:
    right = filled(b"\0\1", b"\0" + DIGEST_INFO_OF_SHA256 + digest_of(MESSAGE))
    changed = right[:at] + bytes([right[at] ^ 1 << at % 8]) + right[at + 1 :]
    verdict = by_both(public_of(private_key()), "RS256")
    assert not verdict(raw_signature(private_key(), changed))


def test_root_of_a_short_padding_forges_nothing_although_the_exponent_is_3() -> None:
    key = private_key(exponent=3)
    start = b"\0\1" + b"\xff" * 8 + b"\0" + DIGEST_INFO_OF_SHA256 + digest_of(MESSAGE)
    wanted = int.from_bytes(start.ljust(BLOCK, b"\xff"), "big")
    root = 1 << (wanted.bit_length() + 2) // 3
    while (smaller := (2 * root + wanted // root**2) // 3) < root:
        root = smaller
    assert (root**3).to_bytes(BLOCK, "big").startswith(start), "what a lax parser takes for right"
    verdict = by_both(public_of(key), "RS256")
    assert verdict(signed(key, "RS256"))
    assert not verdict(root.to_bytes(BLOCK, "big"))


@pytest.mark.parametrize("salt_length", [0, 20, 31, 32, 33, 222])
def test_pss_signature_with_another_salt_length_is_refused(salt_length: int) -> None:
    pss = padding.PSS(padding.MGF1(SHA256), salt_length)
    signature = private_key().sign(MESSAGE, pss, SHA256)
    assert by_both(public_of(private_key()), "PS256")(signature) == (salt_length == 32)


def test_pss_signature_with_another_mask_is_refused() -> None:
    pss = padding.PSS(padding.MGF1(hashes.SHA384()), 32)
    signature = private_key().sign(MESSAGE, pss, SHA256)
    assert not by_both(public_of(private_key()), "PS256")(signature)


@pytest.mark.parametrize("alg", ["RS256", "PS256"])
def test_numbers_at_the_edges_and_other_lengths_are_refused(alg: str) -> None:
    modulus = private_key().public_key().public_numbers().n
    good = signed(private_key(), alg)
    verdict = by_both(public_of(private_key()), alg)
    numbers = [0, 1, 2, modulus - 1, modulus, modulus + 1, 2**2048 - 1]
    numbers += [modulus - int.from_bytes(good, "big"), modulus >> 1]
    signatures = [number.to_bytes(BLOCK, "big") for number in numbers]
    signatures += [b"", b"\0", good[:-1], good[1:], good + b"\0", b"\0" + good, good * 2]
    assert [each for each in signatures if verdict(each)] == []


@pytest.mark.parametrize("alg", ["RS256", "PS256"])
def test_signature_plus_the_modulus_is_refused(alg: str) -> None:
    modulus = private_key().public_key().public_numbers().n
    messages = (b"%d" % number for number in range(10_000))
    pairs = ((each, int.from_bytes(signed(private_key(), alg, each), "big")) for each in messages)
    message, low = next(pair for pair in pairs if pair[1] + modulus < 2**2048)
    verdict = by_both(public_of(private_key()), alg)
    assert verdict(low.to_bytes(BLOCK, "big"), message)
    assert not verdict((low + modulus).to_bytes(BLOCK, "big"), message)


@pytest.mark.parametrize("exponent", [3, 5, 17, 65_537, 2**31 + 1, 2**32 - 1])
@pytest.mark.parametrize("bits", [2048, 3072, 4096, 8192])
def test_every_key_that_may_be_published_gives_the_same_verdicts(bits: int, exponent: int) -> None:
    chance = random.Random(bits + exponent)
    modulus = chance.getrandbits(bits) | 1 << bits - 1 | 1  # of unknown factors, as a hostile one
    verdict = by_both(public(modulus, exponent), "RS256")
    signatures = [chance.randbytes(bits // 8) for _ in range(5)]
    signatures += [bytes(bits // 8), modulus.to_bytes(bits // 8, "big")]
    assert not any(verdict(each) for each in signatures)


def mutated(signature: bytes, modulus: int, chance: random.Random) -> bytes:
    """The signature, or one that differs by bits, octets, order, a factor, a sum, or the length."""
    number, at = int.from_bytes(signature, "big"), chance.randrange(BLOCK)
    to = chance.randrange(at, BLOCK)
    kind = chance.randrange(8)
    if kind == 0:
        return signature
    if kind == 1:
        return (number ^ 1 << chance.randrange(8 * BLOCK)).to_bytes(BLOCK, "big")
    if kind == 2:
        return signature[:at] + chance.randbytes(to - at) + signature[to:]
    if kind == 3:
        return signature[at:] + signature[:at]
    if kind == 4:
        return (number * chance.randrange(2, 9) % modulus).to_bytes(BLOCK, "big")
    if kind == 5:
        return ((number + chance.randrange(-9, 9)) % 2**2048).to_bytes(BLOCK, "big")
    if kind == 6:
        return signature[:at] + bytes(to - at) + signature[to:]
    return signature[:at] + signature[to:]


@pytest.mark.parametrize("alg", ["RS256", "PS256"])
def test_both_engines_agree_on_thousands_of_mutated_signatures(alg: str) -> None:
    chance = random.Random(alg)
    modulus = private_key().public_key().public_numbers().n
    verdict = by_both(public_of(private_key()), alg)
    signatures = [signed(private_key(), alg, b"%d" % number) for number in range(20)]
    accepted = 0
    for number in range(MUTATIONS):
        which = number % len(signatures)
        signature = mutated(signatures[which], modulus, chance)
        is_good = verdict(signature, b"%d" % which)
        assert is_good == (signature == signatures[which])
        accepted += is_good
    assert MUTATIONS // 10 < accepted < MUTATIONS // 5


def accepts_good_and_refuses_bad(key: VerificationKey, good: bytes, count: int) -> bool:
    check = signature_check(key, "RS256", engine())
    bad = bytes([good[0] ^ 1]) + good[1:]
    return all(accepts(check, good) and not accepts(check, bad) for _ in range(count))


def test_threads_verify_with_one_key_at_once() -> None:
    key, good = public_of(private_key()), signed(private_key(), "RS256")
    with ThreadPoolExecutor(8) as threads:
        done = [threads.submit(accepts_good_and_refuses_bad, key, good, 200) for _ in range(8)]
        assert all(each.result(PATIENCE) for each in done)


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")  # that is what is tested
def test_children_forked_while_a_thread_verifies_go_on_verifying() -> None:
    key, good = public_of(private_key()), signed(private_key(), "RS256")
    inherited = signature_check(key, "RS256", engine())
    stop = threading.Event()

    def verify_on() -> None:
        while not stop.is_set():
            accepts(inherited, good)

    def child(answers: Any) -> None:
        answers.put(accepts(inherited, good) and accepts_good_and_refuses_bad(key, good, 20))

    fork = multiprocessing.get_context("fork")
    answers = fork.SimpleQueue()
    thread = threading.Thread(target=verify_on)
    thread.start()
    try:
        children = [fork.Process(target=child, args=[answers]) for _ in range(10)]
        for each in children:
            each.start()
        for each in children:
            each.join(PATIENCE)
        assert [each.exitcode for each in children] == [0] * 10
        assert all(answers.get() for _ in children)
    finally:
        stop.set()
        thread.join()
