"""Thousands of decisions, compared and merged in slices: the event loop runs others in between."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from typing import TypeVar

from jwks_guard.distrust.register import Register
from jwks_guard.distrust.state import Distrust, Flags, Name
from jwks_guard.fleet.soundness import (
    added_entries,
    require_few_entries,
    require_few_keys,
    sound,
)

SLICE = 50
"""So many decisions are decoded and merged in 2 ms, beside 5,000 that are known."""
_T = TypeVar("_T")


def slices(items: Iterable[_T]) -> Iterator[list[_T]]:
    """The items in lists that are short enough to be worked through at once."""
    rest = iter(items)
    while part := list(islice(rest, SLICE)):
        yield part


async def lacking(
    ours: Flags, held: dict[Name, Distrust], issuers: Collection[str]
) -> dict[Name, Distrust]:
    """What `held` lacks of `ours` about keys of `issuers`, as far as others take that.

    A flag in `held` that is equal to ours is replaced by it, which is found by identity next time.
    """
    found: dict[Name, Distrust] = {}
    for part in slices(ours.items()):
        for name, flag in part:
            theirs = held.get(name)
            if flag is theirs or name[0] not in issuers:
                continue
            if (missing := flag.beyond(theirs)) is None:
                if theirs is not None and theirs.beyond(flag) is None:
                    held[name] = flag
            elif (missing := sound(name, missing)) is not None:
                found[name] = missing
        await asyncio.sleep(0)
    return found


async def merge(register: Register, theirs: Flags, issuers: Collection[str]) -> None:
    """Merge what is new to `register` about keys of `issuers`; in effect when this returns.

    Raises TooManyError, and then nothing was merged.
    """
    news = await lacking(theirs, dict(register.state.flags), issuers)
    state = register.state
    require_few_keys(state, news)
    entries = state.entries
    for part in slices(news.items()):
        entries += added_entries(state, part)
        await asyncio.sleep(0)
    require_few_entries(entries)
    for part in slices(news.items()):
        register.merge(dict(part))
        await asyncio.sleep(0)
