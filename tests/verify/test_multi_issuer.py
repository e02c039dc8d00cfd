from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from jwks_guard import (
    ConfigurationError,
    InvalidClaimError,
    InvalidSignatureError,
    InvalidTokenError,
    KeyStore,
    KeysUnavailableError,
    MalformedTokenError,
    MissingClaimError,
    MultiIssuerVerifier,
    RevokedKeyError,
    TokenVerifier,
    UnsupportedTokenError,
    VerifiedToken,
)
from jwks_guard.testing import LocalTenant
from tests.support import HandClock, tenant_of, verifier_of

Tenants = tuple[LocalTenant, LocalTenant]


@pytest.fixture
def tenants(clock: HandClock) -> Iterator[Tenants]:
    with (
        tenant_of(clock, issuer="https://one.test/") as one,
        tenant_of(clock, issuer="https://two.test/") as two,
    ):
        yield one, two


def multi_of(tenants: Tenants, clock: HandClock, **options: Any) -> MultiIssuerVerifier:
    return MultiIssuerVerifier(
        verifier_of(tenant, clock, background=False, **options) for tenant in tenants
    )


def unsigned(payload: object) -> str:
    segments = (json.dumps(part).encode() for part in ({"alg": "ES256", "kid": "k"}, payload))
    encoded = [base64.urlsafe_b64encode(each).rstrip(b"=").decode() for each in segments]
    return ".".join([*encoded, "AAAA"])


def requests(tenants: Tenants) -> list[int]:
    return [len(tenant.requests) for tenant in tenants]


async def test_each_token_is_verified_by_its_own_issuer(tenants: Tenants, clock: HandClock) -> None:
    verifier = multi_of(tenants, clock)
    for tenant in tenants:
        assert (await verifier.verify(tenant.token())).issuer == tenant.issuer
        assert (await verifier.verify(tenant.token().encode())).issuer == tenant.issuer


async def test_issuer_is_asked_only_when_a_token_of_its_own_comes(
    tenants: Tenants, clock: HandClock
) -> None:
    verifier = multi_of(tenants, clock)
    await verifier.verify(tenants[0].token())
    assert requests(tenants) == [2, 0]


@pytest.mark.parametrize(
    "iss", ["https://three.test/", "https://one.test", "https://ONE.test/", "", 5, ["x"], {"a": 1}]
)
async def test_issuer_that_is_not_configured_is_refused_before_any_fetch(
    tenants: Tenants, clock: HandClock, iss: object
) -> None:
    with pytest.raises(InvalidClaimError) as error:
        await multi_of(tenants, clock).verify(unsigned({"iss": iss}))
    assert error.value.claim == "iss"
    assert "three" not in str(error.value)
    assert requests(tenants) == [0, 0]


@pytest.mark.parametrize("payload", [{}, {"iss": None}])
async def test_token_without_an_issuer_is_refused(
    tenants: Tenants, clock: HandClock, payload: object
) -> None:
    with pytest.raises(MissingClaimError):
        await multi_of(tenants, clock).verify(unsigned(payload))


@pytest.mark.parametrize(
    ("token", "error"),
    [
        ("", MalformedTokenError),
        ("a.b", MalformedTokenError),
        (unsigned([]), MalformedTokenError),
        ("a.!.c", MalformedTokenError),
        ("é.é.é", MalformedTokenError),
        (b"\xff.e30.c", MalformedTokenError),
        (5, MalformedTokenError),
        ("a.b.c.d.e", UnsupportedTokenError),
        ("opaque", UnsupportedTokenError),
        ("A" * 20_000, MalformedTokenError),
    ],
)
async def test_what_is_no_token_is_refused_with_our_errors(
    tenants: Tenants, clock: HandClock, token: Any, error: type[InvalidTokenError]
) -> None:
    with pytest.raises(error):
        await multi_of(tenants, clock).verify(token)


async def test_key_of_one_issuer_signs_nothing_for_the_other(
    tenants: Tenants, clock: HandClock
) -> None:
    one, two = tenants
    verifier = multi_of(tenants, clock)
    forged = one.token(key=one.key(), claims={"iss": two.issuer}, kid=two.key().kid)
    with pytest.raises(InvalidSignatureError):
        await verifier.verify(forged)


async def test_limits_are_those_of_the_issuer_that_is_named(
    tenants: Tenants, clock: HandClock
) -> None:
    one, two = (verifier_of(tenant, clock, background=False) for tenant in tenants)
    short = verifier_of(tenants[1], clock, background=False, max_token_bytes=100)
    await MultiIssuerVerifier([one, two]).verify(tenants[1].token())
    with pytest.raises(MalformedTokenError, match="longer than 100 bytes"):
        await MultiIssuerVerifier([one, short]).verify(tenants[1].token())


def test_no_verifiers_or_two_of_one_issuer_are_refused(tenants: Tenants, clock: HandClock) -> None:
    one, two = tenants
    for given in ([], [one, one], [one, two, one]):
        with pytest.raises(ConfigurationError, match=r"^verifiers must be one or more, each of an"):
            MultiIssuerVerifier(verifier_of(tenant, clock) for tenant in given)


async def test_distrust_reaches_one_issuer_by_its_verifier(
    tenants: Tenants, clock: HandClock
) -> None:
    one, two = tenants
    verifier = multi_of(tenants, clock)
    for tenant in tenants:
        await verifier.verify(tenant.token())
    await verifier.verifiers[one.issuer].distrust(one.key().kid, reason="leaked")
    with pytest.raises(RevokedKeyError):
        await verifier.verify(one.token())
    await verifier.verify(two.token())
    with pytest.raises(TypeError):
        verifier.verifiers["x"] = verifier.verifiers[one.issuer]  # type: ignore[index]  # read-only


async def test_all_are_started_and_closed_together(tenants: Tenants, clock: HandClock) -> None:
    async with multi_of(tenants, clock) as verifier:
        assert requests(tenants) == [2, 2]
        assert {issuer: report.status for issuer, report in verifier.health().items()} == {
            tenant.issuer: "ok" for tenant in tenants
        }
    assert {report.status for report in verifier.health().values()} == {"unavailable"}
    with pytest.raises(KeysUnavailableError):
        await verifier.verify(tenants[0].token())


async def test_one_issuer_that_is_down_costs_the_others_nothing(
    tenants: Tenants, clock: HandClock
) -> None:
    one, two = tenants
    one.faults.status(503)
    async with multi_of(tenants, clock) as verifier:
        await verifier.verify(two.token())
        with pytest.raises(KeysUnavailableError):
            await verifier.verify(one.token())


async def test_start_that_requires_keys_leaves_none_of_them_running_when_one_has_none(
    tenants: Tenants, clock: HandClock
) -> None:
    tenants[1].faults.status(503)
    verifier = multi_of(tenants, clock)
    with pytest.raises(KeysUnavailableError):
        await verifier.start(require_keys=True)
    assert {report.status for report in verifier.health().values()} == {"unavailable"}
    assert [each.keys.home.loop for each in verifier.verifiers.values()] == [None, None]
    tenants[1].faults.clear()
    await verifier.start(require_keys=True)
    await verifier.verify(tenants[1].token())


async def test_listener_hears_of_changes_at_every_issuer_until_it_is_told_not_to(
    tenants: Tenants, clock: HandClock
) -> None:
    verifier, heard = multi_of(tenants, clock), list[str]()
    stop = verifier.subscribe(lambda: heard.append("changed"))
    for each in verifier.verifiers.values():
        before = len(heard)
        await each.keys.refresh()
        assert len(heard) > before
    stop()
    before = len(heard)
    for each in verifier.verifiers.values():
        await each.keys.refresh()
    assert len(heard) == before


async def test_remaining_is_that_of_the_tokens_issuer(tenants: Tenants, clock: HandClock) -> None:
    verifier = multi_of(tenants, clock)
    tokens: list[VerifiedToken] = [
        await verifier.verify(tenant.token(lifetime=60 * number))
        for number, tenant in enumerate(tenants, start=1)
    ]
    assert [verifier.remaining(token) for token in tokens] == [65, 125]


# --- two audiences of one issuer ---


async def test_one_verifier_accepts_several_audiences_of_its_issuer(
    tenants: Tenants, clock: HandClock
) -> None:
    one, two = tenants
    http_client = clients_of(one)
    first = TokenVerifier(
        one.issuer,
        ["https://orders.test", "https://stock.test"],
        algorithms=["ES256"],
        http_client=http_client,
        clock=clock,
        background=False,
    )
    verifier = MultiIssuerVerifier([first, verifier_of(two, clock, background=False)])
    for audience in ("https://orders.test", "https://stock.test"):
        token = await verifier.verify(one.token(claims={"aud": audience}))
        assert token.claims["aud"] == audience
    both = ["https://stock.test", "https://orders.test"]
    assert await verifier.verify(one.token(claims={"aud": both}))
    with pytest.raises(InvalidClaimError):
        await verifier.verify(one.token(claims={"aud": "https://other.test"}))


async def test_two_verifiers_of_one_issuer_share_a_key_store_and_not_their_audience(
    tenants: Tenants, clock: HandClock
) -> None:
    one, _ = tenants
    async with KeyStore(one.issuer, http_client=clients_of(one), clock=clock) as keys:
        orders, stock = (
            TokenVerifier(one.issuer, audience, algorithms=["ES256"], keys=keys)
            for audience in ("https://orders.test", "https://stock.test")
        )
        token = one.token(claims={"aud": "https://orders.test"})
        await orders.verify(token)
        with pytest.raises(InvalidClaimError):
            await stock.verify(token)
        assert requests(tenants) == [2, 0]
        await stock.distrust(one.key().kid, reason="leaked", force=True)
        with pytest.raises(RevokedKeyError):
            await orders.verify(token)
        with pytest.raises(ConfigurationError, match=r"audience=\[\.\.\.\]"):
            MultiIssuerVerifier([orders, stock])


def clients_of(tenant: LocalTenant) -> Callable[[], httpx.AsyncClient]:
    return lambda: httpx.AsyncClient(transport=tenant.transport)
