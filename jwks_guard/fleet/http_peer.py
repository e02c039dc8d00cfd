"""One instance of the fleet behind its URL: what is asked of it, and what it showed last."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Awaitable, Collection, Mapping
from http import HTTPStatus
from itertools import groupby
from typing import TypeVar
from urllib.parse import urlsplit

import msgspec

from jwks_guard.fleet.http_messages import (
    INSTANCE_HEADER,
    MAX_ANSWER_BYTES,
    MessageError,
    StateAnswer,
    known_in,
    messages,
    require_few,
    state_in,
)
from jwks_guard.fleet.records import decisions_in, states_in
from jwks_guard.keys.distrust import Name, Tombstones
from jwks_guard.keys.instance import combined
from jwks_guard.net.exchange import Client, ExchangeError, Reply, exchange, new_request
from jwks_guard.readiness.state import InstanceState
from jwks_guard.readiness.usage import Reach

REFRESH_SECONDS = 6.0
"""Longer than an instance takes to fetch its keys, or to fail at it."""
_T = TypeVar("_T")
_REMEMBERED_IDS = 16
_LOOKS = 8
_LOOKS_AT_ONCE = 2
_ID = re.compile(r"[0-9a-f]{32}")
_SEVERAL = (
    "several processes answer at this URL, and which one can't be chosen. A fleet over HTTP is of "
    "single-process instances: with several workers use RedisFleet"
)
_WHY = {
    401: "it does not know the secret",
    403: "the secret does not allow it",
    404: "no operations routes with operations_auth are there",
}


class PeerError(Exception):
    """The instance could not be asked, or gave no answer that can be used; says why."""


class Peer:
    """The instance at `url`, asked with `secret`; each call is given the client to use.

    `error` says what was wrong the last time.
    """

    def __init__(self, url: str, secret: str, timeout: float) -> None:
        self.url = url.removesuffix("/")
        self.name = urlsplit(url).netloc
        self.error: str | None = "it was not asked yet"
        self._authorization = f"Bearer {secret}"
        self._timeout = timeout
        self._known: frozenset[bytes] = frozenset()
        self._ids: deque[str] = deque(maxlen=_REMEMBERED_IDS)
        self._shown: list[msgspec.Raw] = []

    def __repr__(self) -> str:
        return f"Peer({self.url!r})"

    def state(self, issuer: str) -> InstanceState | None:
        """What it showed of `issuer` the last time that it could be asked."""
        states = states_in((bytes(state) for state in self._shown), issuer)
        return combined(states) if states else None

    async def look(self, client: Client) -> None:
        """Ask it again and again, so that several processes are noticed; raises PeerError.

        Few at once: of many connections that come together one worker takes all.
        """
        try:
            async with asyncio.timeout(self._timeout):
                for _ in range(0, _LOOKS, _LOOKS_AT_ONCE):
                    pair = (self._asked(client, "GET", "/state") for _ in range(_LOOKS_AT_ONCE))
                    self._note(*(instance for instance, _ in await _both(*pair)))
        except TimeoutError:  # what was seen so far counts
            return

    async def read(
        self, client: Client, issuers: Collection[str]
    ) -> tuple[dict[bytes, bytes], dict[Name, Reach]]:
        """What it knows, of `issuers` not too much, and note what it shows; raises PeerError.

        Two connections at once: behind a URL of several workers, two of them answer sooner or
        later.
        """
        try:
            (one, shown), (other, known) = await _both(
                self._asked(client, "GET", "/state"), self._asked(client, "GET", "/decisions")
            )
            self._note(one, other)
            state = state_in(shown)
            facts, reaches = known_in(known)
            require_few(facts, issuers)
        except MessageError as error:
            raise self._failed(str(error)) from None
        self._known = frozenset(facts)
        self._show(state)
        return facts, reaches

    async def confirm(self, client: Client, facts: Mapping[bytes, bytes]) -> None:
        """Make sure that it refuses what `facts` distrust; raises PeerError.

        One that holds a newer lift takes a decision without an error, and does not go by it.
        """
        instance, content = await self._asked(client, "GET", "/decisions")
        self._note(instance)
        try:
            theirs = decisions_in(known_in(content)[0])
        except MessageError as error:
            raise self._failed(str(error)) from None
        standing = Tombstones().merged(theirs.stones).without(theirs.lifts).entries
        for stone in decisions_in(facts).stones:
            held = standing.get((stone.issuer, stone.kid))
            if held is None or held.version < stone.version:
                raise self._failed("it was told, and does not go by the decision")

    async def tell(self, client: Client, facts: Mapping[bytes, bytes]) -> None:
        """Have it go by `facts`; raises PeerError."""
        lifts = {fact: why for fact, why in facts.items() if fact.startswith(b'["lift"')}
        distrust = {fact: why for fact, why in facts.items() if fact not in lifts}
        for path, part in (("/distrust", distrust), ("/reinstate", lifts)):
            for body in messages(part):
                answer = await self._posted(client, path, body)
                if answer.error is not None:
                    raise self._failed(f"it goes by the decision, but {answer.error}")
        if self.is_several:
            raise PeerError(self.error)

    async def remind(self, client: Client, facts: Mapping[bytes, bytes]) -> None:
        """Have it go by those `facts` that it lacked when it was read; raises PeerError."""
        await self.tell(client, {f: why for f, why in facts.items() if f not in self._known})

    async def refresh(self, client: Client) -> None:
        """Have it fetch the keys, and note what it shows then; raises PeerError."""
        await self._posted(client, "/refresh", b"", REFRESH_SECONDS)

    async def _posted(
        self, client: Client, path: str, body: bytes, seconds: float = 0.0
    ) -> StateAnswer:
        instance, content = await self._asked(client, "POST", path, body, seconds)
        self._note(instance)
        try:
            answer = state_in(content)
        except MessageError as error:
            raise self._failed(str(error)) from None
        self._show(answer)
        return answer

    def _note(self, *instances: str) -> None:
        """Remember who answered; different ones that answered at once did so in turn."""
        self._ids.extend(instances)
        if len(set(instances)) > 1:
            self._ids.append(instances[0])

    def _show(self, answer: StateAnswer) -> None:
        """Note what it shows, and what is wrong with it."""
        self._shown = answer.states
        problem = _SEVERAL if self.is_several else answer.error
        self.error = None if problem is None else f"{self.url}: {problem}"

    @property
    def is_several(self) -> bool:
        """Whether several processes answer in turn; after a restart no earlier one returns."""
        in_turn = [instance for instance, _ in groupby(self._ids)]
        return len(set(in_turn)) != len(in_turn)

    async def _asked(
        self,
        client: Client,
        method: str,
        path: str,
        body: bytes | None = None,
        seconds: float = 0.0,
    ) -> tuple[str, bytes]:
        """Which process answered, and with what; raises PeerError."""
        seconds = seconds or self._timeout
        headers = {
            "Authorization": self._authorization,
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "Connection": "close",  # for another worker to answer next, if there are several
        }
        try:
            request = new_request(method, self.url + path, headers, body)
            reply = await exchange(client, request, timeout=seconds, limit=MAX_ANSWER_BYTES)
            return _instance(reply), reply.body
        except (PeerError, ExchangeError) as error:
            raise self._failed(str(error)) from None

    def _failed(self, why: str) -> PeerError:
        self.error = f"{self.url}: {why}"
        return PeerError(self.error)


async def _both(one: Awaitable[_T], other: Awaitable[_T]) -> tuple[_T, _T]:
    """The results of two calls that run at once; neither runs on when the other one failed."""
    first, second = await asyncio.gather(one, other, return_exceptions=True)
    if isinstance(first, BaseException):
        raise first
    if isinstance(second, BaseException):
        raise second
    return first, second


def _instance(reply: Reply) -> str:
    """The id of the process that gave a good answer."""
    if reply.status != HTTPStatus.OK:
        raise PeerError(_WHY.get(reply.status, f"it answered {reply.status}"))
    instance = reply.headers.get(INSTANCE_HEADER.lower(), "")
    if _ID.fullmatch(instance) is None:
        raise PeerError(_WHY[404])
    return instance
