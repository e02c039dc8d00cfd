"""A picture from the answers of fleet and tenant: which keys, in which list, with what beside."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from jwks_guard.admin import RevocationReadiness, SigningKey
from jwks_guard.console.assembly import MAX_REFUSED, Known, assembled
from jwks_guard.console.history import History
from jwks_guard.console.picture import Picture
from jwks_guard.readiness.state import LIVE_SECONDS, InstanceState, Observed
from jwks_guard.readiness.usage import KeyUsage, Reach
from jwks_guard.readiness.verdict import reporting_in
from tests.console.support import ISSUER, decision, instance
from tests.support import HandClock

NEXT = SigningKey(kid="next-kid", next=True, fingerprint="AA:BB")
CURRENT = SigningKey(
    kid="current-kid", current=True, current_since=datetime(2027, 1, 1, tzinfo=UTC)
)
OLD = SigningKey(kid="old-kid", previous=True, current_until=datetime(2026, 6, 1, tzinfo=UTC))
OLDER = SigningKey(kid="older-kid", previous=True, current_until=datetime(2026, 1, 1, tzinfo=UTC))
REVOKED = SigningKey(kid="revoked-kid", previous=True, revoked=True)
KEYS = (REVOKED, OLDER, CURRENT, OLD, NEXT)


def asked(key: SigningKey, seen: Observed) -> RevocationReadiness:
    return RevocationReadiness(
        kid=key.kid,
        verdict="unknown",
        assessed_at=0.0,
        earliest_safe_time=seen.latest_expiry,
        blockers=(),
        instances=seen.states,
    )


def picture_of(clock: HandClock, *states: InstanceState, **members: Any) -> Picture:
    known = Known(issuer=ISSUER, began=clock.time() - 60.0, **members)
    known = known.showing(states, clock.time())
    return assembled(known, History(), asked, (), (), clock.time())


def kids(rows: Any) -> list[str]:
    return [row.kid for row in rows]


def test_keys_stand_in_the_order_of_their_life(clock: HandClock) -> None:
    picture = picture_of(clock, instance("a", clock), keys=KEYS, tenant=ISSUER)
    assert kids(picture.valid) == ["next-kid", "current-kid", "old-kid", "older-kid"]
    assert kids(picture.revoked) == ["revoked-kid"]


def test_a_row_says_what_the_tenant_says(clock: HandClock) -> None:
    picture = picture_of(clock, keys=KEYS, tenant=ISSUER)
    old, following = picture.key("old-kid"), picture.key("next-kid")
    assert old is not None
    assert following is not None
    assert old.until == datetime(2026, 6, 1, tzinfo=UTC).timestamp()
    assert following.fingerprint == "AA:BB"


@pytest.mark.parametrize(
    ("kid", "actions"),
    [
        ("next-kid", ("distrust",)),
        ("current-kid", ("rotate", "rotate-and-revoke", "distrust")),
        ("old-kid", ("revoke", "distrust")),
        ("revoked-kid", ("distrust",)),
    ],
)
def test_only_what_makes_sense_for_a_key_is_offered(
    kid: str, actions: tuple[str, ...], clock: HandClock
) -> None:
    row = picture_of(clock, keys=KEYS, tenant=ISSUER).key(kid)
    assert row is not None
    assert row.actions == actions


def test_a_distrusted_key_can_be_reinstated_unless_the_tenant_has_revoked_it(
    clock: HandClock,
) -> None:
    decisions = {kid: decision(kid, clock) for kid in ("old-kid", "revoked-kid")}
    picture = picture_of(clock, keys=KEYS, tenant=ISSUER, decisions=decisions)
    old, revoked = picture.key("old-kid"), picture.key("revoked-kid")
    assert old is not None
    assert revoked is not None
    assert old.actions == ("revoke", "reinstate")
    assert revoked.actions == ()


def test_instances_that_report_trust_or_refuse_a_key(clock: HandClock) -> None:
    picture = picture_of(
        clock,
        instance("a", clock, kids=("old-kid", "current-kid")),
        instance("b", clock, kids=("old-kid",), refused={"old-kid": clock.time()}),
        instance("c", clock, kids=("old-kid",), reported_at=clock.time() - 60.0),
        keys=KEYS,
        tenant=ISSUER,
    )
    row = picture.key("old-kid")
    assert row is not None
    assert [each.state.host for each in row.trusting] == ["host-a"]
    assert [each.state.host for each in row.refusing] == ["host-b"]
    assert row.reporting == 2
    assert [each.silent for each in picture.instances] == [False, False, True]


def test_every_key_that_is_not_revoked_has_a_verdict_with_the_reach_of_its_tokens(
    clock: HandClock,
) -> None:
    reaches = {"old-kid": Reach(9_000.0, 60.0)}
    picture = picture_of(clock, instance("a", clock), keys=KEYS, tenant=ISSUER, reaches=reaches)
    verdicts = {row.kid: row.readiness for row in picture.keys}
    old = verdicts["old-kid"]
    assert old is not None
    assert old.earliest_safe_time == 9_000.0
    assert verdicts["revoked-kid"] is None
    assert all(verdicts[kid] for kid in ("next-kid", "current-kid", "older-kid"))


def test_the_last_expiry_is_the_latest_that_anybody_has_seen(clock: HandClock) -> None:
    usage = {"old-kid": KeyUsage(accepted=1, last_seen=5.0, latest_expiry=8_000.0)}
    states = instance("a", clock, usage=usage), instance("b", clock)
    for reach, latest in ((0.0, 8_000.0), (9_000.0, 9_000.0)):
        reaches = {"old-kid": Reach(reach, 0.0)}
        row = picture_of(clock, *states, keys=KEYS, tenant=ISSUER, reaches=reaches).key("old-kid")
        assert row is not None
        assert row.latest_expiry == latest
        assert row.last_seen == 5.0


def test_without_a_tenant_the_keys_are_those_that_instances_name(clock: HandClock) -> None:
    picture = picture_of(
        clock,
        instance("a", clock, kids=("k1", "k2"), refused={"k3": 5.0}),
        instance("b", clock, kids=("k2",), refused={"k1": 9.0}),
        decisions={"k4": decision("k4", clock)},
    )
    assert sorted(kids(picture.valid)) == ["k1", "k2"]
    assert kids(picture.revoked) == ["k4", "k3"]
    assert {row.readiness for row in picture.keys} == {None}
    assert {row.actions for row in picture.keys} == {("distrust",), ("reinstate",)}


def test_a_key_that_is_trusted_and_not_listed_is_shown_with_the_valid_ones(
    clock: HandClock,
) -> None:
    state = instance("a", clock, kids=("stale-kid",))
    picture = picture_of(clock, state, keys=KEYS, tenant=ISSUER)
    row = picture.key("stale-kid")
    assert row in picture.valid
    assert row is not None
    assert row.state == "not listed"


def test_of_thousands_of_refused_keys_the_latest_are_shown_and_all_are_known(
    clock: HandClock,
) -> None:
    refused = {f"kid-{n}": float(n) for n in range(2_000)}
    picture = picture_of(clock, instance("a", clock, refused=refused), keys=KEYS, tenant=ISSUER)
    assert kids(picture.revoked)[1:3] == ["kid-1999", "kid-1998"]
    assert len(picture.revoked) == MAX_REFUSED + 1
    assert picture.more_refused == 2_000 - MAX_REFUSED
    assert picture.refused_kids == {*refused, "revoked-kid"}


def test_an_instance_is_as_silent_as_it_was_when_the_fleet_answered_last(clock: HandClock) -> None:
    known = Known(issuer=ISSUER, began=clock.time()).showing([instance("a", clock)], clock.time())
    clock.advance(300.0)
    picture = assembled(known, History(), asked, (), (), clock.time())
    assert [row.silent for row in picture.instances] == [False]
    assert picture.fleet_at == clock.time() - 300.0


def test_an_instance_whose_clock_is_ahead_counts_as_silent_as_in_the_verdict(
    clock: HandClock,
) -> None:
    state = instance("a", clock, kids=("k1",), reported_at=clock.time() + 3_600.0)
    picture = picture_of(clock, state)
    assert [row.silent for row in picture.instances] == [True]
    assert not reporting_in([state], LIVE_SECONDS, clock.time())


def test_since_when_an_instance_trusts_a_key_is_when_that_was_seen(clock: HandClock) -> None:
    began = clock.time()
    state = instance("a", clock, kids=("k1",))
    known = Known(issuer=ISSUER, began=began).showing([state], began)
    clock.advance(30.0)
    known = known.showing([replace(state, kids=("k1", "k2"))], clock.time())
    assert known.instances(clock.time())[0].trusted_since == {"k1": began, "k2": began + 30.0}
    known = known.showing([replace(state, kids=("k2",))], clock.time() + 5.0)
    assert known.instances(clock.time())[0].trusted_since == {"k2": began + 30.0}


def test_instances_without_an_id_are_told_apart_by_their_address(clock: HandClock) -> None:
    states = [instance("a", clock, instance="", host=host, reported_at=0.0) for host in ("x", "y")]
    picture = picture_of(clock, *states)
    assert [row.id for row in picture.instances] == ["x", "y"]
    assert picture.instance("y" * 32) is None
