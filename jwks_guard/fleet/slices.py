"""Thousands of decisions, compared and merged in slices: the event loop runs others in between."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from typing import TypeVar

from jwks_guard.distrust.register import Register
from jwks_guard.distrust.state import Distrust, Flags, Name, beyond
from jwks_guard.fleet.soundness import require_few, sound

SLICE = 50
"""So many decisions are decoded and merged in 2 ms, beside 5,000 that are known."""
_T = TypeVar("_T")


def slices(items: Iterable[_T]) -> Iterator[list[_T]]:
    """The items in lists that are short enough to be worked through at once."""
    rest = iter(items)
    while part := list(islice(rest, SLICE)):
        yield part


async def lacking(ours: Flags, held: Flags, issuers: Collection[str]) -> dict[Name, Distrust]:
    """What `held` lacks of `ours` about keys of `issuers`, as far as others take that."""
    found: dict[Name, Distrust] = {}
    for part in slices(ours.items()):
        for name, missing in beyond(dict(part), held, issuers).items():
            if (taken := sound(name, missing)) is not None:
                found[name] = taken
        await asyncio.sleep(0)
    return found


async def merge(register: Register, theirs: Flags, issuers: Collection[str]) -> None:
    """Merge what is new to `register` about keys of `issuers`; in effect when this returns.

    Raises TooManyError, and then nothing was merged.
    """
    before = after = register.state
    news = await lacking(theirs, before.flags, issuers)
    for part in slices(news.items()):
        after = after.merged(dict(part))
        await asyncio.sleep(0)
    require_few(before, after)
    for part in slices(news.items()):
        register.merge(dict(part))
        await asyncio.sleep(0)
