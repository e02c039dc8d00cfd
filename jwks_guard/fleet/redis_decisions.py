"""The decisions in Redis: read when they have changed, written where they lack something."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jwks_guard.distrust.register import Register
from jwks_guard.distrust.state import Distrust, Flags, Name, State, merge_into
from jwks_guard.fleet.redis_entries import Entries
from jwks_guard.fleet.redis_link import answered
from jwks_guard.fleet.slices import SLICE, lacking, merge, slices

if TYPE_CHECKING:
    from redis.asyncio import Redis

MAX_ENTRIES = 20_000
"""More than any fleet makes in its life."""
DECIDED, REFRESH = b"decided", b"refresh"
"""What wakes the instances, and what has them fetch their keys too."""
_REREAD_SECONDS = 60.0
"""An entry that something else has overwritten, without a new version, is found after so long."""
_WRITE = """
local version, count = redis.call('GET', KEYS[2]), redis.call('HLEN', KEYS[1])
for i = 2, #ARGV, 4 do
  local held, larger = redis.call('HGET', KEYS[1], ARGV[i]), true
  if held and (ARGV[i + 3] == '' or redis.sha1hex(held) ~= ARGV[i + 3]) then
    local read, value = pcall(cjson.decode, held)
    local decision = read and type(value) == 'table' and value[1]
    local number = type(decision) == 'table' and decision.number
    larger = type(number) ~= 'number' or number < tonumber(ARGV[i + 1])
  end
  if larger then redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 2]) end
end
redis.call('SET', KEYS[2], ARGV[1])
return {version, count, redis.call('HLEN', KEYS[1])}
"""
"""Gives each field the value with the larger number, and the hash a new version.

It returns the version and the number of entries that it found, and the number that it leaves.

ARGV: the version; then by four: field, number, value, and the SHA-1 of a held value that is to be
replaced whatever its number is, or nothing.
"""


class RedisDecisions:
    """Exchanges decisions between a register and the hash `PREFIX:decisions`.

    `PREFIX:version` is renewed with each write, so that a poll which finds it, and the number of
    entries, unchanged has nothing else to read.

    `refused` has the fields whose values were no entries of ours when they were read last, and
    `signed` says whether there were signatures among the others.
    """

    def __init__(self, prefix: str, entries: Entries) -> None:
        self.channel = f"{prefix}:wake"
        self.refused: set[bytes] = set()
        self.signed = False
        self._prefix = prefix
        self._names = (f"{prefix}:decisions", f"{prefix}:version")
        self._entries = entries
        self._merged_into: tuple[Register, frozenset[str]] | None = None
        self._forget()

    def _forget(self) -> None:
        self._held: dict[Name, Distrust] = {}
        self._replaceable: dict[bytes, str] = {}
        """The digests of values that a write replaces: no entries, or lacking a signature."""
        self._seen: tuple[bytes, int] | None = None
        self._read_at = time.monotonic()
        self._written: State | None = None

    async def exchange(
        self, redis: Redis, register: Register, issuers: frozenset[str], offer: Flags
    ) -> None:
        """Merge what is new in Redis, then write what it lacks of the register and of `offer`.

        Only decisions about keys of `issuers` are exchanged. Raises OSError when Redis holds more
        decisions than a fleet makes, or something else.
        """
        if self._merged_into != (register, issuers):
            self._forget()
            self._merged_into = (register, issuers)
        count = await self._read(redis, register, issuers)
        state = register.state
        if offer or self._written is not state:
            news = await lacking(state.merged(offer).flags, self._held, issuers)
            self._require_room(count + sum(flag.entries for flag in news.values()))
            await self._write(redis, news)
            self._written = state

    async def _read(self, redis: Redis, register: Register, issuers: frozenset[str]) -> int:
        """Merge what is new; gives how many entries there are."""
        hash_name, version_name = self._names
        async with redis.pipeline(transaction=False) as pipeline:
            pipeline.get(version_name)  # first: what is written meanwhile has a later one
            pipeline.hlen(hash_name)
            version, count = await answered(pipeline.execute())
        self._require_room(count)
        recently = time.monotonic() - self._read_at < _REREAD_SECONDS
        if recently and version is not None and self._seen == (version, count):
            return int(count)
        self._forget()
        refused: set[bytes] = set()
        signed: set[bytes] = set()
        async for found in _scanned(redis, hash_name):
            for fields in slices(found.items()):
                news = self._decoded(fields, refused, signed)
                await asyncio.sleep(0)
                await merge(register, news, issuers)
        self.refused, self.signed = refused, bool(signed)
        self._seen = None if version is None else (version, count)
        return int(count)

    def _require_room(self, count: int) -> None:
        """Raise OSError for more entries than others read."""
        if count > MAX_ENTRIES:
            raise OSError(
                f"with more than {MAX_ENTRIES} entries under {self._prefix!r} nothing would be read"
            )

    def _decoded(
        self, fields: Iterable[tuple[bytes, bytes]], refused: set[bytes], signed: set[bytes]
    ) -> dict[Name, Distrust]:
        """What `fields` say.

        Those that are no entries of ours are added to `refused`, others that have signatures to
        `signed`.
        """
        news: dict[Name, Distrust] = {}
        for field, value in fields:
            complete = False
            try:
                name, flag, has_signatures, complete = self._entries.decoded(field, value)
            except ValueError:
                refused.add(field)
            else:
                merge_into(news, [(name, flag)])
                if has_signatures:
                    signed.add(field)
            if complete:
                merge_into(self._held, [(name, flag)])
            else:
                self._replaceable[field] = hashlib.sha1(value, usedforsecurity=False).hexdigest()
        return news

    async def _write(self, redis: Redis, news: Flags) -> None:
        if not news and self._seen is None:
            await self._put(redis, [])  # a version is missing: without one each poll reads it all
        for part in slices(self._entries.encoded(news)):
            await self._put(redis, part)
        merge_into(self._held, news.items())
        if news:
            await answered(redis.publish(self.channel, DECIDED))

    async def _put(self, redis: Redis, entries: Sequence[tuple[bytes, int, bytes]]) -> None:
        version = secrets.token_hex(16).encode()
        arguments: list[Any] = [version]
        for field, number, value in entries:
            arguments += [field, number, value, self._replaceable.get(field, "")]
        found = await answered(redis.eval(_WRITE, 2, *self._names, *arguments))
        for field, _, _ in entries:
            self._replaceable.pop(field, None)
            self.refused.discard(field)
        *before, count = found
        # What something else has written, or removed, meanwhile is found by reading all anew.
        self._seen = (version, count) if self._seen == tuple(before) else None


async def _scanned(redis: Redis, hash_name: str) -> AsyncIterator[Mapping[bytes, bytes]]:
    """The entries of a hash, a part at a time; raises OSError for what is no hash, or endless."""
    cursor = 0
    for _ in range(MAX_ENTRIES):
        answer: Any = await answered(redis.hscan(hash_name, cursor, count=SLICE))
        cursor, found = answer
        if not isinstance(found, dict) or not all(
            isinstance(each, bytes) for pair in found.items() for each in pair
        ):
            raise OSError("what it holds there are no decisions")
        yield found
        if cursor == 0:
            return
    raise OSError("reading its decisions does not come to an end")
