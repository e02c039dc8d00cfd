"""Whoever refuses tokens is asked what it holds, and told what to refuse."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import cast

from jwks_guard.admin.journal import Intent, Journal, Result
from jwks_guard.admin.revocable import Revocable
from jwks_guard.errors import DistrustNotSharedError, JWKSGuardError
from jwks_guard.keys.instance import combined
from jwks_guard.readiness.state import InstanceState, Observed, Refusal
from jwks_guard.readiness.usage import Reach

LONGEST_SECONDS = 10.0


async def lacking(fleet: Sequence[Revocable], kid: str) -> tuple[str, ...]:
    """Who of `fleet` does not trust `kid`, not even after it asked the issuer once more."""
    return tuple([who for who, each in _named(fleet) if not await _holds(each, kid)])


async def observed(fleet: Sequence[Revocable], kid: str) -> tuple[Observed, int]:
    """What all instances of `fleet` show of `kid`, and how many of it show none.

    Verifiers of one process are one instance, of which each shows what it did itself.
    """
    shown = await asyncio.gather(*(each.observe(kid) for each in fleet))
    everyone = sorted((s for one in shown for s in one.states), key=_whose)
    states = tuple(combined(list(same)) for _, same in groupby(everyone, key=_whose))
    reach = Reach()
    for one in shown:
        reach = reach.joined(Reach(one.latest_expiry or 0.0, one.longest_lifetime or 0.0))
    missing = sum(not one.states for one in shown)
    return Observed(states, reach.expiry or None, reach.lifetime or None), missing


def _whose(state: InstanceState) -> tuple[str, str, str]:
    return state.issuer, state.instance, state.host  # those never heard of have no id of their own


async def told(fleet: Sequence[Revocable], intent: Intent, journal: Journal) -> tuple[Refusal, ...]:
    """Have each of `fleet` refuse the key of `intent`, all at once.

    One that fails, or takes longer than 10 s, keeps no other from it.
    """
    tellings = (_told(each, who, intent, journal) for who, each in _named(fleet))
    return tuple(refusal for some in await asyncio.gather(*tellings) for refusal in some)


async def _told(
    revocable: Revocable, who: str, intent: Intent, journal: Journal
) -> Sequence[Refusal]:
    try:
        async with asyncio.timeout(LONGEST_SECONDS):
            # It is not the current key: forced, as refusing it is right for whoever holds no other.
            told = await revocable.distrust(intent.kid, reason=intent.reason, force=True)
    except DistrustNotSharedError as error:
        if not error.here:
            return await _not_told(who, str(error), intent, journal)
        await journal.tell(intent, "refused_by", "warning", f"{who}: {error}")
        return [Refusal(who, journal.now(), str(error))]
    except TimeoutError:
        return await _not_told(who, f"it took longer than {LONGEST_SECONDS:g} s", intent, journal)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        return await _not_told(who, "it was cancelled", intent, journal)
    except Exception as error:  # noqa: BLE001 - whatever it is, the others must be told
        return await _not_told(who, f"{type(error).__name__}: {error}", intent, journal)
    refusals = [Refusal(who, journal.now())] if told is None else told
    for each in refusals:
        step, result = ("refused_by", "ok") if each.error is None else ("not_told", "failed")
        await journal.tell(intent, step, cast("Result", result), _line(each))
    return refusals


def _line(refusal: Refusal) -> str:
    return refusal.who if refusal.error is None else f"{refusal.who}: {refusal.error}"


async def _not_told(who: str, why: str, intent: Intent, journal: Journal) -> Sequence[Refusal]:
    await journal.tell(intent, "not_told", "failed", f"{who}: {why}")
    return [Refusal(who, None, why)]


async def _holds(revocable: Revocable, kid: str) -> bool:
    if kid in revocable.keys.kids:
        return True
    try:
        await revocable.keys.refresh()
    except JWKSGuardError:  # no answer of the issuer, or a verifier of another event loop
        return False
    return kid in revocable.keys.kids


def _named(fleet: Sequence[Revocable]) -> Iterator[tuple[str, Revocable]]:
    """Each one with its issuer and, where there are several, its place among them."""
    for number, each in enumerate(fleet, 1):
        yield (each.issuer if len(fleet) == 1 else f"{each.issuer} #{number}"), each
