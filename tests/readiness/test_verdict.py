"""The verdict on revoking a key: each reason against it, at its boundary."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jwks_guard.base.durations import span
from jwks_guard.readiness.state import InstanceState, Observed
from jwks_guard.readiness.usage import NEVER, RECENT_SECONDS, KeyUsage
from jwks_guard.readiness.verdict import (
    KeyFacts,
    ReadinessSettings,
    RevocationReadiness,
    earliest_safe_time,
    revocation_readiness,
)

NOW = 1_800_000_000.0
LIFETIME, QUIET = 3_600.0, 600.0
ROTATED = NOW - LIFETIME

FACTS = KeyFacts(
    kid="old",
    state="previously used",
    current_until=ROTATED,
    current_kid="new",
    current_since=ROTATED,
)
SETTINGS = ReadinessSettings(token_lifetime=LIFETIME, quiet_period=QUIET)
STATE = InstanceState(
    instance="0123456789abcdef",
    host="api-1:7",
    issuer="https://issuer.test/",
    started_at=NOW - QUIET,
    reported_at=NOW,
    status="ok",
    confirmed_at=ROTATED,
    trusted_until=NOW + 1.0,
    kids=("old", "new"),
)


def used(ago: float, *, recent: int = 132, ends: float | None = None) -> dict[str, KeyUsage]:
    return {"old": KeyUsage(500, 3, recent, NOW - ago, ends)}


def assess(
    *states: InstanceState,
    facts: KeyFacts = FACTS,
    settings: ReadinessSettings = SETTINGS,
    latest_expiry: float | None = None,
) -> RevocationReadiness:
    return revocation_readiness(facts, Observed(states, latest_expiry), settings, NOW)


def codes(readiness: RevocationReadiness) -> list[str]:
    return [blocker.code for blocker in readiness.blockers]


def test_key_that_nobody_needs_may_be_revoked_from_the_very_second() -> None:
    readiness = assess(STATE)
    assert (readiness.verdict, readiness.blockers) == ("yes", ())
    assert readiness.earliest_safe_time == readiness.assessed_at == NOW
    assert readiness.instances == (STATE,)


# --- each condition at its boundary ---


@pytest.mark.parametrize("state", ["current", "next"])
def test_current_and_next_key_are_never_revoked(state: Literal["current", "next"]) -> None:
    facts = replace(FACTS, state=state, current_until=None)
    readiness = assess(STATE, facts=facts)
    assert (readiness.verdict, codes(readiness)) == ("no", [f"key_is_{state}"])
    assert state in readiness.blockers[0].message


SECOND_BEFORE: list[tuple[dict[str, Any], str, str]] = [
    ({"started_at": NOW - QUIET + 1}, "instance_watched_too_short", "unknown"),
    ({"confirmed_at": ROTATED - 1}, "current_key_unconfirmed", "no"),
    ({"confirmed_at": None}, "current_key_unconfirmed", "no"),
    ({"kids": ("old",)}, "current_key_unconfirmed", "no"),
    ({"trusted_until": NOW}, "keys_stale", "unknown"),
    ({"trusted_until": None}, "keys_stale", "unknown"),
    ({"status": "degraded"}, "instance_degraded", "unknown"),
    ({"status": "unavailable"}, "keys_stale", "unknown"),
    ({"usage": used(QUIET - 1)}, "key_in_use", "no"),
    ({"usage": used(-5)}, "key_in_use", "no"),
]


@pytest.mark.parametrize(("changes", "code", "verdict"), SECOND_BEFORE)
def test_one_instance_that_is_not_ready_blocks_and_is_named(
    changes: dict[str, Any], code: str, verdict: str
) -> None:
    ready = replace(STATE, instance="fedcba9876543210", host="api-2:7")
    readiness = assess(ready, replace(STATE, **changes))
    assert (readiness.verdict, codes(readiness)) == (verdict, [code])
    (blocker,) = readiness.blockers
    assert blocker.instance == STATE.instance
    assert blocker.message.startswith("api-1:7 (01234567) ")


@pytest.mark.parametrize(
    "changes",
    [
        {"usage": used(QUIET)},
        {"usage": {"new": KeyUsage(9, 0, 9, NOW, NOW + 500)}},
        {"usage": {"old": KeyUsage(rejected=9)}},
        {"confirmed_at": NOW, "trusted_until": NOW + 0.1},
    ],
)
def test_instance_that_is_ready_to_the_second_does_not_block(changes: dict[str, Any]) -> None:
    assert assess(replace(STATE, **changes)).verdict == "yes"


def test_silent_instance_is_neither_counted_nor_believed() -> None:
    """A frozen one says that all is well for as long as its state is kept."""
    settings = replace(SETTINGS, report_within=30.0)
    started = NOW - 2 * QUIET
    at_the_bound = replace(STATE, started_at=started, reported_at=NOW - 30)
    assert assess(at_the_bound, settings=settings).verdict == "yes"
    frozen = replace(at_the_bound, reported_at=NOW - 31)
    readiness = assess(frozen, settings=settings)
    assert (readiness.verdict, codes(readiness)) == (
        "unknown",
        ["instances_missing", "instance_silent"],
    )
    assert "has not reported for 31 s" in readiness.blockers[1].message


def test_instance_whose_clock_is_ahead_is_not_believed() -> None:
    readiness = assess(replace(STATE, reported_at=NOW + 3_600))
    assert codes(readiness) == ["instances_missing", "instance_silent"]
    assert "clock that is 1 h ahead" in readiness.blockers[1].message


def test_instance_is_watched_only_as_long_as_it_reports() -> None:
    late = replace(STATE, reported_at=NOW - 10)
    assert codes(assess(late)) == ["instance_watched_too_short"]


def test_restarted_instance_blocks_until_it_was_watched_for_the_quiet_period() -> None:
    (blocker,) = assess(replace(STATE, started_at=NOW - 60)).blockers
    assert blocker.until == NOW - 60 + QUIET
    assert "has been watched for 1 min; the quiet period is 10 min" in blocker.message


@pytest.mark.parametrize("expected", [0, 1, 2])
def test_fewer_instances_than_expected_block(expected: int) -> None:
    settings = replace(SETTINGS, expected_instances=expected)
    same = replace(STATE, host="the same one, twice")
    assert assess(STATE, same, settings=settings).verdict == ("unknown" if expected == 2 else "yes")
    other = replace(STATE, instance="another")
    assert assess(STATE, other, settings=settings).verdict == "yes"


def test_nobody_who_reports_means_that_nothing_is_known() -> None:
    readiness = assess()
    assert (readiness.verdict, codes(readiness)) == ("unknown", ["instances_missing"])
    assert readiness.blockers[0].message.startswith("No instance reports, of 1 expected. Look ")


def test_rotation_whose_time_is_unknown_needs_the_current_key_to_be_held() -> None:
    facts = replace(FACTS, current_since=None)
    assert assess(STATE, facts=facts).verdict == "yes"
    assert assess(replace(STATE, kids=("old",)), facts=facts).verdict == "no"


# --- when the last token has expired ---


@pytest.mark.parametrize(
    ("current_until", "lifetime", "fleet", "instance", "safe"),
    [
        (100.0, 50.0, None, None, 150.0),
        (100.0, 50.0, 120.0, 140.0, 150.0),
        (100.0, 50.0, 200.0, None, 200.0),  # a token that lives longer was seen
        (100.0, 50.0, None, 300.0, 300.0),
        (100.0, 50.0, 200.0, 300.0, 300.0),
        (100.0, 50.0, NEVER, None, NEVER),
        (100.0, None, 200.0, 300.0, None),
        (None, 50.0, 200.0, 300.0, None),
    ],
)
def test_last_token_ends_by_the_lifetime_or_by_what_was_seen_whichever_is_later(
    current_until: float | None,
    lifetime: float | None,
    fleet: float | None,
    instance: float | None,
    safe: float | None,
) -> None:
    facts = replace(FACTS, current_until=current_until)
    states = (replace(STATE, usage={"old": KeyUsage(1, latest_expiry=instance)}), STATE)
    settings = replace(SETTINGS, token_lifetime=lifetime)
    assert earliest_safe_time(facts, Observed(states, fleet), settings) == safe


def test_idle_clients_hold_tokens_until_the_last_one_has_expired() -> None:
    early = replace(FACTS, current_until=ROTATED + 90.0)
    readiness = assess(STATE, facts=early)
    assert (readiness.verdict, codes(readiness)) == ("no", ["tokens_unexpired"])
    (blocker,) = readiness.blockers
    assert blocker.until == readiness.earliest_safe_time == NOW + 90
    assert blocker.message == (
        "Tokens of old, also those never used here, may be valid until "
        "2027-01-15 08:01:30 UTC, in 1 min 30 s."
    )


def test_token_seen_by_an_instance_that_is_gone_counts_by_the_fleets_memory() -> None:
    assert codes(assess(STATE, latest_expiry=NOW + 1)) == ["tokens_unexpired"]
    assert assess(STATE, latest_expiry=NOW).verdict == "yes"


@pytest.mark.parametrize(
    "observed",
    [
        Observed((STATE,), longest_lifetime=LIFETIME + 90.0),
        Observed((replace(STATE, usage={"old": KeyUsage(longest_lifetime=LIFETIME + 90.0)}),)),
        Observed((replace(STATE, usage={"new": KeyUsage(longest_lifetime=LIFETIME + 90.0)}),)),
    ],
    ids=["the fleet remembers", "of this key", "of the next key"],
)
def test_lifetime_that_was_seen_to_be_longer_than_the_setting_counts(observed: Observed) -> None:
    readiness = revocation_readiness(FACTS, observed, SETTINGS, NOW)
    assert (readiness.verdict, codes(readiness)) == ("no", ["tokens_unexpired"])
    (blocker,) = readiness.blockers
    assert blocker.until == readiness.earliest_safe_time == NOW + 90
    assert blocker.message.endswith(" Some were seen that live for 1 h 1 min.")
    without = revocation_readiness(
        FACTS, observed, replace(SETTINGS, token_lifetime=None), NOW + 1e6
    )
    assert without.blockers[0].message.endswith(" Some were seen that live for 1 h 1 min.")


def test_tokens_without_an_end_never_let_the_key_go() -> None:
    (blocker,) = assess(STATE, latest_expiry=NEVER).blockers
    assert blocker.message.endswith("also those never used here, may never expire.")


def test_without_the_lifetime_of_tokens_nothing_is_known() -> None:
    readiness = assess(STATE, settings=replace(SETTINGS, token_lifetime=None))
    assert (readiness.verdict, codes(readiness)) == ("unknown", ["token_lifetime_unknown"])
    assert readiness.earliest_safe_time is None
    assert "token_lifetime" in readiness.blockers[0].message


def test_without_the_time_of_the_rotation_nothing_is_known() -> None:
    readiness = assess(STATE, facts=replace(FACTS, current_until=None))
    assert (readiness.verdict, codes(readiness)) == ("unknown", ["rotation_time_unknown"])


# --- what it says ---


def test_what_is_known_to_break_outweighs_what_is_unknown() -> None:
    readiness = assess(
        replace(STATE, started_at=NOW, usage=used(1)),
        settings=replace(SETTINGS, token_lifetime=None),
    )
    assert readiness.verdict == "no"
    assert codes(readiness) == [
        "token_lifetime_unknown",
        "instance_watched_too_short",
        "key_in_use",
    ]


def test_use_is_told_with_its_numbers_and_its_end() -> None:
    state = replace(STATE, usage=used(75, ends=NOW + 2_292))
    settings = replace(SETTINGS, token_lifetime=None)
    blocker = assess(state, settings=settings).blockers[-1]
    assert blocker.message == (
        "api-1:7 (01234567) accepted 132 tokens of old in the last 10 min, the latest 1 min 15 s "
        "ago, within the quiet period of 10 min; the last of these tokens expires "
        "2027-01-15 08:38:12 UTC, in 38 min 12 s."
    )
    assert blocker.until == NOW - 75 + QUIET


def test_use_of_tokens_that_have_expired_ends_with_the_quiet_period() -> None:
    (blocker,) = assess(replace(STATE, usage=used(30, recent=1, ends=NOW - 5))).blockers
    assert blocker.message.endswith("the latest 30 s ago, within the quiet period of 10 min.")
    assert blocker.until == NOW - 30 + QUIET


def test_use_is_told_with_the_window_of_the_count_and_the_quiet_period() -> None:
    settings = replace(SETTINGS, quiet_period=5_400.0)
    state = replace(STATE, started_at=NOW - 5_400, usage=used(1_800, recent=0))
    (blocker,) = assess(state, settings=settings).blockers
    assert f"accepted 0 tokens of old in the last {span(RECENT_SECONDS)}, the " in blocker.message
    assert "latest 30 min ago, within the quiet period of 1 h 30 min" in blocker.message


def test_of_an_instance_that_is_silent_nothing_else_is_said() -> None:
    silent = replace(
        STATE, reported_at=NOW - 45, started_at=NOW - 45, kids=(), trusted_until=None, host="gone"
    )
    (blocker,) = assess(STATE, silent).blockers
    assert blocker.code == "instance_silent"
    assert blocker.message == (
        "gone (01234567) has not reported for 45 s. It may be cut off and still accept tokens; if "
        "it has ended for good, dismiss it: jwks-guard watch --dismiss 0123456789abcdef"
    )
    used_it = replace(silent, usage=used(50))
    assert codes(assess(STATE, used_it)) == ["instance_silent", "key_in_use"]


def test_instance_that_was_never_heard_of_is_told_with_what_is_wrong_with_it() -> None:
    unheard = replace(STATE, reported_at=0.0, host="api-3", last_error="it can't be reached")
    (blocker,) = assess(STATE, unheard).blockers
    assert (blocker.code, blocker.verdict) == ("instance_silent", "unknown")
    assert "was never heard of (it can't be reached)" in blocker.message


def test_against_a_key_that_is_revoked_already_nothing_speaks() -> None:
    readiness = assess(facts=replace(FACTS, state="revoked", current_until=NOW))
    assert (readiness.verdict, readiness.revoked, readiness.blockers) == ("yes", True, ())


def test_what_does_not_pass_by_waiting_is_told_apart() -> None:
    unset = assess(STATE, settings=replace(SETTINGS, token_lifetime=None))
    unexpired = assess(STATE, facts=replace(FACTS, current_until=NOW))
    assert [blocker.lasts for blocker in (*unset.blockers, *unexpired.blockers)] == [True, False]


def test_every_text_can_be_understood_alone() -> None:
    worst = replace(
        STATE,
        started_at=NOW,
        reported_at=NOW - 5,
        status="degraded",
        last_error="the last fetch failed",
        trusted_until=NOW - 5,
        confirmed_at=None,
        usage=used(1, ends=NEVER),
    )
    facts = replace(FACTS, current_until=NOW)
    readiness = assess(worst, facts=facts, settings=replace(SETTINGS, expected_instances=3))
    assert codes(readiness) == [
        "tokens_unexpired",
        "instances_missing",
        "instance_watched_too_short",
        "keys_stale",
        "current_key_unconfirmed",
        "key_in_use",
    ]
    for blocker in readiness.blockers:
        assert blocker.message.endswith(".")
        assert blocker.instance is None or "api-1:7 (01234567)" in blocker.message
    texts = {blocker.code: blocker.message for blocker in readiness.blockers}
    assert texts["keys_stale"].endswith(
        "may hold stale keys: it is degraded and trusts them until 2027-01-15 07:59:55 UTC "
        "(the last fetch failed)."
    )
    assert texts["current_key_unconfirmed"].endswith(
        "has not confirmed the current key, new, since the rotation."
    )
    assert texts["key_in_use"].endswith("of 10 min; the last of these tokens never expires.")


def test_instances_are_listed_by_name_whatever_order_they_report_in() -> None:
    one, two = replace(STATE, host="a", kids=()), replace(STATE, host="b", kids=())
    assert assess(two, one) == assess(one, two)
    assert [state.host for state in assess(two, one).instances] == ["a", "b"]


def test_verdict_is_told_as_json() -> None:
    readiness = assess(replace(STATE, usage=used(1)))
    told = json.loads(json.dumps(readiness.to_dict()))
    assert told.keys() == {
        "kid",
        "verdict",
        "revoked",
        "assessed_at",
        "earliest_safe_time",
        "blockers",
        "instances",
    }
    assert told["verdict"] == "no"
    assert told["blockers"][0]["code"] == "key_in_use"
    assert told["instances"][0]["usage"]["old"]["recent"] == 132


# --- whatever instances show ---

odd = st.sampled_from(
    [0.0, -1.0, -1e18, NOW - 600, NOW - 1, NOW, NOW + 1, NEVER - 1, NEVER, 1e18, 1e308, math.inf]
) | st.floats(allow_nan=True)
perhaps = st.none() | odd
kids = st.sampled_from(["old", "new", "", "\ud800", "x" * 300])
usages = st.builds(KeyUsage, st.integers(0), st.integers(0), st.integers(), perhaps, perhaps)
states = st.builds(
    InstanceState,
    instance=st.text(max_size=9),
    host=st.text(max_size=9),
    issuer=st.just("https://issuer.test/"),
    started_at=odd,
    reported_at=odd,
    status=st.sampled_from(["ok", "degraded", "unavailable"]),
    confirmed_at=perhaps,
    trusted_until=perhaps,
    kids=st.lists(kids).map(tuple),
    usage=st.dictionaries(kids, usages, max_size=3),
)
nearly_ready = st.builds(
    replace,
    st.just(STATE),
    instance=st.sampled_from("abc"),
    started_at=st.sampled_from([NOW - QUIET, NOW - QUIET + 1]),
    reported_at=st.sampled_from([NOW, NOW - 31, NOW + 31]),
    status=st.sampled_from(["ok", "ok", "degraded"]),
    confirmed_at=st.sampled_from([ROTATED, ROTATED - 1, None]),
    trusted_until=st.sampled_from([NOW + 1, NOW, None]),
    kids=st.sampled_from([("old", "new"), ("new",), ("old",)]),
    usage=st.sampled_from([{}, used(QUIET), used(QUIET - 1), used(QUIET, ends=NOW + 1)]),
)
facts = st.builds(
    KeyFacts,
    kid=st.just("old"),
    state=st.sampled_from(["next", "current", "previously used", "revoked"]),
    current_until=st.just(ROTATED) | perhaps,
    current_kid=st.just("new") | kids,
    current_since=st.just(ROTATED) | perhaps,
)
settings_ = st.builds(
    ReadinessSettings,
    token_lifetime=st.sampled_from([LIFETIME, None, 1.0, 1e308, math.inf]),
    quiet_period=st.sampled_from([QUIET, 0.0, 1e308]),
    expected_instances=st.integers(0, 3),
    report_within=st.sampled_from([30.0, 0.0]),
)


@given(facts, st.lists(states | nearly_ready, max_size=4), perhaps, settings_, st.just(NOW) | odd)
def test_nothing_that_is_shown_makes_it_fail(
    facts: KeyFacts,
    states: list[InstanceState],
    expiry: float | None,
    settings: ReadinessSettings,
    now: float,
) -> None:
    readiness = revocation_readiness(facts, Observed(tuple(states), expiry), settings, now)
    assert readiness.verdict in ("yes", "no", "unknown")
    assert (readiness.verdict == "yes") == (not readiness.blockers)
    readiness.to_dict()


@given(
    facts | st.just(FACTS),
    st.lists(nearly_ready | st.just(STATE) | states, min_size=1, max_size=3),
    st.none() | st.sampled_from([NOW - 1, NOW, NOW + 1]) | odd,
    settings_ | st.just(SETTINGS),
)
def test_yes_means_that_every_condition_is_fulfilled(
    facts: KeyFacts,
    states: list[InstanceState],
    expiry: float | None,
    settings: ReadinessSettings,
) -> None:
    readiness = assess(*states, facts=facts, settings=settings, latest_expiry=expiry)
    if readiness.verdict != "yes" or readiness.revoked:
        return
    assert facts.state == "previously used"
    assert facts.current_until is not None
    assert settings.token_lifetime is not None
    assert facts.current_until + settings.token_lifetime <= NOW
    assert not (expiry or 0.0) > NOW
    assert len({state.instance for state in states}) >= settings.expected_instances
    for state in states:
        assert abs(NOW - state.reported_at) <= settings.report_within
        assert state.reported_at - state.started_at >= settings.quiet_period
        assert state.status == "ok"
        assert state.trusted_until is not None
        assert state.trusted_until > NOW
        assert facts.current_kid in state.kids
        assert state.confirmed_at is not None
        assert facts.current_since is None or state.confirmed_at >= facts.current_since
        usage = state.usage.get("old", KeyUsage())
        assert usage.last_seen is None or NOW - usage.last_seen >= settings.quiet_period
        assert not (usage.latest_expiry or 0.0) > NOW


def test_state_that_was_sent_as_json_is_judged_as_the_one_that_was_shown() -> None:
    state = replace(STATE, usage=used(1, ends=NEVER))
    sent = msgspec.json.decode(msgspec.json.encode(state), type=InstanceState)
    assert assess(sent) == assess(state)
