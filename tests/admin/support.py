"""Naps that turn a clock instead of lasting, and a server that answers what it is told to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from traceback import TracebackException
from typing import Any

import httpx

from jwks_guard.admin import ClientCredentials, SigningKeysClient, StaticToken
from jwks_guard.testing import LocalTenant
from tests.listening import listening
from tests.support import PATIENCE, HandClock

TESTS = Path(__file__).parents[1]
HTML = b"<!doctype html><title>Maintenance</title>"
KEYS = "/api/v2/keys/signing"
ROTATE = KEYS + "/rotate"
TOKEN = "/oauth/token"
BEARER = "one.of.a-kind"
SECRET = "correct-horse-battery-staple"
AUTH = StaticToken(BEARER)
CREDENTIALS = ClientCredentials("the-client", SECRET)


@dataclass
class Naps:
    """Given as `sleep`: turns `clock`, notes how far, and runs what is due before the n-th ends."""

    clock: HandClock = field(default_factory=HandClock)
    seconds: list[float] = field(default_factory=list)
    during: dict[int, Callable[[], object]] = field(default_factory=dict)

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        self.clock.advance(seconds)
        self.during.get(len(self.seconds), int)()


def bound(fault: object) -> float:
    """Seconds for an exchange: few where `fault` lets no whole answer come, else plenty."""
    return 1.0 if fault in ("hold", "drip", None) else PATIENCE


@asynccontextmanager
async def client_of(
    where: LocalTenant | Scripted, naps: Naps | None = None, **options: Any
) -> AsyncIterator[SigningKeysClient]:
    """A client on loopback that naps by `naps`, and with their clock."""
    naps = naps or Naps()
    if isinstance(where, LocalTenant):
        options.setdefault("auth", ClientCredentials(where.client_id, where.client_secret))
    options.setdefault("auth", AUTH)
    url = where.issuer if isinstance(where, LocalTenant) else where.url
    # Without TLS, which nobody speaks here and which takes most of the time that a test has.
    async with httpx.AsyncClient(verify=False, trust_env=False) as http:
        options.setdefault("http_client", http)
        yield SigningKeysClient(url, clock=naps.clock, sleep=naps, **options)


@dataclass(frozen=True)
class Asked:
    """One request as it came in; `target` as on its first line, headers by lower-case name."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Script = Callable[[Asked], Awaitable[bytes | None]]
Reply = bytes | Script | None


@dataclass
class Scripted:
    """Answers each request with the bytes it was told, and closes the connection.

    Of several replies to one request each is given once, the last on; None is no answer at all, for
    as long as the client waits.
    """

    url: str = ""
    asked: list[Asked] = field(default_factory=list)
    replies: dict[tuple[str, str], list[Reply]] = field(default_factory=dict)
    _server: asyncio.Server | None = None

    def on(self, method: str, target: str, *replies: Reply) -> None:
        self.replies[method, target] = list(replies)

    def count(self, method: str, target: str | None = None) -> int:
        return sum(a.method == method and target in (None, a.target) for a in self.asked)

    def hang_up(self) -> None:
        """Accept no more connections."""
        if self._server is not None:
            self._server.close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            asked = await request(reader)
            self.asked.append(asked)
            replies = self.replies.get((asked.method, asked.target), [answer(404)])
            reply = replies.pop(0) if len(replies) > 1 else replies[0]
            raw = reply if isinstance(reply, bytes | None) else await reply(asked)
            if raw is None:
                await reader.read()
            else:
                writer.write(raw)
                await writer.drain()


@asynccontextmanager
async def scripted() -> AsyncIterator[Scripted]:
    """A server of this loop; to begin with it grants tokens, and knows nothing else."""
    server = Scripted()
    server.on("POST", TOKEN, grant())
    async with listening(server.serve) as open_server:
        server._server = open_server
        server.url = f"http://127.0.0.1:{open_server.sockets[0].getsockname()[1]}/"
        yield server


def shown(error: BaseException) -> str:
    """What a tool may print of an error: texts, attributes, and the variables of the library."""
    parts = [str(error), repr(error), repr(vars(error))]
    trace = error.__traceback__
    while trace is not None and Path(trace.tb_frame.f_code.co_filename).is_relative_to(TESTS):
        trace = trace.tb_next
    frames = TracebackException(type(error), error, trace, capture_locals=True)
    parts += frames.format(chain=False)
    parts += [shown(each) for each in (error.__cause__, error.__context__) if each is not None]
    return "\n".join(parts)


async def request(reader: asyncio.StreamReader) -> Asked:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, target, _ = head[0].split(" ")
    headers = {n.lower(): v.strip() for n, _, v in (line.partition(":") for line in head[1:-2])}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Asked(method, target, headers, body)


def answer(status: int = 200, body: bytes | object = b"", **headers: object) -> bytes:
    """An answer; a body that is not bytes is sent as JSON."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    fields = {"Content-Length": len(content), "Connection": "close"}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status} Whatever\r\n{lines}\r\n".encode("latin-1") + content


def grant(token: object = BEARER, **members: object) -> bytes:
    """An answer of the token endpoint."""
    return answer(200, {"access_token": token, "token_type": "Bearer", **members})


def key_document(kid: str = "one", **members: object) -> dict[str, object]:
    """A key of a list answer."""
    return {"kid": kid, "cert": "c", "fingerprint": "AA:BB", "thumbprint": "AABB", **members}


KEY_SET = [
    key_document("current", current=True),
    key_document("next", next=True),
    key_document("previous", previous=True),
]
"""Three keys, one of which may be revoked."""
