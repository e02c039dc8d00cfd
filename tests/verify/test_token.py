from __future__ import annotations

import copy
import json
import math
import pickle
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from rich.pretty import pretty_repr

from jwks_guard import (
    KeysUnavailableError,
    RemovedKeyError,
    RevokedKeyError,
    TokenExpiredError,
    TokenVerifier,
    VerifiedToken,
)
from jwks_guard.testing import LocalTenant
from tests.support import HandClock, verifier_of

HEADER: dict[str, Any] = {"alg": "RS256", "typ": "at+jwt", "kid": "k1", "x": {"deep": [1]}}
CLAIMS: dict[str, Any] = {
    "iss": "https://issuer.test/",
    "sub": "auth0|alice",
    "aud": ["https://api.test", "https://issuer.test/userinfo"],
    "exp": 1_800_000_600,
    "scope": "read:things write:things",
    "permissions": ["delete:things"],
    "act": {"sub": "service", "chain": [{"sub": "inner"}]},
}


def token(**changes: Any) -> VerifiedToken:
    claims = {name: value for name, value in {**CLAIMS, **changes}.items() if value is not None}
    return VerifiedToken(dict(HEADER), claims, None, math.inf)


# --- what it offers ---


def test_what_a_request_needs_is_at_hand() -> None:
    made = token()
    assert made.kid == "k1"
    assert made.issuer == "https://issuer.test/"
    assert made.subject == "auth0|alice"
    assert made.scopes == {"read:things", "write:things"}
    assert made.permissions == {"delete:things"}
    assert made.expires_at == 1_800_000_600
    assert made.header["typ"] == "at+jwt"
    assert made.claims["act"]["chain"][0]["sub"] == "inner"
    assert made.claims is made.claims
    assert made.scopes is made.scopes


def test_what_a_token_does_not_say_is_none_or_empty() -> None:
    bare = token(sub=None, exp=None, scope=None, permissions=None)
    assert bare.subject is None
    assert bare.expires_at is None
    assert bare.scopes == frozenset()
    assert bare.permissions == frozenset()


@pytest.mark.parametrize("scope", [5, {"read": True}, "", [], [5]])
@pytest.mark.parametrize("claim", ["scope", "scp"])
def test_scope_of_another_type_is_no_scope(scope: object, claim: str) -> None:
    assert token(**{"scope": None, claim: scope}).scopes == frozenset()


@pytest.mark.parametrize("claim", ["client_id", "azp", "cid", "appid"])
def test_client_is_named_by_whichever_claim_the_issuer_writes(claim: str) -> None:
    assert token(**{claim: "app-1"}).client_id == "app-1"
    assert token(**{claim: 5}).client_id is None
    assert token().client_id is None


@pytest.mark.parametrize("permissions", ["delete:things", [5], {"a": 1}, []])
def test_permissions_that_are_no_strings_are_none(permissions: object) -> None:
    assert token(permissions=permissions).permissions == frozenset()


# --- immutable ---


@pytest.mark.parametrize(
    "change",
    [
        lambda made: made.claims.__setitem__("sub", "admin"),
        lambda made: made.claims.update(sub="admin"),
        lambda made: made.claims.pop("exp"),
        lambda made: made.claims["act"].__setitem__("sub", "admin"),
        lambda made: made.claims["act"]["chain"].append({}),
        lambda made: made.claims["act"]["chain"][0].__setitem__("sub", "admin"),
        lambda made: made.claims["aud"].append("https://other.test"),
        lambda made: made.header.__setitem__("kid", "k2"),
        lambda made: made.header["x"]["deep"].append(2),
        lambda made: made.scopes.add("admin"),
        lambda made: made.permissions.add("admin"),
        lambda made: setattr(made, "subject", "admin"),
        lambda made: setattr(made, "is_admin", True),
        lambda made: delattr(made, "claims"),
    ],
)
def test_nothing_in_it_can_be_changed(change: Callable[[VerifiedToken], object]) -> None:
    made = token()
    with pytest.raises((TypeError, AttributeError)):
        change(made)
    assert made.to_dict() == CLAIMS
    assert made == token()


def test_copy_is_the_callers_to_change_and_changes_nothing_else() -> None:
    made = token()
    ours = made.to_dict()
    ours["act"]["chain"][0]["sub"] = "admin"
    ours["aud"].append("https://other.test")
    ours["sub"] = "admin"
    assert made.to_dict() == CLAIMS
    assert made.subject == "auth0|alice"
    assert json.loads(json.dumps(made.to_dict())) == CLAIMS


# --- as a value ---


def test_tokens_that_say_the_same_are_equal_and_hash_alike() -> None:
    assert token() == token()
    assert hash(token()) == hash(token())
    assert len({token(), token(), token(sub="bob")}) == 2
    assert token() != token(scope="admin")
    assert token() != CLAIMS


def test_token_with_another_header_is_another_token() -> None:
    other = VerifiedToken({**HEADER, "kid": "k2"}, dict(CLAIMS), None, math.inf)
    assert token() != other


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy])
def test_copies_are_equal(again: Callable[[VerifiedToken], VerifiedToken]) -> None:
    assert again(token()) == token()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_it_can_be_pickled_after_it_was_read(protocol: int) -> None:
    made = token()
    assert made.claims
    assert made.scopes
    restored = pickle.loads(pickle.dumps(made, protocol))
    assert restored == made
    assert restored.claims["act"]["sub"] == "service"
    assert restored.scopes == made.scopes


def test_its_text_shows_the_kid_and_nothing_of_the_claims() -> None:
    for text in (repr(token()), str(token()), f"{token()}"):
        assert text == "<VerifiedToken kid='k1'>"


def test_no_library_that_looks_inside_is_shown_the_claims() -> None:
    assert pretty_repr(token()) == "<VerifiedToken kid='k1'>"
    assert msgspec.json.encode(token(), enc_hook=repr) == b"\"<VerifiedToken kid='k1'>\""
    with pytest.raises(TypeError):
        msgspec.json.encode(pickle.loads(pickle.dumps(token())))


async def test_no_text_shows_a_token_that_was_really_verified(
    tenant: LocalTenant, clock: HandClock
) -> None:
    compact = tenant.token(sub="auth0|alice")
    verified = await verifier_of(tenant, clock, background=False).verify(compact)
    assert "alice" not in repr(verified)
    assert not any(segment in repr(verified) for segment in compact.split("."))
    assert verified.to_dict()["sub"] == "auth0|alice"
    assert pickle.loads(pickle.dumps(verified)) == verified


# --- how long it may be relied on ---


async def accepted(tenant: LocalTenant, clock: HandClock, **options: Any) -> tuple[Any, Any]:
    verifier = verifier_of(tenant, clock, background=False, max_stale=600, **options)
    tenant.rotate()
    return verifier, await verifier.verify(tenant.token(key="previous", lifetime=60))


async def test_token_may_be_relied_on_until_it_expires_or_trust_ends(
    tenant: LocalTenant, clock: HandClock
) -> None:
    verifier, short = await accepted(tenant, clock)
    long = await verifier.verify(tenant.token(lifetime=86_400))
    assert verifier.remaining(short) == 65, "its lifetime and the leeway"
    assert verifier.remaining(long) == 600, "the trust bound"
    clock.advance(64)
    assert verifier.remaining(short) == 1
    clock.advance(1)
    with pytest.raises(TokenExpiredError):
        verifier.remaining(short)
    clock.advance(535)
    with pytest.raises(KeysUnavailableError):
        verifier.remaining(long)


async def test_token_may_not_be_relied_on_once_its_key_is_distrusted_or_removed(
    tenant: LocalTenant, clock: HandClock
) -> None:
    verifier, token = await accepted(tenant, clock)
    current = await verifier.verify(tenant.token())
    tenant.revoke(token.kid)
    await verifier.keys.refresh()
    with pytest.raises(RemovedKeyError):
        verifier.remaining(token)
    await verifier.distrust(current.kid, reason="leaked")
    with pytest.raises(RevokedKeyError):
        verifier.remaining(current)


async def test_token_may_not_be_relied_on_once_its_kid_has_another_key(
    tenant: LocalTenant, clock: HandClock
) -> None:
    verifier, token = await accepted(tenant, clock)
    tenant.swap_key(token.kid)
    await verifier.keys.refresh()
    with pytest.raises(RemovedKeyError):
        verifier.remaining(token)


async def test_token_from_elsewhere_is_not_relied_on(tenant: LocalTenant, clock: HandClock) -> None:
    verifier, token = await accepted(tenant, clock)
    assert isinstance(verifier, TokenVerifier)
    with pytest.raises(RemovedKeyError):
        verifier.remaining(pickle.loads(pickle.dumps(token)))


def test_token_that_was_made_without_kid_and_key_has_no_name() -> None:
    assert VerifiedToken({"alg": "RS256"}, dict(CLAIMS), None, math.inf).kid == ""
