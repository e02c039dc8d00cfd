"""Strict with tokens, lenient with the issuer's documents: and no spelling hides a key."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest

from jwks_guard import InvalidTokenError, MalformedTokenError, RevokedKeyError
from jwks_guard.jose.compact import b64url_decode, b64url_encode
from jwks_guard.testing.keys import SigningKey
from tests.support import HandClock
from tests.verify.issuer import WITHOUT_KID, Issuer, jwk_of, new_key

KEYS = {algorithm: new_key("k1", algorithm) for algorithm in ("RS256", "ES256", "EdDSA")}
LEFT = new_key("left")
Spelling = Callable[[bytes], str]


def published_as(spelling: Spelling, algorithm: str, **members: Any) -> dict[str, Any]:
    """The JWK of a key with its numbers in another spelling."""
    jwk = jwk_of(KEYS[algorithm], **members)
    numbers = [name for name in ("n", "e", "x", "y") if name in jwk]
    return jwk | {name: spelling(b64url_decode(jwk[name].encode())) for name in numbers}


SPELLINGS: dict[str, Spelling] = {
    "padding": lambda octets: base64.urlsafe_b64encode(octets).decode() + "==",
    "standard alphabet": lambda octets: base64.b64encode(octets).decode(),
    "standard, unpadded": lambda octets: base64.b64encode(octets).decode().rstrip("="),
    "leading zeros": lambda octets: b64url_encode(b"\0" + octets),
    "many leading zeros": lambda octets: b64url_encode(bytes(64) + octets),
    "zeros, standard and padded": lambda octets: base64.b64encode(b"\0\0" + octets).decode() + "=",
}
EMPTY: dict[str, Any] = {"alg": None, "use": "", "key_ops": None, "d": [], "x5c": []}
ALIASES: list[dict[str, Any]] = [
    {"kid": "fresh"},
    {"kid": ...},
    {"kid": ""},
    {"kid": "fresh", "alg": ...},
    {"kid": "fresh", **EMPTY},
    {"kid": None, **EMPTY},
]


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("algorithm", KEYS)
async def test_key_in_any_spelling_verifies_its_tokens(
    clock: HandClock, algorithm: str, spelling: str
) -> None:
    if algorithm == "EdDSA" and "zeros" in spelling:
        return  # octets and no number: with a zero more it is no key
    issuer = Issuer(clock, [published_as(SPELLINGS[spelling], algorithm)])
    await issuer.verifier().verify(issuer.token(KEYS[algorithm]))


@pytest.mark.parametrize("alias", range(len(ALIASES)))
@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("algorithm", KEYS)
async def test_distrusted_key_is_refused_under_another_kid_and_in_another_spelling(
    clock: HandClock, algorithm: str, spelling: str, alias: int
) -> None:
    key, members = KEYS[algorithm], ALIASES[alias]
    issuer = Issuer(clock, [key.jwk, LEFT.jwk])
    verifier = issuer.verifier()
    compact = issuer.token(key)
    await verifier.verify(compact)
    await verifier.distrust("k1", reason="leaked")
    issuer.keys = [published_as(SPELLINGS[spelling], algorithm, **members), LEFT.jwk]
    await verifier.keys.refresh()
    kid = members["kid"] or ...
    for header in ({"kid": kid}, WITHOUT_KID):
        with pytest.raises(InvalidTokenError):
            await verifier.verify(issuer.token(key, header))
    with pytest.raises(RevokedKeyError):
        await verifier.verify(compact)
    assert verifier.keys.kids == ("left",)


@pytest.mark.parametrize("spelling", SPELLINGS)
async def test_key_that_was_distrusted_in_another_spelling_is_refused_in_its_own(
    clock: HandClock, spelling: str
) -> None:
    issuer = Issuer(clock, [published_as(SPELLINGS[spelling], "RS256"), LEFT.jwk])
    verifier = issuer.verifier()
    await verifier.verify(issuer.token(KEYS["RS256"]))
    await verifier.distrust("k1", reason="leaked")
    issuer.keys = [jwk_of(KEYS["RS256"], kid="fresh"), LEFT.jwk]
    await verifier.keys.refresh()
    with pytest.raises(RevokedKeyError):
        await verifier.verify(issuer.token(KEYS["RS256"], {"kid": "fresh"}))


async def test_cached_result_stands_where_only_the_spelling_of_its_key_changes(
    clock: HandClock,
) -> None:
    issuer = Issuer(clock, [KEYS["ES256"].jwk])
    verifier = issuer.verifier()
    compact = issuer.token(KEYS["ES256"])
    result = await verifier.verify(compact)
    issuer.keys = [published_as(SPELLINGS["standard alphabet"], "ES256")]
    await verifier.keys.refresh()
    assert await verifier.verify(compact) is result


def signed_again(key: SigningKey, parts: list[str]) -> str:
    """A token of these segments whose signature is right."""
    signing_input = ".".join(parts[:2])
    return f"{signing_input}.{b64url_encode(key.sign(signing_input.encode()))}"


@pytest.mark.parametrize(
    "change",
    [
        lambda segment: segment + "=",
        lambda segment: segment + "==",
        lambda segment: segment + "\n",
        lambda segment: "=" + segment,
        lambda segment: base64.b64encode(b64url_decode(segment.encode())).decode(),
        lambda segment: segment.replace("-", "+").replace("_", "/"),
    ],
)
async def test_token_in_another_spelling_is_refused_although_its_signature_is_right(
    clock: HandClock, change: Callable[[str], str]
) -> None:
    key = KEYS["ES256"]
    issuer = Issuer(clock, [key.jwk])
    verifier = issuer.verifier()
    parts = issuer.token(key, {"x": "?>" * 10}, claim="?>?" * 11).split(".")
    await verifier.verify(signed_again(key, parts))
    for part in range(2):
        changed = [*parts[:part], change(parts[part]), *parts[part + 1 :]]
        if changed == parts:
            continue
        with pytest.raises(MalformedTokenError):
            await verifier.verify(signed_again(key, changed))
    for signature in (parts[2] + "=", parts[2] + "==", "+" + parts[2][1:], "/" + parts[2][1:]):
        with pytest.raises(MalformedTokenError):
            await verifier.verify(".".join([*parts[:2], signature]))


@pytest.mark.parametrize("prefix", ["Bearer ", "bearer ", "BEARER ", "Bearer  "])
async def test_scheme_that_was_pasted_with_a_token_is_named(clock: HandClock, prefix: str) -> None:
    issuer = Issuer(clock, [KEYS["ES256"].jwk])
    for compact in (issuer.token(KEYS["ES256"]), "opaque", "a.b"):
        with pytest.raises(MalformedTokenError, match=r"begins with `Bearer `.*give what follows"):
            await issuer.verifier().verify(prefix + compact)
