"""Whoever refuses tokens is asked what it holds, and told what to refuse."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from jwks_guard.admin.journal import Intent, Journal
from jwks_guard.admin.receipts import Refusal
from jwks_guard.errors import DistrustNotSharedError, KeysUnavailableError
from jwks_guard.readiness import Revocable


async def lacking(fleet: Sequence[Revocable], kid: str) -> tuple[str, ...]:
    """Who of `fleet` does not trust `kid`, not even after it asked the issuer once more."""
    return tuple([who for who, each in _named(fleet) if not await _holds(each, kid)])


async def told(fleet: Sequence[Revocable], intent: Intent, journal: Journal) -> tuple[Refusal, ...]:
    """Have each of `fleet` refuse the key of `intent`; one that fails keeps no other from it."""
    return tuple([await _told(each, who, intent, journal) for who, each in _named(fleet)])


async def _told(revocable: Revocable, who: str, intent: Intent, journal: Journal) -> Refusal:
    try:
        # It is not the current key: forced, as refusing it is right for whoever holds no other.
        await revocable.distrust(intent.kid, reason=intent.reason, force=True)
    except DistrustNotSharedError as error:
        refusal = Refusal(who, journal.now(), str(error))
        await journal.tell(intent, "refused_by", "warning", f"{who}: {error}")
    except Exception as error:  # noqa: BLE001 - whatever it is, the others must be told
        refusal = Refusal(who, None, f"{type(error).__name__}: {error}")
        await journal.tell(intent, "not_told", "failed", f"{who}: {refusal.error}")
    else:
        refusal = Refusal(who, journal.now())
        await journal.tell(intent, "refused_by", detail=who)
    return refusal


async def _holds(revocable: Revocable, kid: str) -> bool:
    if kid in revocable.keys.kids:
        return True
    try:
        await revocable.keys.refresh()
    except KeysUnavailableError:
        return False
    return kid in revocable.keys.kids


def _named(fleet: Sequence[Revocable]) -> Iterator[tuple[str, Revocable]]:
    """Each one with its issuer and, where there are several, its place among them."""
    for number, each in enumerate(fleet, 1):
        yield (each.issuer if len(fleet) == 1 else f"{each.issuer} #{number}"), each
