"""A program that works on a tenant's keys and is killed in the middle of it, wherever one likes.

Each line of its input is a JSON object: `operation` with its `kid`, the place `at` which to die, by
its number or its name, and where the tenant is. A forked child does it; it answers with the name of
the place where it kills itself, with null at its end, or with FAILED.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx

from jwks_guard.admin import ClientCredentials, KeyRotation, SigningKeysClient
from tests.admin.rotating import FakeRevocable
from tests.support import PATIENCE

FAILED = "it failed or hung"
OPERATIONS: dict[str, Callable[[KeyRotation, str], Awaitable[object]]] = {
    "rotate": lambda rotation, _: rotation.rotate(),
    "revoke": lambda rotation, kid: rotation.revoke(kid, reason="retired", force=True),
    "revoke in an emergency": lambda rotation, kid: rotation.revoke(kid, emergency=True),
    "rotate and revoke": lambda rotation, _: rotation.rotate_and_revoke(),
    "reinstate": lambda rotation, kid: rotation.reinstate(kid, reason="a false alarm"),
    "resume": lambda rotation, _: rotation.resume(),
}


class Places:
    """Counts the places that are passed, and is the end at one of them."""

    def __init__(self, at: int | str) -> None:
        self._at = at
        self._passed = 0

    def reached(self, name: str) -> None:
        if self._at in (self._passed, name):
            say(name)
            os.kill(os.getpid(), signal.SIGKILL)
        self._passed += 1


class DyingRevocable(FakeRevocable):
    def __init__(self, places: Places, kids: list[str]) -> None:
        super().__init__(kids)
        self._places = places

    async def distrust(
        self, kid: str, *, reason: str, force: bool = False, actor: str | None = None
    ) -> None:
        self._places.reached("before telling")
        await super().distrust(kid, reason=reason, force=force)
        self._places.reached("after telling")

    async def reinstate(self, kid: str, *, reason: str, actor: str | None = None) -> None:
        self._places.reached("before lifting")


def hooks(places: Places) -> dict[str, list[Callable[..., Any]]]:
    def name_of(request: httpx.Request) -> str:
        return f"{request.method} {Path(request.url.path).name}"

    async def sending(request: httpx.Request) -> None:
        places.reached(f"before {name_of(request)}")

    async def answered(response: httpx.Response) -> None:
        places.reached(f"after {name_of(response.request)}")

    return {"request": [sending], "response": [answered]}


async def carry_out(order: dict[str, Any]) -> None:
    places = Places(order["at"])
    auth = ClientCredentials(order["client_id"], order["client_secret"])
    async with httpx.AsyncClient(event_hooks=hooks(places), verify=False) as http:
        rotation = KeyRotation(
            SigningKeysClient(order["issuer"], auth=auth, http_client=http),
            DyingRevocable(places, order["kids"]),
            journal_path=order["journal"],
            on_event=lambda event: places.reached(f"at {event.step}"),
        )
        await OPERATIONS[order["operation"]](rotation, order["kid"])


def say(word: str | None) -> None:
    sys.stdout.write(json.dumps(word) + "\n")
    sys.stdout.flush()


async def import_everything() -> None:
    """Send something to nobody, so that no child has to import what sends it."""
    async with httpx.AsyncClient(verify=False) as http:
        with suppress(httpx.ConnectError):
            await http.get("http://127.0.0.1:1/")


def main() -> None:
    logging.disable()
    asyncio.run(import_everything())
    for line in sys.stdin:
        if (child := os.fork()) == 0:
            signal.alarm(int(PATIENCE))
            asyncio.run(carry_out(json.loads(line)))
            say(None)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.waitstatus_to_exitcode(status) not in (0, -signal.SIGKILL):
            say(FAILED)


if __name__ == "__main__":
    main()
