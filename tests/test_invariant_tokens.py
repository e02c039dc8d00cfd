"""Untrusted bytes raise only our errors, the token chooses nothing, results can't be changed."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jwks_guard import (
    AlgorithmNotAllowedError,
    Event,
    InvalidSignatureError,
    InvalidTokenError,
    JWKSGuardError,
    MalformedTokenError,
    TokenExpiredError,
    TokenVerifier,
    UnsupportedTokenError,
    VerifiedToken,
)
from jwks_guard.testing import LocalTenant
from tests.support import JWKS, HandClock, tenant_of, verifier_of


def encoded(part: Any) -> str:
    raw = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def decoded(segment: str) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(base64.urlsafe_b64decode(segment + "=="))
    return parsed


async def test_altered_payload_under_a_good_signature_is_refused_on_a_warm_cache(
    tenant: LocalTenant, clock: HandClock
) -> None:
    async with verifier_of(tenant, clock) as verifier:
        token = tenant.token(scope="read:things")
        for _ in range(3):
            await verifier.verify(token)
        header, payload, signature = token.split(".")
        altered = encoded({**decoded(payload), "scope": "admin"})
        for forged in (
            f"{header}.{altered}.{signature}",
            f"{header}.{payload}.{signature[:-8]}AAAAAAAA",
        ):
            with pytest.raises(InvalidSignatureError):
                await verifier.verify(forged)
        assert (await verifier.verify(token)).scopes == {"read:things"}


async def test_signature_of_another_accepted_token_does_not_fit(
    tenant: LocalTenant, clock: HandClock
) -> None:
    async with verifier_of(tenant, clock) as verifier:
        alice, bob = tenant.token(sub="alice"), tenant.token(sub="bob")
        await verifier.verify(alice)
        await verifier.verify(bob)
        with pytest.raises(InvalidSignatureError):
            await verifier.verify(alice.rpartition(".")[0] + "." + bob.rpartition(".")[2])


async def test_cached_token_expires_to_the_second(tenant: LocalTenant, clock: HandClock) -> None:
    async with verifier_of(tenant, clock, leeway=5) as verifier:
        token = tenant.token(lifetime=100)
        await verifier.verify(token)
        clock.advance(104)
        await verifier.verify(token)
        clock.advance(1)
        with pytest.raises(TokenExpiredError):
            await verifier.verify(token)


async def test_cached_token_grows_too_old_to_the_second(
    tenant: LocalTenant, clock: HandClock
) -> None:
    async with verifier_of(tenant, clock, leeway=5, max_token_age=30) as verifier:
        token = tenant.token()
        clock.advance(34)
        await verifier.verify(token)
        clock.advance(1)
        with pytest.raises(TokenExpiredError):
            await verifier.verify(token)


@pytest.mark.parametrize("member", ["jku", "x5u", "x5c", "jwk"])
async def test_header_that_brings_its_own_key_is_not_followed(
    tenant: LocalTenant, clock: HandClock, member: str
) -> None:
    async with verifier_of(tenant, clock) as verifier:
        before = tenant.requests.count(JWKS)
        own = {"jku": "https://evil.test/", "x5u": "https://evil.test/", "x5c": ["MIIB"]}
        header = {member: own.get(member, tenant.new_key().jwk)}
        with pytest.raises(InvalidSignatureError):
            await verifier.verify(tenant.forged_token(header=header))
        await verifier.verify(tenant.token(header=header))
        assert tenant.requests.count(JWKS) == before


async def test_algorithm_is_bound_to_the_key_and_to_the_allow_list(clock: HandClock) -> None:
    with tenant_of(clock) as tenant:
        ec_kid = tenant.key().kid
        async with verifier_of(tenant, clock, algorithms=["ES256", "RS256"]) as verifier:
            header, payload, signature = tenant.token().split(".")
            for alg in ("none", "HS256", "ES384", "EdDSA"):
                forged = encoded({**decoded(header), "alg": alg})
                with pytest.raises(AlgorithmNotAllowedError):
                    await verifier.verify(f"{forged}.{payload}.{signature}")
            rsa = encoded({**decoded(header), "alg": "RS256"})
            with pytest.raises(AlgorithmNotAllowedError) as refusal:
                await verifier.verify(f"{rsa}.{payload}.{signature}")
            assert refusal.value.kid == ec_kid


@pytest.mark.parametrize(
    ("token", "error"),
    [
        ("", MalformedTokenError),
        ("opaque", UnsupportedTokenError),
        ("a.b.c.d.e", UnsupportedTokenError),
        ("a.b", MalformedTokenError),
        ("..", MalformedTokenError),
        ("\udcff.a.b", MalformedTokenError),
        (b"\xff.a.b", MalformedTokenError),
        ("a" * 20_000, MalformedTokenError),
        (None, MalformedTokenError),
        (7, MalformedTokenError),
    ],
)
async def test_what_is_no_compact_jws_gets_a_clear_error(
    tenant: LocalTenant, clock: HandClock, token: Any, error: type[JWKSGuardError]
) -> None:
    async with verifier_of(tenant, clock) as verifier:
        with pytest.raises(error):
            await verifier.verify(token)


@contextmanager
def in_turn() -> Iterator[tuple[asyncio.AbstractEventLoop, LocalTenant, TokenVerifier]]:
    clock, loop = HandClock(), asyncio.new_event_loop()
    with tenant_of(clock) as tenant:
        verifier = verifier_of(tenant, clock, background=False)
        yield loop, tenant, verifier
        loop.run_until_complete(verifier.aclose())
        loop.close()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def test_whatever_bytes_come_only_our_errors_leave() -> None:
    with in_turn() as (loop, tenant, verifier):
        good = tenant.token().encode()

        @given(
            st.one_of(st.binary(), st.text(), st.tuples(st.integers(0, len(good) - 1), st.binary()))
        )
        def attack(tried: bytes | str | tuple[int, bytes]) -> None:
            if isinstance(tried, tuple):
                at, piece = tried
                tried = good[:at] + piece + good[at + len(piece) :]
            try:
                result = loop.run_until_complete(verifier.verify(tried))
            except InvalidTokenError:
                return
            assert tried in (good, good.decode())
            assert result.subject == "auth0|alice"

        attack()


def test_whatever_header_and_claims_come_signed_only_our_errors_leave() -> None:
    with in_turn() as (loop, tenant, verifier):
        members = st.dictionaries(
            st.sampled_from(["iss", "aud", "exp", "nbf", "iat", "sub", "scope", "permissions"]),
            json_values,
        )

        @given(members, st.dictionaries(st.sampled_from(["typ", "crit", "b64"]), json_values))
        def attack(claims: dict[str, Any], header: dict[str, Any]) -> None:
            try:
                token = tenant.token(claims=claims, header=header)
            except (TypeError, ValueError, UnicodeEncodeError):
                return  # the tenant can't write such a token
            try:
                result = loop.run_until_complete(verifier.verify(token))
            except InvalidTokenError:
                return
            assert isinstance(result.subject, str | None)
            hash(result.scopes | result.permissions)

        attack()


async def test_what_one_request_does_to_its_claims_the_next_does_not_see(
    tenant: LocalTenant, clock: HandClock
) -> None:
    async with verifier_of(tenant, clock) as verifier:
        token = tenant.token(claims={"nested": {"roles": ["reader"]}})
        first: Any = await verifier.verify(token)
        with pytest.raises(TypeError):
            first.claims["sub"] = "admin"
        with pytest.raises(TypeError):
            first.claims["nested"]["roles"] = ["admin"]
        with pytest.raises(AttributeError):
            first.claims["nested"]["roles"].append("admin")
        with pytest.raises(AttributeError):
            first.subject = "admin"
        first.to_dict()["nested"]["roles"].append("admin")
        second = await verifier.verify(token)
        assert second.claims["nested"]["roles"] == ("reader",)
        assert pickle.loads(pickle.dumps(second)) == second


async def test_no_message_event_log_or_repr_shows_the_token_or_its_claims(
    tenant: LocalTenant, clock: HandClock, caplog: pytest.LogCaptureFixture
) -> None:
    events: list[Event] = []
    caplog.set_level(logging.DEBUG)
    async with verifier_of(tenant, clock, on_event=events.append) as verifier:
        secret = "x7secret7x"
        claims = {"sub": secret, "scope": secret, secret: secret}
        good = tenant.token(claims=claims)
        accepted: VerifiedToken = await verifier.verify(good)
        shown = [repr(accepted), str(accepted)]
        for bad in (
            tenant.forged_token(claims=claims),
            tenant.token(claims={**claims, "iss": secret}),
            tenant.token(claims={**claims, "aud": [secret]}),
            tenant.token(claims={**claims, "exp": secret}),
            tenant.token(claims={**claims, "exp": 1}),
            tenant.token(header={"typ": secret}),
            tenant.token(header={"alg": secret}),
            good + "~",
        ):
            with pytest.raises(InvalidTokenError) as refusal:
                await verifier.verify(bad)
            shown += [repr(refusal.value), str(refusal.value)]
        everything = "\n".join([*shown, *map(repr, events), caplog.text])
        assert secret not in everything
        for part in (*good.split("."), encoded(secret.encode())[:8]):
            assert part not in everything
        refused = [event for event in events if event.kind == "token_refused"]
        assert len(refused) == 8
        assert all(event.code and event.issuer == tenant.issuer for event in refused)
