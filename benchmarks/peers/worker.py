"""One Python peer in its own environment: JSON lines in, JSON lines out.

`python -m benchmarks.peers.worker NAME [--virtual-clock]`, started by `benchmarks.workers`. The
event loop also runs between two commands, so that a library's background tasks do, as in an app.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import os
import platform
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from importlib.metadata import version
from types import ModuleType
from typing import Any, BinaryIO

from benchmarks.peers.bare import bare_checks
from benchmarks.peers.clock import VirtualClock
from benchmarks.peers.consumer import Consumer

_LONGEST_LINE = 2**26  # bytes; a command may hold thousands of tokens
_LONGEST_TEXT = 200  # characters of an error's message

Answer = dict[str, Any]


class Peer:
    """The adapter's consumer, and what can be asked of it: each command is a method."""

    def __init__(self, adapter: ModuleType, clock: VirtualClock) -> None:
        self._adapter = adapter
        self._clock = clock
        self._lifetime = AsyncExitStack()
        self._consumer: Consumer | None = None
        self._jwks: dict[str, Any] = {}

    async def open(
        self,
        issuer: str,
        jwks_uri: str,
        audience: str,
        algorithms: list[str],
        jwks: dict[str, Any] | None = None,
    ) -> Answer:
        """A new consumer; the one before is closed."""
        await self.close()
        self._jwks = jwks or {}
        made = self._adapter.consumer(issuer, jwks_uri, audience, algorithms)
        self._consumer = await self._lifetime.enter_async_context(made)
        versions = {name: version(name) for name in self._adapter.PACKAGES}
        return {"ok": True, "versions": {**versions, "python": platform.python_version()}}

    async def verify(self, tokens: list[str]) -> Answer:
        """Each token after the other, whatever became of those before."""
        return {"results": [await self._refusal(token) for token in tokens]}

    async def time(self, tokens: list[str]) -> Answer:
        """What all of `tokens` take; no coroutine is made for a function that is none."""
        verify: Callable[[str], Any] = self._opened.verify
        if not inspect.iscoroutinefunction(verify):
            return _called(verify, tokens)
        began = _now()
        for token in tokens:
            await verify(token)
        return _since(began)

    async def bare(self, token: str, count: int) -> Answer:
        """What `count` bare signature checks take."""
        (check,) = bare_checks([token], self._jwks)
        began = _now()
        for _ in range(count):
            check()
        return _since(began)

    async def advance(self, seconds: float) -> Answer:
        """Turn the clock, and let tasks that are due then begin."""
        self._clock.advance(seconds)
        if self._consumer is not None and self._consumer.settle is not None:
            await self._consumer.settle()
        await asyncio.sleep(0)
        return {"ok": True}

    async def distrust(self, kid: str) -> Answer:
        """Revoke a key at this consumer."""
        if self._opened.distrust is None:
            return {"error": "unsupported"}
        await self._opened.distrust(kid)
        return {"ok": True}

    async def close(self) -> None:
        """End what the consumer runs in the background."""
        await self._lifetime.aclose()
        self._lifetime, self._consumer = AsyncExitStack(), None

    @property
    def _opened(self) -> Consumer:
        assert self._consumer is not None, "open comes first"
        return self._consumer

    async def _refusal(self, token: str) -> str | None:
        try:
            result = self._opened.verify(token)
            if inspect.isawaitable(result):
                await result
        except Exception as error:  # noqa: BLE001  # whatever a library raises is a refusal
            return described(error, token)
        return None


def _now() -> tuple[float, float]:
    return time.perf_counter(), time.thread_time()


def _since(began: tuple[float, float]) -> Answer:
    """Seconds by the clock, and those that the processor worked for this thread."""
    cpu, seconds = time.thread_time() - began[1], time.perf_counter() - began[0]
    return {"seconds": seconds, "cpu": cpu}


def _called(verify: Callable[[str], object], tokens: list[str]) -> Answer:
    """What a plain function takes for all of `tokens`.

    Raises TypeError if it gives an awaitable: then nothing was verified yet.
    """
    first, *others = tokens
    began = _now()
    result = verify(first)
    for token in others:
        verify(token)
    took = _since(began)
    if inspect.isawaitable(result):
        raise TypeError("the adapter's `verify` gives an awaitable: make it a coroutine function")
    return took


def described(error: Exception, token: str = "\0") -> str:
    """The error's class and its message, without the token."""
    text = str(error).replace(token, "(token)")[:_LONGEST_TEXT]
    return f"{type(error).__name__}: {text}"


async def serve(peer: Peer, answers: BinaryIO) -> None:
    """Do what standard input says until it ends."""
    commands = asyncio.StreamReader(limit=_LONGEST_LINE)
    protocol = asyncio.StreamReaderProtocol(commands)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
    do: dict[str, Callable[..., Awaitable[Answer]]] = {
        name: getattr(peer, name)
        for name in ("open", "verify", "time", "bare", "advance", "distrust")
    }
    async for line in commands:
        command = json.loads(line)
        try:
            answer = await do[command.pop("do")](**command)
        except Exception as error:  # noqa: BLE001  # the driver is told, and decides
            answer = {"error": described(error)}
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()
    await peer.close()


def main() -> None:
    name, *options = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints shall not be taken for an answer
    clock = VirtualClock()
    if "--virtual-clock" in options:
        clock.install()  # before the import below
    adapter = importlib.import_module(f"benchmarks.peers.{name.replace('-', '_')}")
    asyncio.run(serve(Peer(adapter, clock), answers))


if __name__ == "__main__":
    main()
