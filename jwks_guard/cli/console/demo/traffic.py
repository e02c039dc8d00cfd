"""Clients of the demo's API: each holds its token until shortly before its end, as clients do."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx

_SOONER_SECONDS = 5.0
"""A new token is taken so long before the old one ends."""
_REFUSED_SECONDS = 1.0
_TIMEOUT = 5.0


@dataclass(slots=True)
class Client:
    """A client of an organization, which calls the API about every `pause` seconds."""

    client_id: str
    organization: str
    pause: float
    token: str = ""
    until: float = 0.0

    def take(self, token: str, lifetime: float) -> None:
        """Use `token` from now on."""
        self.token, self.until = token, time.monotonic() + lifetime - _SOONER_SECONDS


def clients() -> list[Client]:
    """Several clients, of several organizations."""
    return [
        Client("web-shop", "org_north", 0.2),
        Client("web-shop", "org_south", 0.3),
        Client("mobile-app", "org_north", 0.5),
        Client("mobile-app", "org_east", 0.8),
        Client("partner-sync", "org_east", 1.0),
        Client("nightly-report", "org_south", 3.0),
    ]


@asynccontextmanager
async def calling(
    clients: Sequence[Client],
    urls: Sequence[str],
    new_token: Callable[[Client], str],
    lifetime: float,
) -> AsyncIterator[None]:
    """Have `clients` call the API at `urls` in turn while the block runs."""
    turns = itertools.cycle(urls)
    async with httpx.AsyncClient(trust_env=False, timeout=_TIMEOUT) as http:

        async def call(client: Client) -> None:
            if time.monotonic() >= client.until:
                client.take(new_token(client), lifetime)
            headers = {"Authorization": f"Bearer {client.token}"}
            answer = await http.get(next(turns), headers=headers)
            if answer.status_code == httpx.codes.UNAUTHORIZED:
                client.until = 0.0  # the next call takes a new one
                await asyncio.sleep(_REFUSED_SECONDS)

        async def keep_calling(client: Client) -> None:
            while True:
                try:
                    await call(client)
                except httpx.HTTPError:
                    await asyncio.sleep(_REFUSED_SECONDS)
                await asyncio.sleep(client.pause * random.uniform(0.5, 1.5))  # noqa: S311

        tasks = [asyncio.create_task(keep_calling(client)) for client in clients]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
