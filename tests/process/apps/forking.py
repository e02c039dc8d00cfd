"""What a forked child can do with a verifier that its parent used; a program of its own.

Python warns of a fork in a process with threads, and a child that hangs must not hang the tests.
It prints one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import select
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

from jwks_guard import JWKSGuardError, SyncTokenVerifier, TokenVerifier
from jwks_guard.base.portal import process_portal
from jwks_guard.fleet import HTTPFleet
from jwks_guard.testing import LocalTenant
from tests.observability.spans import OUTCOME, Telemetry, about, id_of, parent_of
from tests.process.stepping import at_every_place
from tests.support import PATIENCE


class Child:
    """A forked process that does `work`, tells what that returned, and is gone."""

    def __init__(self, work: Callable[[], object]) -> None:
        self._ear, mouth = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            _do(work, mouth)
        os.close(mouth)

    def report(self) -> Any:
        """What `work` returned, or the traceback of what it raised, or "stuck"."""
        ready, _, _ = select.select([self._ear], [], [], PATIENCE)
        if not ready:
            os.kill(self._pid, signal.SIGKILL)
        with os.fdopen(self._ear) as ear:
            said = ear.read()
        os.waitpid(self._pid, 0)
        return json.loads(said) if said else "stuck"


def _do(work: Callable[[], object], mouth: int) -> None:
    try:
        result = work()
    except BaseException:  # noqa: BLE001 - the parent is told; nothing else may run in this process
        result = traceback.format_exc()
    os.write(mouth, json.dumps(result).encode())
    os._exit(0)


def outcome(verify: Callable[[str], object], token: str) -> str:
    """ "accepted", or the code of the refusal."""
    try:
        verify(token)
    except JWKSGuardError as error:
        return error.code
    return "accepted"


async def outcome_async(verifier: TokenVerifier, token: str) -> str:
    try:
        await verifier.verify(token)
    except JWKSGuardError as error:
        return error.code
    return "accepted"


def after_asyncio(tenant: LocalTenant) -> dict[str, Any]:
    """The parent used the verifier in an event loop that has ended."""
    clients: list[int] = []

    def client() -> httpx.AsyncClient:
        clients.append(os.getpid())
        return httpx.AsyncClient()

    verifier = TokenVerifier(
        tenant.issuer, tenant.audience, refresh_interval=0.5, http_client=client
    )
    old, doomed = tenant.key().kid, tenant.token()
    tenant.rotate()
    known = tenant.token()

    async def use() -> list[str]:
        return [await outcome_async(verifier, token) for token in (doomed, known)]

    async def use_and_distrust() -> list[str]:
        before = await use()
        await verifier.distrust(old, reason="leaked")
        return before

    async def use_in_child() -> dict[str, Any]:
        refreshed = asyncio.Event()
        verifier.subscribe(refreshed.set)
        report = {"known": await use(), "new": await outcome_async(verifier, new)}
        refreshed.clear()
        await asyncio.wait_for(refreshed.wait(), PATIENCE)
        return report | {"own client": os.getpid() in clients}

    before = asyncio.run(use_and_distrust())
    tenant.rotate()
    tenant.rotate()
    new = tenant.token()
    child = Child(lambda: asyncio.run(use_in_child()))
    return {"before": before, "child": child.report(), "after": asyncio.run(use())}


def after_threads(tenant: LocalTenant) -> dict[str, Any]:
    """The portal of the parent runs and refreshes when it forks."""
    verifier = SyncTokenVerifier(tenant.issuer, tenant.audience)
    old, doomed = tenant.key().kid, tenant.token()
    tenant.rotate()
    known = tenant.token()

    def use() -> list[str]:
        return [outcome(verifier.verify, token) for token in (doomed, known)]

    before = use()
    verifier.distrust(old, reason="leaked")
    tenant.rotate()
    tenant.rotate()
    new = tenant.token()
    tenant.requests.clear()
    child = Child(lambda: {"known": use(), "new": outcome(verifier.verify, new)})
    told = child.report()
    return {"before": before, "child": told, "fetches": tenant.requests.count(), "after": use()}


def during_a_fetch(tenant: LocalTenant) -> dict[str, Any]:
    """The portal of the parent waits for the tenant's answer when it forks."""
    verifier = SyncTokenVerifier(tenant.issuer, tenant.audience)
    verifier.verify(tenant.token())
    tenant.rotate()
    tenant.rotate()
    new = tenant.token()
    hold = tenant.faults.hold(times=1)
    with ThreadPoolExecutor(1) as threads:
        fetching = threads.submit(outcome, verifier.verify, new)
        hold.arrived.wait_blocking(PATIENCE)
        child = Child(lambda: outcome(verifier.verify, new)).report()
        hold.release()
        return {"child": child, "parent": fetching.result(PATIENCE)}


def at_any_moment(tenant: LocalTenant) -> dict[str, Any]:
    """Another thread of the parent is at any line of the library when it forks.

    Each try takes tens of milliseconds, so a run tries every third line, by chance: any other time
    it is others. Where CI is set it is always the same ones.
    """
    chance = random.Random(0 if "CI" in os.environ else None)
    with tempfile.TemporaryDirectory() as directory:
        verifier = SyncTokenVerifier(
            tenant.issuer,
            tenant.audience,
            algorithms=["ES256"],
            snapshot_path=Path(directory, "keys.json"),
        )
        looping = TokenVerifier(tenant.issuer, tenant.audience, algorithms=["ES256"])
        # The child decides about another key: they share a journal, so the parent, which goes on,
        # would lift what the child decided.
        childs = tenant.key().kid
        tenant.rotate()
        parents = tenant.key().kid
        tenant.rotate()
        verifier.start()

        def verify(key: str = "current") -> str:
            return outcome(verifier.verify, tenant.token(key=key, sub=os.urandom(8).hex()))

        def distrust_and_reinstate(kid: str = parents) -> list[str]:
            verifier.distrust(kid, reason="rehearsal")
            refused = verify(kid)
            verifier.reinstate(kid, reason="rehearsal")
            return [refused, verify(kid)]

        def start_portal() -> None:
            process_portal.stop()
            verify()

        def run_loop() -> str:
            return asyncio.run(outcome_async(looping, tenant.token(sub=os.urandom(8).hex())))

        def use() -> list[str]:
            trust = verifier.keys.trust  # what the parent was in the middle of is done
            assert trust.view.distrusted == trust.refused_since.keys() == trust.distrusted.keys()
            bogus = outcome(verifier.verify, tenant.token(kid="bogus"))
            return [verify(), *distrust_and_reinstate(childs), bogus, run_loop()]

        run_loop()
        reports = {}
        passed: set[str] = set()
        for work in (verify, distrust_and_reinstate, start_portal, run_loop):
            for thread in at_every_place(work, passed, skipped=lambda: chance.randrange(5)):
                child = Child(use)
                thread.go_on()
                reports[thread.where] = said = child.report()
                if said == "stuck":
                    return reports
        return reports


def while_traced(tenant: LocalTenant) -> dict[str, Any]:
    """What the spans of the child say, whose parent used the same verifier and observer."""
    telemetry = Telemetry()
    verifier = SyncTokenVerifier(
        tenant.issuer, tenant.audience, algorithms=["RS256"], observer=telemetry.observer
    )
    verifier.verify(tenant.token())
    tenant.rotate()
    tenant.rotate()

    def use() -> dict[str, Any]:
        before = len(telemetry.spans())
        with telemetry.request() as request:
            verifier.verify(tenant.token())
        spans = telemetry.spans()[before:]
        children = [span.name for span in spans if parent_of(span) == id_of(request)]
        return {"children": children, "outcome": about(spans[-1])[OUTCOME]}

    return {"child": Child(use).report(), "parent": use()}


def after_exchanges(tenant: LocalTenant) -> dict[str, Any]:
    """How many exchanges parent and child have made with a fleet whose other instance is away."""
    fleet = HTTPFleet(["http://127.0.0.1:9/ops"], secret="s" * 16)
    verifier = TokenVerifier(tenant.issuer, tenant.audience, fleet=fleet)
    asyncio.run(outcome_async(verifier, tenant.token()))
    child = Child(lambda: [*fleet.exchange_counts.values(), sum(fleet.exchange_durations.counts)])
    parent = fleet.exchange_counts["failed"]
    return {"child": child.report(), "parent": parent == sum(fleet.exchange_durations.counts) > 0}


SCENARIOS = {
    each.__name__: each
    for each in (
        after_asyncio,
        after_threads,
        during_a_fetch,
        at_any_moment,
        while_traced,
        after_exchanges,
    )
}

if __name__ == "__main__":
    with LocalTenant(algorithm="ES256" if sys.argv[1] == "at_any_moment" else "RS256") as local:
        sys.stdout.write(json.dumps(SCENARIOS[sys.argv[1]](local)))
