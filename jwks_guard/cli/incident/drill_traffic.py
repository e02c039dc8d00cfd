"""The clients of a drill: they go on with tokens of the leaked key, and get new ones."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from time import perf_counter

import httpx

from jwks_guard.admin import KeyRotation

_LONGEST_SECONDS = 30.0
_NO_ANSWER = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """One request: whether its token was of the leaked key, when it was, and what came back."""

    leaked: bool
    sent: float
    received: float
    status: int

    @property
    def accepted(self) -> bool:
        """Whether the token was accepted; what the API itself makes of the request is its own."""
        return self.status not in (_NO_ANSWER, HTTPStatus.UNAUTHORIZED) and self.status < 500


@dataclass(slots=True)
class Traffic:
    """Requests to each of `urls`, by clients that have `leaked` tokens, with pauses in seconds.

    `new_token` gives a token of another key than the leaked one, or None while there is none.
    """

    urls: Sequence[str]
    leaked: Sequence[str]
    new_token: Callable[[], Awaitable[str | None]]
    pause: float
    trust_env: bool = False
    answers: list[Answer] = field(default_factory=list)
    renewed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once a token of another key was used."""

    @asynccontextmanager
    async def flowing(self) -> AsyncIterator[None]:
        """Send them while the block runs."""
        over = asyncio.Event()
        async with httpx.AsyncClient(
            trust_env=self.trust_env, timeout=_LONGEST_SECONDS, follow_redirects=False
        ) as client:
            calls = [
                self._keep_calling(client, url, token, over)
                for url in self.urls
                for token in self.leaked
            ]
            calls += [self._keep_getting_new(client, url, over) for url in self.urls]
            tasks = [asyncio.create_task(call) for call in calls]
            try:
                yield
            finally:
                over.set()
                await asyncio.gather(*tasks)

    async def _keep_calling(
        self, client: httpx.AsyncClient, url: str, token: str, over: asyncio.Event
    ) -> None:
        while not over.is_set():
            await self._call(client, url, token, leaked=True)
            await asyncio.sleep(self.pause)

    async def _keep_getting_new(
        self, client: httpx.AsyncClient, url: str, over: asyncio.Event
    ) -> None:
        while not over.is_set():
            if (token := await self.new_token()) is not None:
                await self._call(client, url, token, leaked=False)
            await asyncio.sleep(10 * self.pause)

    async def _call(self, client: httpx.AsyncClient, url: str, token: str, *, leaked: bool) -> None:
        sent, status = perf_counter(), _NO_ANSWER
        try:
            response = await client.get(url, headers={"Authorization": f"Bearer {token}"})
            status = response.status_code
        except httpx.HTTPError:
            pass  # it counts as not accepted
        self.answers.append(Answer(leaked, sent, perf_counter(), status))
        if not leaked:
            self.renewed.set()


@dataclass(frozen=True, slots=True)
class Stage:
    """Where a drill takes place: the key that leaks, what is done about it, and its clients."""

    place: str
    kid: str
    rotation: KeyRotation
    traffic: Traffic
