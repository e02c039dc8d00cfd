"""What the demo shows: steps that act, say what was expected, and measure what happened."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from time import perf_counter

from jwks_guard.cli.demo.findings import (
    Finding,
    all_answered,
    answered,
    end_of_trust,
    fetched,
    refreshed,
    undecided,
)
from jwks_guard.cli.demo.stage import LONGEST_SECONDS, Stage
from jwks_guard.keys.freshness import BURST

_CROWD = 20  # requests
_CLIENTS = 4


@dataclass(frozen=True, slots=True)
class Step:
    """A part of the story: its title, what happens in it, and what plays it on a stage."""

    title: str
    plot: str
    play: Callable[[Stage], AsyncIterator[Finding]]


async def _first_calls(stage: Stage) -> AsyncIterator[Finding]:
    answer = await stage.call()
    yield answered("no token: refused", answer, "401 missing_credentials")
    token = stage.tenant.token()
    yield answered("a token of the tenant: accepted", await stage.call(token), "200")
    yield answered("the same token again: accepted", await stage.call(token), "200")
    fetches = stage.tenant.requests.count()
    yield fetched("the keys were fetched once, at start", fetches, fetches == 1)


async def _announced_key(stage: Stage) -> AsyncIterator[Finding]:
    old = stage.tenant.token()
    await stage.call(old)
    await asyncio.to_thread(stage.tenant.rotate)
    answer, fetches = await stage.counting(stage.call(stage.tenant.token()))
    yield answered("first token of the new key: accepted", answer, "200")
    yield fetched("no fetch for it: it was known beforehand", fetches, fetches == 0)
    yield answered("token of the old key: still accepted", await stage.call(old), "200")


async def _unseen_key(stage: Stage) -> AsyncIterator[Finding]:
    await asyncio.to_thread(stage.tenant.rotate)
    unseen = stage.tenant.key().kid not in stage.verifier.keys.kids
    yield Finding(unseen, "the API has never seen the new key", "unknown" if unseen else "known")
    tokens = [stage.tenant.token(sub=f"auth0|{number}") for number in range(_CROWD)]
    answers, fetches = await stage.counting(stage.call_at_once(tokens))
    yield all_answered(f"its first {_CROWD} requests, at once: accepted", answers, "200")
    yield fetched("one fetch for all of them", fetches, fetches == 1)


async def _revocation(stage: Stage) -> AsyncIterator[Finding]:
    kid = stage.tenant.key("previous").kid
    stolen = stage.tenant.token(key=kid)
    yield answered("a stolen token: accepted, and now cached", await stage.call(stolen), "200")
    async with stage.hammered(_CLIENTS, stolen) as answers:
        await stage.call_in_turn([stolen] * _CROWD)
        stage.tenant.revoke(kid)
        await stage.verifier.distrust(kid, reason="demo: the key has leaked")
        returned = perf_counter()
        answers += await stage.call_in_turn([stolen] * _CROWD)
    for finding in end_of_trust(answers, returned):
        yield finding
    answer = await stage.call(stage.tenant.token())
    yield answered("a token of the current key: accepted", answer, "200")


async def _stale_edge(stage: Stage) -> AsyncIterator[Finding]:
    kid = stage.tenant.key("revoked").kid
    stolen = stage.tenant.token(key=kid)
    stage.tenant.faults.rollback()
    listed = kid in await stage.published()
    yield Finding(listed, "the old set lists the revoked key", "listed" if listed else "absent")
    yield refreshed("the API refreshes and takes the set", await stage.refresh(), taken=True)
    answer = await stage.call(stolen)
    yield answered("a token of that key: still refused", answer, "401 revoked_key")
    stage.tenant.faults.clear()
    yield refreshed("the edge catches up: the new set is taken", await stage.refresh(), taken=True)
    stage.tenant.faults.rollback()
    yield refreshed("the edge falls back: the old set is not", await stage.refresh(), taken=False)
    answer = await stage.call(stolen)
    yield answered("a token of that key: still refused", answer, "401 revoked_key")
    stage.tenant.faults.clear()
    await stage.refresh()


async def _forgeries(stage: Stage) -> AsyncIterator[Finding]:
    tenant, before = stage.tenant, stage.tenant.requests.count()
    token = tenant.token()
    await stage.call(token)
    answer = await stage.call(tenant.forged_token())
    yield answered("signed by another key: refused", answer, "401 invalid_signature")
    answer = await stage.call(_with_payload_of(tenant.token(sub="auth0|mallory"), token))
    yield answered("a cached one with other claims: refused", answer, "401 invalid_signature")
    answer = await stage.call(tenant.token(header={"alg": "none"}))
    yield answered("alg none: refused", answer, "401 algorithm_not_allowed")
    fetches = tenant.requests.count() - before
    yield fetched("no fetch for any of them", fetches, fetches == 0)


async def _outage(stage: Stage) -> AsyncIterator[Finding]:
    tenant, fetches = stage.tenant, stage.tenant.requests.count()
    good = [tenant.token(sub=f"auth0|{number}") for number in range(_CROWD)]
    bogus = [tenant.forged_token(kid=f"bogus-{number}") for number in range(2 * _CROWD)]
    tenant.faults.status(503)
    hanging = tenant.faults.hold()
    flood = asyncio.create_task(stage.call_at_once(bogus[:_CROWD]))
    try:
        await hanging.arrived.wait(LONGEST_SECONDS)
        answers = await stage.call_in_turn(good)
    finally:
        hanging.release()
        refused = await flood
    yield all_answered(f"{_CROWD} good tokens while it hangs: accepted", answers, "200")
    refused += await stage.call_in_turn(bogus[_CROWD:])
    yield undecided(f"{2 * _CROWD} tokens of unknown keys: not judged", refused)
    fetches = tenant.requests.count() - fetches
    yield fetched(f"at most {BURST} fetches for them", fetches, 0 < fetches <= BURST)
    health = stage.verifier.health()
    left = ((health.trusted_until or 0.0) - stage.verifier.keys.clock.time()) / 60
    yield Finding(
        health.status == "degraded" and left > 0,
        "the API tells, and how long it can last",
        f"{health.status}, {left:.0f} min left",
    )
    tenant.faults.clear()
    yield refreshed("the tenant is back: its set is taken", await stage.refresh(), taken=True)


STORY = (
    Step(
        "A client calls the API",
        "Starlette in uvicorn, with JWKSGuardMiddleware around it.",
        _first_calls,
    ),
    Step(
        "The tenant rotates its signing key",
        "Its key set has listed the next key all along, for those who read ahead.",
        _announced_key,
    ),
    Step(
        "It rotates again before the API has asked",
        "Now a key signs that did not exist when the API last fetched the set.",
        _unseen_key,
    ),
    Step(
        "A previous key leaks: revoked at the tenant, distrusted at the API",
        "Revoking alone shows with the next fetch. distrust() does not wait for it.",
        _revocation,
    ),
    Step(
        "A CDN edge serves the key set from before",
        "What is distrusted stays so, whatever a cache somewhere still believes.",
        _stale_edge,
    ),
    Step(
        "Somebody forges tokens",
        "Under the kid of a good key, while the cache is warm.",
        _forgeries,
    ),
    Step(
        "The tenant is down",
        "Its key set hangs, then answers 503, in a flood of tokens of unknown keys.",
        _outage,
    ),
)


def _with_payload_of(other: str, token: str) -> str:
    header, _, signature = token.split(".")
    return ".".join((header, other.split(".")[1], signature))
