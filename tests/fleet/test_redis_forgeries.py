"""What somebody who can write to Redis, but has no secret, can't do."""

from __future__ import annotations

import json
import secrets
from contextlib import suppress

import pytest

from jwks_guard import Register
from jwks_guard.distrust.copy import CopyError
from jwks_guard.distrust.state import Decision, Distrust, Flags, State
from jwks_guard.fleet.soundness import MAX_ENTRIES, MAX_ENTRIES_PER_KEY, require_few
from jwks_guard.testing import LocalTenant
from tests.fleet.instances import eventually, fleet_of, instance, outcome
from tests.redis_server import RedisServer

DECISIONS, VERSION = "{jwks-guard}:decisions", "{jwks-guard}:version"
SECRET = "correct-horse-battery"


async def test_a_signature_that_is_no_ascii_text_is_passed_over_like_any_other_wrong_one(
    tenant: LocalTenant, redis: RedisServer
) -> None:
    old, token = tenant.key("previous").kid, tenant.token(key="previous")
    field = json.dumps(["made", tenant.issuer, "k", "a" * 32])
    with redis.client() as client:
        client.hset(DECISIONS, field, '[{"number": 1}, ["é"]]'.encode())
    async with (
        instance(tenant, fleet_of(redis, secret=SECRET)) as one,
        instance(tenant, fleet_of(redis, secret=SECRET)) as other,
    ):
        await one.distrust(old, reason="leaked")
        await eventually(lambda: old in other.distrusted)
        assert await outcome(other, token) == "revoked_key"
        assert "k" not in other.distrusted
        assert "without a valid signature" in str(other.health().last_error)


async def test_made_up_thumbprints_do_not_pile_up_beyond_the_limit(
    tenant: LocalTenant, redis: RedisServer
) -> None:
    register = Register()
    fleet = fleet_of(redis)
    async with instance(tenant, fleet, register=register):
        for _ in range(3):
            prints = [secrets.token_urlsafe(32) for _ in range(MAX_ENTRIES_PER_KEY // 2)]
            fields = [json.dumps(["key", tenant.issuer, "k", each]) for each in prints]
            with redis.client() as client:
                client.delete(DECISIONS)
                client.hset(DECISIONS, mapping=dict.fromkeys(fields, '[{"number": 1}, []]'))
                client.set(VERSION, secrets.token_hex(16))
            with suppress(CopyError):
                await fleet.exchange()
        assert len(register.state.flags[tenant.issuer, "k"].thumbprints) <= MAX_ENTRIES_PER_KEY
        assert "entries" in str(fleet.error)


def test_made_up_processes_do_not_pile_up_beyond_the_limit_of_all_keys() -> None:
    def made_up(kid: int) -> Flags:
        made = {f"{number:032x}": Decision(1) for number in range(MAX_ENTRIES_PER_KEY)}
        return {("https://issuer.test/", f"k{kid}"): Distrust(made=made)}

    state = State()
    most = MAX_ENTRIES // MAX_ENTRIES_PER_KEY
    for kid in range(most):
        before, state = state, state.merged(made_up(kid))
        require_few(before, state)
    with pytest.raises(OSError, match=f"more than {MAX_ENTRIES} entries"):
        require_few(state, state.merged(made_up(most)))
    require_few(state, state.merged(state.flags))  # what is known already adds nothing
