"""What a parent that uses a fleet and its forked child hear of each other, as one JSON object.

The first argument is the URL of a Redis.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

from redis import Redis

from jwks_guard import SyncTokenVerifier, TokenVerifier
from jwks_guard.distrust import register as registers
from jwks_guard.fleet import RedisFleet
from jwks_guard.testing import LocalTenant
from tests.process.apps.forking import Child, outcome, outcome_async
from tests.support import PATIENCE


def heard(verifier: SyncTokenVerifier, kid: str) -> bool:
    given_up = time.monotonic() + PATIENCE
    while kid not in verifier.distrusted:
        if time.monotonic() > given_up:
            return False
        time.sleep(0.01)
    return verifier.health().status == "ok"


def shown(url: str) -> str:
    """The instance that this process is, once Redis shows it."""
    own = registers.process_register.instance
    given_up = time.monotonic() + PATIENCE
    with Redis.from_url(url) as redis:
        while not redis.keys(f"{{jwks-guard}}:state:{own}:*"):
            if time.monotonic() > given_up:
                return "not shown"
            time.sleep(0.01)
    return own


def running(tenant: LocalTenant, url: str) -> dict[str, Any]:
    """The portal of the parent watches when it forks, and goes on."""
    verifier = SyncTokenVerifier(
        tenant.issuer, tenant.audience, fleet=RedisFleet(url, poll_interval=0.2)
    )
    verifier.verify(tenant.token())

    def use() -> list[Any]:
        first = outcome(verifier.verify, tenant.token(key="previous"))
        verifier.distrust(tenant.key("previous").kid, reason="leaked")
        return [first, heard(verifier, "told by the parent"), shown(url)]

    child = Child(use)
    heard_of_it = heard(verifier, tenant.key("previous").kid)
    verifier.distrust("told by the parent", reason="leaked")
    report = child.report()
    verifier.distrust("and after the child's end", reason="leaked")
    return {
        "child": report[:2],
        "parent": heard_of_it,
        "names": len({report[2], shown(url), "not shown"}) - 1,
        "after": verifier.health().status,
    }


def constructed(tenant: LocalTenant, url: str) -> dict[str, Any]:
    """As gunicorn does with --preload: used in a loop that has ended, then forked."""
    verifier = TokenVerifier(tenant.issuer, tenant.audience, fleet=RedisFleet(url))

    async def use() -> list[str]:
        said = await asyncio.gather(
            *(outcome_async(verifier, tenant.token(key="previous")) for _ in range(3))
        )
        return [*said, verifier.health().status]

    async def distrust() -> None:
        async with RedisFleet(url, issuer=tenant.issuer) as fleet:
            await fleet.distrust(tenant.key("previous").kid, reason="leaked", force=True)

    before = asyncio.run(use())
    asyncio.run(distrust())
    return {"before": before, "child": Child(lambda: asyncio.run(use())).report()}


if __name__ == "__main__":
    with LocalTenant() as local:
        local.rotate()
        scenarios = {each.__name__: each(local, sys.argv[1]) for each in (constructed, running)}
        sys.stdout.write(json.dumps(scenarios))
