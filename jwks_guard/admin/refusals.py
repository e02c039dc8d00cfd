"""What verifiers and fleets hold, and how each of them comes to refuse a key."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import cast

from jwks_guard.admin.attempts import Attempts
from jwks_guard.admin.journal import Intent, Journal, Result
from jwks_guard.admin.revocable import InstancesKeys, Revocable
from jwks_guard.errors import DistrustNotSharedError, JWKSGuardError, RevocationRefusedError
from jwks_guard.readiness.state import InstanceState, Observed, Refusal, combined
from jwks_guard.readiness.usage import Reach

LONGEST_SECONDS = 10.0
"""The time that one of them has to distrust a key."""


async def without_key(fleet: Sequence[Revocable], kid: str, attempts: Attempts) -> tuple[str, ...]:
    """The names of those in `fleet` that do not trust `kid`, even after a refresh.

    Of a fleet these are its instances, for as long as there are `attempts`: an instance that has
    just fetched its keys does so again only after a pause, and shows it after another one. Raises
    DistrustNotSharedError where one can't be asked.
    """
    without: list[str] = []
    async for _ in attempts:
        without.clear()
        for name, each in _named(fleet):
            if not await _trusts(each, kid):
                without += _without(name, each, kid)
        if not any(isinstance(m.keys, InstancesKeys) and m.keys.without(kid) for m in fleet):
            break
    return tuple(without)


def _without(name: str, member: Revocable, kid: str) -> Sequence[str]:
    if not isinstance(member.keys, InstancesKeys):
        return [name]
    return member.keys.without(kid) or [f"{name}, of which no instance reports"]


async def observe_all(fleet: Sequence[Revocable], kid: str) -> tuple[Observed, int]:
    """What all instances of `fleet` show of `kid`, and how many members show no instance.

    Verifiers of one process are one instance: their states are combined.
    """
    shown = await asyncio.gather(*(each.observe(kid) for each in fleet))
    everyone = sorted((s for one in shown for s in one.states), key=_identity)
    states = tuple(combined(list(same)) for _, same in groupby(everyone, key=_identity))
    reach = Reach()
    for one in shown:
        reach = reach.joined(Reach(one.latest_expiry or 0.0, one.longest_lifetime or 0.0))
    missing = sum(not one.states for one in shown)
    return Observed(states, reach.expiry or None, reach.lifetime or None), missing


def _identity(state: InstanceState) -> tuple[str, str, str]:
    # By host too: instances that never reported have no id.
    return state.issuer, state.instance, state.host


async def distrust_everywhere(
    fleet: Sequence[Revocable],
    intent: Intent,
    journal: Journal,
    *,
    repeat: bool = True,
    force: bool = True,
) -> tuple[Refusal, ...]:
    """Call `distrust` for the key of `intent` on all of `fleet` at once, and note each result.

    A member that fails, or takes longer than 10 s, does not delay the others. Without `repeat`, one
    that distrusts the key already is left alone, and not in the result. Without `force`, raises the
    RevocationRefusedError of a member that trusts no other key, after all were called.
    """
    calls = [_distrust(each, name, intent, journal, repeat, force) for name, each in _named(fleet)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    refusals = [each for some in results if not isinstance(some, BaseException) for each in some]
    for failure in results:
        if isinstance(failure, BaseException):
            for each in refusals:
                failure.add_note(f"It is refused already by: {each.who}.")
            raise failure
    return tuple(refusals)


async def _distrust(
    member: Revocable, name: str, intent: Intent, journal: Journal, repeat: bool, force: bool
) -> Sequence[Refusal]:
    try:
        async with asyncio.timeout(LONGEST_SECONDS):
            if not repeat and await _distrusts(member, intent.kid):
                return []
            # Forced where the key is not current: a verifier that holds no other is out of date.
            shown = await member.distrust(
                intent.kid, reason=intent.reason, force=force, actor=intent.actor
            )
    except DistrustNotSharedError as error:
        if not error.here:
            return await _failed(name, str(error), intent, journal)
        await journal.tell(intent, "refused_by", "warning", f"{name}: {error}")
        return [Refusal(name, journal.now(), str(error))]
    except TimeoutError:
        return await _failed(name, f"it took longer than {LONGEST_SECONDS:g} s", intent, journal)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        return await _failed(name, "it was cancelled", intent, journal)
    except Exception as error:  # no error of one member may stop the others
        if isinstance(error, RevocationRefusedError) and not force:
            raise
        return await _failed(name, f"{type(error).__name__}: {error}", intent, journal)
    refusals = [Refusal(name, journal.now())] if shown is None else shown
    for each in refusals:
        step, result = ("refused_by", "ok") if each.error is None else ("not_told", "failed")
        await journal.tell(intent, step, cast("Result", result), _line(each))
    return refusals


def _line(refusal: Refusal) -> str:
    return refusal.who if refusal.error is None else f"{refusal.who}: {refusal.error}"


async def _failed(name: str, why: str, intent: Intent, journal: Journal) -> Sequence[Refusal]:
    await journal.tell(intent, "not_told", "failed", f"{name}: {why}")
    return [Refusal(name, None, why)]


async def _distrusts(member: Revocable, kid: str) -> bool:
    try:
        return await member.is_distrusted(kid)
    except JWKSGuardError:  # then it is made again, which says what is wrong
        return False


async def _trusts(member: Revocable, kid: str) -> bool:
    # What a fleet shows is of its last look: an instance may have started since.
    if kid in member.keys.kids and not isinstance(member.keys, InstancesKeys):
        return True
    try:
        await member.keys.refresh()
    except DistrustNotSharedError:  # a fleet that can't be asked
        raise
    except JWKSGuardError:  # the issuer does not answer, or the verifier runs on another loop
        return False
    return kid in member.keys.kids


def _named(fleet: Sequence[Revocable]) -> Iterator[tuple[str, Revocable]]:
    """Each member with its name, with its number if there are several members."""
    for number, each in enumerate(fleet, 1):
        of = "the fleet of " if isinstance(each.keys, InstancesKeys) else ""
        name = f"{of}{each.issuer}"
        yield (name if len(fleet) == 1 else f"{name} #{number}"), each
