"""What one copy of the decisions lacks of another."""

from __future__ import annotations

from jwks_guard.distrust.state import Decision, Distrust
from jwks_guard.fleet.slices import SLICE, lacking
from jwks_guard.fleet.soundness import MAX_REASON_CHARS
from jwks_guard.jose.header import MAX_KID_CHARS

ISSUER = "https://tenant.test/"
ME = "0" * 32
LEAKED = Distrust({ME: Decision(1, "leaked")})


async def test_what_is_held_and_what_is_about_other_issuers_is_not_lacking() -> None:
    ours = {(ISSUER, f"k{number}"): LEAKED for number in range(3 * SLICE)}
    foreign = {("https://foreign.test/", "k"): LEAKED}
    held = {name: Distrust({ME: Decision(1, "leaked")}) for name in list(ours)[1:]}
    assert await lacking({**ours, **foreign}, held, [ISSUER]) == {(ISSUER, "k0"): LEAKED}


async def test_what_others_would_not_take_is_not_lacking() -> None:
    unsound = Distrust({ME: Decision(0), "no replica": Decision(1)}, {}, frozenset({"short"}))
    ours = {(ISSUER, "k"): unsound, (ISSUER, "k" * (MAX_KID_CHARS + 1)): LEAKED}
    assert await lacking(ours, {}, [ISSUER]) == {}


async def test_a_long_reason_is_given_in_short_and_then_not_lacking() -> None:
    ours = {(ISSUER, "k"): Distrust({ME: Decision(1, "x" * 100_000)})}
    given = await lacking(ours, {}, [ISSUER])
    assert given[ISSUER, "k"].made[ME].reason == "x" * MAX_REASON_CHARS
    assert await lacking(ours, given, [ISSUER]) == {}
