"""Instances of a fleet over Redis, on one event loop of one process of `benchmarks.scale.fleet`.

Each instance has a register, a fleet and a verifier of its own, as one process has. It has accepted
tokens of one key, and is told of other keys that are about to be distrusted:

    {"key": K, "watch": true}      each instance is to note when it trusts key K no more
    {"key": K, "watch": false, "decide": bool}
                                   the first instance distrusts the key, if it is to decide; says
                                   when that began, and when each instance trusted it no more
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from contextlib import AsyncExitStack, suppress
from typing import Any

from benchmarks.scale.verifiers import document, published, stubs, verifier_of
from benchmarks.stubbed import kid_of, token
from jwks_guard import RevokedKeyError
from jwks_guard.distrust.register import Register
from jwks_guard.fleet import RedisFleet

REFUSED_WITHIN = 20.0  # s
logging.getLogger("jwks_guard").setLevel(logging.ERROR)  # each decision is a warning


class Instance:
    """One instance; `refused_at` is when it stopped to trust the key that it watches."""

    def __init__(self, redis: str, keys: int) -> None:
        fleet = RedisFleet(redis, require_fleet=True)
        self.verifier = verifier_of(document(keys), register=Register(), fleet=fleet)
        published(self.verifier, stubs(keys))
        self.refused_at = 0.0
        self._refused = asyncio.Event()
        self._watched: str | None = None
        self.verifier.subscribe(self._look)

    def watch(self, kid: str) -> None:
        """Note when `kid`, which is trusted, is not any more."""
        if kid not in self.verifier.keys.kids:
            raise RuntimeError(f"{kid} is not trusted before it is distrusted")
        self._watched = kid
        self._refused.clear()

    def _look(self) -> None:
        if self._watched is not None and self._watched not in self.verifier.keys.kids:
            self.refused_at = time.monotonic()
            self._watched = None
            self._refused.set()

    async def refused(self, compact: str) -> float:
        """When it stopped to trust the key; raises RuntimeError if it accepts its token then."""
        async with asyncio.timeout(REFUSED_WITHIN):
            await self._refused.wait()
        with suppress(RevokedKeyError):
            await self.verifier.verify(compact)
            raise RuntimeError("a token of a distrusted key was accepted")
        return self.refused_at


async def _decided(instances: list[Instance], key: int, *, decide: bool) -> dict[str, Any]:
    began = time.monotonic()
    if decide:
        await instances[0].verifier.distrust(kid_of(key), reason="revoked by the benchmark")
    compact = token(0, key=key)
    return {"began": began, "refused": [await each.refused(compact) for each in instances]}


async def main(redis: str, count: int, keys: int) -> None:
    loop = asyncio.get_running_loop()
    instances = [Instance(redis, keys) for _ in range(count)]
    async with AsyncExitStack() as stack:
        for each in instances:
            await stack.enter_async_context(each.verifier)
            await each.verifier.verify(token(0))
        print(json.dumps({"instances": len(instances)}), flush=True)
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            command = json.loads(line)
            if command["watch"]:
                for each in instances:
                    each.watch(kid_of(command["key"]))
                print(json.dumps({"watching": command["key"]}), flush=True)
                continue
            said = await _decided(instances, command["key"], decide=command["decide"])
            print(json.dumps(said), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
