"""The kids that the shell offers where a command takes one: those of the fleet and of the tenant.

Nothing here raises, asks or writes to the terminal, and the shell is not kept for longer than
about a second. What was heard until then is offered.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import threading
from collections.abc import Callable, Collection, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import typer

from jwks_guard.admin import SigningKeysClient
from jwks_guard.cli.configuration import Configuration, configured, configured_fleet
from jwks_guard.cli.words import counted
from jwks_guard.fleet.commands import live
from jwks_guard.fleet.settings import ConfiguredFleet

LONGEST_SECONDS = 1.0
"""What was heard by then is offered."""
CALL_SECONDS = 0.4
"""For each call to an instance, so that one that hangs does not hide what the others say."""
_CLOSING_SECONDS = 0.1
_ANY_KID = "-"  # states do not depend on the kid
_STATES = {"current": "current", "next": "next", "previous": "previously used"}
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+/=-]*")
"""bash expands `*` in what is offered, zsh evaluates it and the help beside it: a kid with other
characters is left out. One that begins with a dash would be an option."""
_T = TypeVar("_T")
Offers = list[tuple[str, str]]
"""What to type, and what that is."""


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a key: its state at the tenant, and how many instances trust or refuse it.

    `state` is empty for a key that the tenant does not list, or was not asked about.
    """

    state: str = ""
    trusted_by: int = 0
    refused_by: int = 0
    distrusted: bool = False

    @property
    def refused(self) -> bool:
        """Whether it is distrusted, or an instance refuses it."""
        return self.distrusted or self.refused_by > 0

    def __str__(self) -> str:
        parts = [self.state] if self.state else []
        if self.trusted_by:
            parts.append(f"trusted by {counted(self.trusted_by, 'instance')}")
        if self.refused_by:
            parts.append(f"refused by {counted(self.refused_by, 'instance')}")
        elif self.distrusted:
            parts.append("distrusted")
        return ", ".join(parts) or "in the fleet"


def offering(
    wanted: Callable[[Known], bool], words: Collection[str] = ()
) -> Callable[[typer.Context, str], Offers]:
    """A completion of the keys that are `wanted`, and of those `words` for a tenant's keys."""

    def offered(ctx: typer.Context, incomplete: str) -> Offers:
        logging.disable()  # without a handler, warnings would go to the terminal
        known: dict[str, Known] = {}
        with suppress(Exception, KeyboardInterrupt), asyncio.Runner() as runner:
            runner.get_loop().set_default_executor(_Unwaited())
            runner.run(_look(known, ctx.params))
        plain = {kid: each for kid, each in known.items() if _PLAIN.fullmatch(kid)}
        named = [
            (word, f"{kid}, {_STATES[word]}")
            for word in words
            for kid, each in plain.items()
            if each.state == _STATES[word]
        ]
        kids = [(kid, str(each)) for kid, each in plain.items() if wanted(each)]
        return [each for each in dict([*named, *kids]).items() if each[0].startswith(incomplete)]

    return offered


any_key = offering(lambda key: True, _STATES)
trusted = offering(lambda key: key.state != "revoked" and not key.refused, _STATES)
refused = offering(lambda key: key.refused)
previously_used = offering(lambda key: key.state == "previously used", ["previous"])
can_have_leaked = offering(lambda key: key.state in ("current", "previously used"), ["current"])
in_fleet = offering(lambda key: key.trusted_by > 0 or key.refused)


class _Unwaited(ThreadPoolExecutor):
    """Threads that the interpreter does not wait for at its end: a name is looked up in one."""

    def submit(self, fn: Callable[..., _T], /, *args: Any, **kwargs: Any) -> Future[_T]:
        done: Future[_T] = Future()

        def run() -> None:
            try:
                result = fn(*args, **kwargs)
            except Exception as error:  # noqa: BLE001 - raised where it is waited for
                done.set_exception(error)
            else:
                done.set_result(result)

        threading.Thread(target=run, daemon=True).start()
        return done


async def _look(known: dict[str, Known], params: dict[str, Any]) -> None:
    """Put into `known` what the tenant and the fleet say in time."""
    options = {name: params.get(name) for name in ("domain", "client_id")}
    config = Path(params["config"]) if params.get("config") else None
    looks: list[Coroutine[Any, Any, None]] = []
    with suppress(Exception):  # not configured
        fleet = configured_fleet(
            {"domain": options["domain"]}, os.environ, config, timeout=CALL_SECONDS
        )
        looks.append(_look_at_fleet(known, fleet))
    with suppress(Exception):
        looks.append(_look_at_tenant(known, configured(options, os.environ, config, None)))
    async with asyncio.timeout(LONGEST_SECONDS):
        await asyncio.gather(*looks, return_exceptions=True)


async def _look_at_tenant(known: dict[str, Known], configuration: Configuration) -> None:
    client = SigningKeysClient(configuration.domain, auth=configuration.auth, retries=0)
    try:
        for key in await client.list():
            known[key.kid] = replace(known.get(key.kid, Known()), state=key.state)
    finally:
        await _closed(client.aclose())


async def _look_at_fleet(known: dict[str, Known], fleet: ConfiguredFleet) -> None:
    try:
        states = (await fleet.observe(_ANY_KID)).states
        for state in live(states, fleet.clock.time()):
            for kid in {*state.kids, *state.refused}:
                key = known.get(kid, Known())
                if kid in state.refused:
                    known[kid] = replace(key, refused_by=key.refused_by + 1)
                else:
                    known[kid] = replace(key, trusted_by=key.trusted_by + 1)
        for kid in await fleet.distrusted():
            known[kid] = replace(known.get(kid, Known()), distrusted=True)
    finally:
        await _closed(fleet.aclose())


async def _closed(closing: Coroutine[Any, Any, None]) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(_CLOSING_SECONDS):
            await closing
