"""Tokens and keys without `kid`: which key verifies them, how it is named, that distrust holds."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from jwks_guard import (
    AlgorithmNotAllowedError,
    InvalidSignatureError,
    InvalidTokenError,
    KeysUnavailableError,
    MalformedTokenError,
    RemovedKeyError,
    RevokedKeyError,
)
from jwks_guard.jose.jwk import load_jwk
from tests.support import HandClock
from tests.verify.issuer import WITHOUT_KID, Issuer, jwk_of, new_key

ONE, OTHER, RSA = new_key("k1"), new_key("k2"), new_key("k3", "RS256")
THUMBPRINT = load_jwk(ONE.jwk).thumbprint
BARE = jwk_of(ONE, kid=...)


@pytest.fixture
def issuer(clock: HandClock) -> Issuer:
    return Issuer(clock, [ONE.jwk])


@pytest.mark.parametrize("published", [..., None, "", "k1"])
@pytest.mark.parametrize("named", [..., ""])
async def test_the_only_key_verifies_a_token_without_kid(
    issuer: Issuer, published: Any, named: Any
) -> None:
    issuer.keys = [jwk_of(ONE, kid=published)]
    token = await issuer.verifier().verify(issuer.token(ONE, {"kid": named}))
    assert token.kid == THUMBPRINT
    assert pickle.loads(pickle.dumps(token)).kid == THUMBPRINT


async def test_token_that_names_the_thumbprint_of_a_key_without_kid_is_verified(
    issuer: Issuer,
) -> None:
    issuer.keys = [BARE, OTHER.jwk]
    verifier = issuer.verifier()
    token = await verifier.verify(issuer.token(ONE, {"kid": THUMBPRINT}))
    assert token.kid == THUMBPRINT
    assert set(verifier.keys.kids) == {THUMBPRINT, "k2"}
    assert THUMBPRINT in verifier.health().kids


async def test_the_only_key_without_kid_is_taken_among_keys_with_one(issuer: Issuer) -> None:
    issuer.keys = [OTHER.jwk, BARE, RSA.jwk]
    verifier = issuer.verifier()
    assert (await verifier.verify(issuer.token(ONE, WITHOUT_KID))).kid == THUMBPRINT
    with pytest.raises(InvalidSignatureError):
        await verifier.verify(issuer.token(OTHER, WITHOUT_KID))


async def test_the_only_key_for_the_algorithm_is_taken(issuer: Issuer) -> None:
    issuer.keys = [ONE.jwk, RSA.jwk]
    verifier = issuer.verifier()
    for key in (ONE, RSA):
        await verifier.verify(issuer.token(key, WITHOUT_KID))
    strict = issuer.verifier(algorithms=["RS256"])
    with pytest.raises(AlgorithmNotAllowedError):
        await strict.verify(issuer.token(ONE, WITHOUT_KID))


async def test_key_that_is_listed_twice_is_one_key(issuer: Issuer) -> None:
    issuer.keys = [ONE.jwk, jwk_of(ONE, kid="alias"), jwk_of(ONE, use=...)]
    await issuer.verifier().verify(issuer.token(ONE, WITHOUT_KID))
    issuer.keys = [BARE, jwk_of(ONE, kid=..., use=...), OTHER.jwk]
    await issuer.verifier().verify(issuer.token(ONE, WITHOUT_KID))


@pytest.mark.parametrize(
    "keys",
    [
        [ONE.jwk, OTHER.jwk],
        [BARE, jwk_of(OTHER, kid=...)],
        [BARE, jwk_of(OTHER, kid=...), jwk_of(RSA, kid=...)],
    ],
)
async def test_of_two_keys_none_is_tried(issuer: Issuer, keys: list[dict[str, Any]]) -> None:
    issuer.keys = list(keys)
    verifier = issuer.verifier()
    for key in (ONE, OTHER):
        with pytest.raises(MalformedTokenError, match="more than one key") as refusal:
            await verifier.verify(issuer.token(key, WITHOUT_KID))
        assert refusal.value.http_status == 401
    before = len(issuer.requests)
    for _ in range(20):
        with pytest.raises(MalformedTokenError):
            await verifier.verify(issuer.token(ONE, WITHOUT_KID))
    assert len(issuer.requests) == before, "it is no reason to ask the issuer"


async def test_algorithm_that_no_key_is_for_is_refused_without_a_look_up(issuer: Issuer) -> None:
    verifier = issuer.verifier()
    await verifier.verify(issuer.token(ONE))
    before = len(issuer.requests)
    with pytest.raises(AlgorithmNotAllowedError, match="no key of the issuer"):
        await verifier.verify(issuer.token(RSA, WITHOUT_KID))
    assert len(issuer.requests) == before


async def test_without_any_key_it_is_not_the_tokens_fault(issuer: Issuer) -> None:
    issuer.keys = []
    with pytest.raises(KeysUnavailableError):
        await issuer.verifier().verify(issuer.token(ONE, WITHOUT_KID))


async def test_keys_that_are_not_trusted_any_more_are_fetched_first(
    issuer: Issuer, clock: HandClock
) -> None:
    issuer.keys = [ONE.jwk, OTHER.jwk]
    verifier = issuer.verifier(max_stale=600)
    with pytest.raises(MalformedTokenError):
        await verifier.verify(issuer.token(ONE, WITHOUT_KID))
    issuer.keys = [ONE.jwk]
    clock.advance(600)
    await verifier.verify(issuer.token(ONE, WITHOUT_KID))


async def test_uses_of_a_key_are_counted_under_its_kid(issuer: Issuer) -> None:
    verifier = issuer.verifier()
    await verifier.verify(issuer.token(ONE, WITHOUT_KID))
    await verifier.verify(issuer.token(ONE))
    assert verifier.usage()["k1"].accepted == 2


# --- distrust ---


@pytest.mark.parametrize("name", ["k1", THUMBPRINT], ids=["kid", "thumbprint"])
@pytest.mark.parametrize("cache", [0, 100])
async def test_token_without_kid_is_refused_once_its_key_is_distrusted(
    issuer: Issuer, name: str, cache: int
) -> None:
    verifier = issuer.verifier(token_cache_size=cache)
    compacts = [issuer.token(ONE, WITHOUT_KID), issuer.token(ONE)]
    accepted = [await verifier.verify(compact) for compact in compacts]
    await verifier.distrust(name, reason="leaked", force=True)
    for compact, token in zip(compacts, accepted, strict=True):
        with pytest.raises(RevokedKeyError):
            await verifier.verify(compact)
        with pytest.raises(RevokedKeyError):
            verifier.remaining(token)
    await verifier.reinstate(name, reason="false alarm")
    for compact in compacts:
        await verifier.verify(compact)


async def test_name_that_a_token_shows_can_be_distrusted(issuer: Issuer) -> None:
    issuer.keys = [BARE, OTHER.jwk]
    verifier = issuer.verifier()
    compact = issuer.token(ONE, WITHOUT_KID)
    token = await verifier.verify(compact)
    await verifier.distrust(token.kid, reason="leaked")
    with pytest.raises(InvalidSignatureError):  # one key is left, and it did not sign that
        await verifier.verify(compact)
    with pytest.raises(RevokedKeyError):
        await verifier.verify(issuer.token(ONE, {"kid": token.kid}))
    assert verifier.distrusted[token.kid].thumbprints == {THUMBPRINT}
    assert set(verifier.keys.kids) == {"k2"}


async def test_key_that_is_distrusted_by_its_thumbprint_is_refused_under_every_kid(
    issuer: Issuer,
) -> None:
    issuer.keys = [OTHER.jwk]
    verifier = issuer.verifier()
    await verifier.verify(issuer.token(OTHER))
    await verifier.distrust(THUMBPRINT, reason="leaked before it was published")
    for kid in ("k1", "fresh", ..., THUMBPRINT):
        issuer.keys = [OTHER.jwk, jwk_of(ONE, kid=kid)]
        await verifier.keys.refresh()
        with pytest.raises(InvalidTokenError):
            await verifier.verify(issuer.token(ONE, {"kid": kid}))
    assert verifier.distrusted[THUMBPRINT].thumbprints == {THUMBPRINT}


async def test_key_that_is_distrusted_by_its_thumbprint_is_refused_for_another_issuer_too(
    issuer: Issuer, clock: HandClock
) -> None:
    custom = Issuer(clock, [jwk_of(ONE, kid="same key, other domain"), OTHER.jwk], "https://b.test")
    ours, theirs = issuer.verifier(), custom.verifier()
    await ours.verify(issuer.token(ONE))
    compact = custom.token(ONE, {"kid": "same key, other domain"})
    await theirs.verify(compact)
    await ours.distrust(THUMBPRINT, reason="leaked", force=True)
    with pytest.raises(RevokedKeyError):
        await theirs.verify(compact)


async def test_key_without_kid_that_is_withdrawn_is_removed(issuer: Issuer) -> None:
    issuer.keys = [BARE, OTHER.jwk]
    verifier = issuer.verifier()
    token = await verifier.verify(issuer.token(ONE, WITHOUT_KID))
    issuer.keys = [OTHER.jwk]
    await verifier.keys.refresh()
    with pytest.raises(RemovedKeyError):
        verifier.remaining(token)
    with pytest.raises(RemovedKeyError):
        await verifier.verify(issuer.token(ONE, {"kid": THUMBPRINT}))
    with pytest.raises(InvalidSignatureError):
        await verifier.verify(issuer.token(ONE, WITHOUT_KID))


async def test_key_without_kid_survives_a_restart(
    issuer: Issuer, clock: HandClock, tmp_path: Any
) -> None:
    issuer.keys = [BARE, OTHER.jwk]
    path = tmp_path / "keys.json"
    first = issuer.verifier(snapshot_path=path)
    async with first:
        await first.verify(issuer.token(ONE, WITHOUT_KID))
        await first.distrust(THUMBPRINT, reason="leaked")
    issuer.keys = []
    async with issuer.verifier(snapshot_path=path) as second:
        assert set(second.keys.kids) == {"k2"}
        with pytest.raises(RevokedKeyError):
            await second.verify(issuer.token(ONE, {"kid": THUMBPRINT}))
