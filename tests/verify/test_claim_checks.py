"""The claim checks of a verifier: when they run, what they are given, and what they decide."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import httpx
import pytest

from jwks_guard import (
    ConfigurationError,
    Event,
    InvalidClaimError,
    InvalidTokenError,
    MissingClaimError,
    MultiIssuerVerifier,
    RequestGuard,
    RequestRefusedError,
    SyncTokenVerifier,
    TokenVerifier,
)
from jwks_guard.claims import (
    actor,
    client,
    equals,
    includes,
    organization,
    profile_rfc9068,
)
from jwks_guard.testing import LocalTenant
from tests.support import HandClock, tenant_of, verifier_of


class Counting:
    """Accepts every claims set and keeps it."""

    def __init__(self) -> None:
        self.seen: list[Mapping[str, Any]] = []

    def __call__(self, claims: Mapping[str, Any]) -> None:
        self.seen.append(claims)


async def test_token_that_fails_a_check_is_refused_as_any_other(
    tenant: LocalTenant, clock: HandClock
) -> None:
    events: list[Event] = []
    verifier = verifier_of(
        tenant,
        clock,
        background=False,
        claim_checks=[organization("org_1"), includes("https://acme.com/roles", "admin")],
        on_event=events.append,
    )
    claims = {"org_id": "org_1", "https://acme.com/roles": ["admin"]}
    assert (await verifier.verify(tenant.token(claims=claims))).claims["org_id"] == "org_1"
    for _ in range(2):
        with pytest.raises(InvalidClaimError) as refusal:
            await verifier.verify(tenant.token(claims={**claims, "org_id": "org_2"}))
        assert (refusal.value.claim, refusal.value.kid) == ("org_id", tenant.key().kid)
    with pytest.raises(MissingClaimError):
        await verifier.verify(tenant.token(claims={"org_id": "org_1"}))
    refused = [event for event in events if event.kind == "token_refused"]
    assert [event.code for event in refused] == ["invalid_claim", "invalid_claim", "missing_claim"]
    assert not any("org_2" in event.detail for event in refused)
    assert verifier.usage()[tenant.key().kid].rejected == 3


async def test_check_runs_once_for_a_token_that_is_cached(
    tenant: LocalTenant, clock: HandClock
) -> None:
    check = Counting()
    verifier = verifier_of(tenant, clock, background=False, claim_checks=[check])
    token = tenant.token()
    for _ in range(3):
        await verifier.verify(token)
    assert len(check.seen) == 1
    uncached = verifier_of(
        tenant, clock, background=False, claim_checks=[check], token_cache_size=0
    )
    for _ in range(3):
        await uncached.verify(token)
    assert len(check.seen) == 4


async def test_check_sees_only_tokens_that_all_other_rules_accept(
    tenant: LocalTenant, clock: HandClock
) -> None:
    check = Counting()
    verifier = verifier_of(
        tenant, clock, background=False, claim_checks=[check], required_claims=["exp", "jti"]
    )
    forged = f"{tenant.token(claims={'jti': '1'}).rpartition('.')[0]}.{'A' * 86}"
    for token in (
        tenant.token(),
        tenant.token(lifetime=-60, claims={"jti": "1"}),
        tenant.token(audience="https://other.test", claims={"jti": "1"}),
        tenant.token(claims={"jti": "1", "cnf": {"jkt": "x"}}),
        forged,
    ):
        with pytest.raises(InvalidTokenError):
            await verifier.verify(token)
    assert check.seen == []
    await verifier.verify(tenant.token(claims={"jti": "1"}))
    assert len(check.seen) == 1


async def test_check_can_not_change_the_claims(tenant: LocalTenant, clock: HandClock) -> None:
    def raising(claims: Any) -> None:
        claims["roles"] = ("admin",)

    check = Counting()
    token = tenant.token(claims={"roles": ["reader"], "address": {"city": "x"}})
    accepted = await verifier_of(tenant, clock, background=False, claim_checks=[check]).verify(
        token
    )
    (seen,) = check.seen
    assert (type(seen), type(seen["address"])) == (MappingProxyType, MappingProxyType)
    assert seen["roles"] == ("reader",)
    assert seen == accepted.claims
    with pytest.raises(InvalidClaimError) as refusal:
        await verifier_of(tenant, clock, background=False, claim_checks=[raising]).verify(token)
    assert isinstance(refusal.value.__cause__, TypeError)


@pytest.mark.parametrize("result", [True, False])
async def test_check_that_returns_a_bool_lets_no_token_pass(
    tenant: LocalTenant, clock: HandClock, result: bool
) -> None:
    verdict: Any = lambda _: result  # noqa: E731 - typed as no check is
    verifier = verifier_of(tenant, clock, background=False, claim_checks=[verdict])
    token = tenant.token()
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="returns None"):
            await verifier.verify(token)


async def test_clients_get_401_for_a_failed_check_and_503_for_one_that_is_wrong(
    tenant: LocalTenant, clock: HandClock
) -> None:
    judging: Any = lambda _: True  # noqa: E731 - typed as no check is
    for check, status in ((equals("tier", "gold"), 401), (judging, 503)):
        guard = RequestGuard(verifier_of(tenant, clock, background=False, claim_checks=[check]))
        headers = {"Authorization": f"Bearer {tenant.token(claims={'tier': 's3cret'})}"}
        with pytest.raises(RequestRefusedError) as error:
            await guard.authenticate(method="GET", url="https://api.test/", headers=headers)
        assert error.value.refusal is not None
        assert error.value.refusal.status == status
        assert "s3cret" not in repr(error.value.refusal)


async def test_error_of_a_check_that_is_a_value_error_is_no_malformed_token(
    tenant: LocalTenant, clock: HandClock
) -> None:
    def parsing(claims: Mapping[str, Any]) -> None:
        int(claims["tier"])

    verifier = verifier_of(tenant, clock, background=False, claim_checks=[parsing])
    with pytest.raises(InvalidClaimError, match="parsing") as refusal:
        await verifier.verify(tenant.token(claims={"tier": "gold"}))
    assert isinstance(refusal.value.__cause__, ValueError)
    assert "gold" not in repr(refusal.value)


async def test_access_tokens_of_the_profile_are_asked_for_with_their_type(
    tenant: LocalTenant, clock: HandClock
) -> None:
    verifier = verifier_of(
        tenant,
        clock,
        background=False,
        token_types=["at+jwt"],
        claim_checks=[profile_rfc9068(), client("app-1"), actor("svc")],
    )
    claims = {"client_id": "app-1", "azp": None, "jti": "1", "act": {"sub": "svc"}}
    header = {"typ": "at+jwt"}
    assert await verifier.verify(tenant.token(header=header, claims=claims))
    for worse in ({"jti": None}, {"act": None}, {"client_id": "app-2"}):
        with pytest.raises(InvalidTokenError):
            await verifier.verify(tenant.token(header=header, claims={**claims, **worse}))
    with pytest.raises(InvalidTokenError):
        await verifier.verify(tenant.token(claims=claims))


def test_sync_verifier_runs_them_too(tenant: LocalTenant, clock: HandClock) -> None:
    verifier = SyncTokenVerifier(
        tenant.issuer,
        tenant.audience,
        algorithms=["ES256"],
        http_client=lambda: httpx.AsyncClient(transport=tenant.transport),
        clock=clock,
        background=False,
        claim_checks=[equals("tier", "gold")],
    )
    assert verifier.verify(tenant.token(claims={"tier": "gold"})).claims["tier"] == "gold"
    with pytest.raises(InvalidClaimError):
        verifier.verify(tenant.token(claims={"tier": "lead"}))
    verifier.close()


async def test_each_issuer_has_checks_of_its_own(tenant: LocalTenant, clock: HandClock) -> None:
    async with tenant_of(clock, issuer="https://other.test/") as other:
        strict = verifier_of(tenant, clock, background=False, claim_checks=[equals("tier", "gold")])
        both = MultiIssuerVerifier([strict, verifier_of(other, clock, background=False)])
        assert await both.verify(tenant.token(claims={"tier": "gold"}))
        assert await both.verify(other.token())
        with pytest.raises(MissingClaimError):
            await both.verify(tenant.token())


def made(*checks: Any) -> TokenVerifier:
    return TokenVerifier("https://issuer.test/", "https://api.test", claim_checks=list(checks))


def test_verifiers_with_equal_checks_have_equal_arguments() -> None:
    assert made(equals("x", 1)).has_arguments_of(made(equals("x", 1)))
    assert made(client("a"), actor("b")).has_arguments_of(made(client("a"), actor("b")))
    assert not made(equals("x", 1)).has_arguments_of(made(equals("x", True)))
    assert not made(equals("x", 1)).has_arguments_of(made(equals("x", 2)))
    assert not made(equals("x", 1)).has_arguments_of(made())
    assert not made(client("a"), actor("b")).has_arguments_of(made(actor("b"), client("a")))
    check = Counting()
    assert made(check).has_arguments_of(made(check))
    assert not made(check).has_arguments_of(made(Counting()))


async def test_issue_date_far_ahead_is_refused_without_a_maximum_age(
    tenant: LocalTenant, clock: HandClock
) -> None:
    verifier = verifier_of(tenant, clock, background=False)
    now = int(clock.time())
    assert await verifier.verify(tenant.token(claims={"iat": now + 60}))
    token = tenant.token(claims={"iat": now + 61})
    with pytest.raises(InvalidTokenError) as refusal:
        await verifier.verify(token)
    assert refusal.value.code == "token_not_yet_valid"
    clock.advance(1)
    assert await verifier.verify(token)
