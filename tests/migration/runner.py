"""One block of docs/migration.md in a process of its own: JSON lines in, JSON lines out.

`python -m tests.migration.runner BEGIN`, where the wall clock stands at BEGIN until it is turned.
It runs in the other libraries' environment too, so it imports the standard library and the clock of
the benchmarks alone. A block defines `verify(token)`, or `app`, an ASGI application.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import time
import warnings
from collections.abc import Awaitable, Callable
from typing import Any, BinaryIO

from benchmarks.peers.clock import VirtualClock

ACCEPTED = "accepted"

Outcome = Any
Headers = list[tuple[bytes, bytes]]


class StandingClock(VirtualClock):
    """The clocks of this process; the time of day moves only when it is turned."""

    def __init__(self, begin: float) -> None:
        super().__init__()
        self._begin = begin

    def install(self) -> None:
        super().install()
        time.time = lambda: self._begin + self._offset


class Block:
    """The code of a block, and what can be asked of it: each command is a method."""

    def __init__(self, clock: StandingClock) -> None:
        self._clock = clock
        self._names: dict[str, Any] = {}

    async def open(self, code: str, config_url: str | None = None) -> Outcome:
        """Run the code as if the process had just begun; the result is what that raised.

        `config_url` replaces the address of Entra's metadata, which its library writes itself.
        """
        await self.close()
        self._names = {}
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                exec(compile(code, "docs/migration.md", "exec"), self._names)
            except Exception as error:  # noqa: BLE001 - it is what the table shows
                return f"{type(error).__name__} at the import"
        if config_url is not None and "azure_scheme" in self._names:
            self._names["azure_scheme"].openid_config.config_url = config_url
        return sorted({each.category.__name__ for each in caught})

    async def ask(
        self, token: str | None, path: str = "/things", proof: str | None = None
    ) -> Outcome:
        """What comes of a token, by the name of the exception or by the HTTP answer.

        An app is asked with GET at http://api.test; with a `proof`, by the scheme DPoP (RFC 9449).
        """
        if "app" in self._names:
            return await answered(self._names["app"], path, authorization(token, proof))
        return (await self.classes(token) or [ACCEPTED])[0]

    async def classes(self, token: str | None) -> list[str]:
        """The names of the exception's class and of its bases; none where nothing was raised."""
        try:
            self._names["verify"](token)
        except Exception as error:  # noqa: BLE001 - it is what the table shows
            return [each.__name__ for each in type(error).__mro__]
        return []

    async def claims(self, token: str) -> Outcome:
        """The claims that `verify` gives, written as JSON."""
        return json.dumps(self._names["verify"](token))

    async def advance(self, seconds: float) -> Outcome:
        """Turn the clock, and let our verifier do what is due then; others have nothing due."""
        self._clock.advance(seconds)
        if "verifier" in self._names:
            keys = self._names["verifier"].keys
            if "verify" in self._names:  # a SyncTokenVerifier, whose loop is in another thread
                keys.home.run_blocking(keys.tick, 60.0)
            else:
                await keys.tick()
        await asyncio.sleep(0)
        return None

    async def call(self, name: str, **given: Any) -> Outcome:
        """Call a method of our verifier."""
        result = getattr(self._names["verifier"], name)(**given)
        if isinstance(result, Awaitable):
            await result
        return None

    async def close(self) -> None:
        """End what our verifier runs in the background."""
        verifier: Any = self._names.get("verifier")
        if hasattr(verifier, "aclose"):
            await verifier.aclose()
        elif hasattr(verifier, "close"):
            verifier.close()


def authorization(token: str | None, proof: str | None) -> Headers:
    """The headers that carry a token, and the proof of the key that it is bound to."""
    if token is None:
        return []
    if proof is None:
        return [(b"authorization", f"Bearer {token}".encode())]
    return [(b"authorization", f"DPoP {token}".encode()), (b"dpop", proof.encode())]


async def answered(app: Any, target: str, credentials: Headers) -> str:
    """The status that `app` answers to a request, and the error that it names."""
    path, _, query = target.partition("?")
    answer: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        answer.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": query.encode(),
        "headers": [(b"host", b"api.test"), *credentials],
        "client": ("127.0.0.1", 1),
        "server": ("api.test", 80),
        "state": {},
    }
    try:
        await app(scope, receive, send)
    except Exception as error:  # noqa: BLE001 - a server answers it with 500
        return f"500 ({type(error).__name__})"
    body = b"".join(message.get("body", b"") for message in answer[1:])
    return described(answer[0]["status"], answer[0]["headers"], body)


def described(status: int, headers: Headers, body: bytes) -> str:
    """The status with the `error` of the challenge, or else of the JSON body."""
    challenge = dict(headers).get(b"www-authenticate", b"").decode()
    named = re.search(r'error="(\w+)"', challenge) or re.search(r'"error": ?"(\w+)"', body.decode())
    return str(status) if status == 200 or named is None else f"{status} {named[1]}"


async def serve(block: Block, answers: BinaryIO) -> None:
    """Do what standard input says until it ends."""
    commands = asyncio.StreamReader(limit=2**20)
    protocol = asyncio.StreamReaderProtocol(commands)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
    do: dict[str, Callable[..., Awaitable[Outcome]]] = {
        name: getattr(block, name)
        for name in ("open", "ask", "classes", "claims", "advance", "call")
    }
    async for line in commands:
        command = json.loads(line)
        answers.write(json.dumps(await do[command.pop("do")](**command)).encode() + b"\n")
        answers.flush()
    await block.close()


def main() -> None:
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints shall not be taken for an answer
    clock = StandingClock(float(sys.argv[1]))
    clock.install()  # before the libraries are imported, which may keep the functions
    asyncio.run(serve(Block(clock), answers))


if __name__ == "__main__":
    main()
