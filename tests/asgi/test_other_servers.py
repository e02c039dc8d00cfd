"""The guard in each ASGI server that people use, as a process of its own."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from jwks_guard.testing import LocalTenant
from tests.process.programs import program, wait_until
from tests.support import PATIENCE

pytestmark = pytest.mark.outside

APP = "tests.process.apps.sockets:app"


@dataclass(frozen=True)
class Kind:
    """How a server is started, and what it can say to a WebSocket.

    `refused` is the status of one that it does not accept, or None for the refusal's own; `closed`
    and `unavailable` are the codes that end one whose token is refused, or can't be judged.
    """

    command: str
    refused: int | None = None
    closed: int = 1008
    unavailable: int = 1013
    breaks_off: bool = True
    """Whether it breaks off a response that its app leaves incomplete."""
    reads_first: bool = False
    """Whether it has read the whole body when it calls the app."""


KINDS = {
    "uvicorn": Kind("uvicorn --host 127.0.0.1 --port {port} {app}"),
    "uvicorn-without-lifespan": Kind(
        "uvicorn --host 127.0.0.1 --port {port} --lifespan off --ws wsproto {app}"
    ),
    "hypercorn": Kind("hypercorn --bind 127.0.0.1:{port} {app}"),
    "daphne": Kind(
        "daphne --bind 127.0.0.1 --port {port} {app}",
        refused=403,
        closed=3000,
        unavailable=4013,
        breaks_off=False,
        reads_first=True,
    ),
    "granian": Kind("granian --interface asgi --host 127.0.0.1 --port {port} {app}"),
    "granian-without-lifespan": Kind(
        "granian --interface asginl --host 127.0.0.1 --port {port} {app}"
    ),
}


@dataclass(frozen=True)
class Served:
    """A server that runs, and a client of it."""

    kind: Kind
    port: int
    http: httpx.Client
    tenant: LocalTenant
    process: subprocess.Popen[str]
    written: Path

    def get(self, path: str = "/", token: str | None = None) -> httpx.Response:
        return self.http.get(path, headers=credentials(token))

    def dial(self, token: str | None = None, path: str = "/echo") -> connect:
        address = f"ws://127.0.0.1:{self.port}{path}"
        return connect(
            address, additional_headers=credentials(token), proxy=None, open_timeout=PATIENCE
        )

    def rotated(self) -> tuple[str, str]:
        """The kid that was current before, and a token of it; the server knows the new key."""
        old, token = self.tenant.key().kid, self.tenant.token()
        self.tenant.rotate()
        assert self.get(token=self.tenant.token()).status_code == 200
        return old, token

    def status_of(self, path: str, *headers: str) -> int:
        """What `path` is answered with, sent as it is: HTTP clients tidy paths up."""
        lines = (f"GET {path} HTTP/1.1", "Host: api", "Connection: close", *headers, "", "")
        with socket.create_connection(("127.0.0.1", self.port), PATIENCE) as raw:
            raw.sendall("\r\n".join(lines).encode())
            return int(raw.makefile("rb").readline().split()[1])

    @property
    def up(self) -> bool:
        try:
            return self.get().status_code > 0
        except httpx.TransportError:
            return False


def credentials(token: str | None) -> dict[str, str]:
    return {} if token is None else {"Authorization": f"Bearer {token}"}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def served(kind: Kind, written: Path, app: str = APP) -> Iterator[Served]:
    """Run the server; what it writes goes into the file."""
    port = free_port()
    command = kind.command.format(port=port, app=app).split()
    with (
        LocalTenant() as tenant,
        written.open("w") as output,
        program(
            "-m",
            *command,
            env=os.environ | {"ISSUER": tenant.issuer, "AUDIENCE": tenant.audience},
            stderr=output,
        ) as process,
        httpx.Client(
            base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=PATIENCE
        ) as http,
    ):
        yield Served(kind, port, http, tenant, process, written)


@pytest.fixture(scope="module", params=KINDS)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    written = tmp_path_factory.mktemp(request.param) / "stderr"
    with served(KINDS[request.param], written) as running:
        wait_until(lambda: running.up)
        yield running
    assert "Traceback" not in written.read_text()


async def closed_with(websocket: ClientConnection) -> int:
    """Wait for the close that the server sends."""
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(ConnectionClosed) as caught:
            await websocket.recv()
    assert caught.value.rcvd is not None
    return caught.value.rcvd.code


async def refused_with(dialling: connect) -> int:
    with pytest.raises(InvalidStatus) as caught:
        await dialling
    return caught.value.response.status_code


def test_requests_are_judged_by_their_token(server: Served) -> None:
    accepted = server.get(token=server.tenant.token(sub="auth0|alice"))
    assert (accepted.status_code, accepted.text) == (200, "hello auth0|alice")
    assert server.get().status_code == 401
    assert server.get(token=server.tenant.forged_token()).status_code == 401
    assert server.get(token="a b").status_code == 400
    assert server.get("/public/page").text == "hello "


def test_a_preflight_does_not_reach_the_app(server: Served) -> None:
    preflight = {"Origin": "https://web.test", "Access-Control-Request-Method": "GET"}
    assert server.http.options("/", headers=preflight).status_code == 401


@pytest.mark.parametrize(
    "path",
    [
        "/public/../private",
        "/public/%2e%2e/private",
        "/public/..%2fprivate",
        "/public//private",
        "/public/;/private",
        "//public/private",
        "/public",
    ],
)
def test_no_spelling_of_a_path_is_excluded_by_mistake(server: Served, path: str) -> None:
    assert server.status_of(path) in (400, 401)


@pytest.mark.parametrize(
    ("path", "root"),
    [
        ("/public/private", "/public/"),
        ("/public/private", "/public"),
        ("/public/xprivate", "/public/x"),
        ("/public/a/private", "/a"),
    ],
)
def test_a_root_path_that_the_client_names_excludes_nothing_more(
    server: Served, path: str, root: str
) -> None:
    believed = "daphne" in server.kind.command
    assert server.status_of(path, f"Daphne-Root-Path: {root}") == (401 if believed else 200)


async def test_a_socket_is_refused_before_it_is_accepted(server: Served) -> None:
    for token in (None, server.tenant.forged_token(), "a b"):
        own = server.get(token=token).status_code
        assert await refused_with(server.dial(token)) == (server.kind.refused or own)


async def test_a_socket_on_an_excluded_path_needs_no_token(server: Served) -> None:
    async with server.dial(path="/public/echo") as websocket:
        await websocket.send("hello")
        assert await websocket.recv() == "hello"


async def test_a_socket_is_closed_once_its_key_is_distrusted(server: Served) -> None:
    old, token = server.tenant.key().kid, server.tenant.token()
    server.tenant.rotate()
    async with server.dial(token) as doomed, server.dial(server.tenant.token()) as spared:
        for websocket in (doomed, spared):
            await websocket.send("hello")
            assert await websocket.recv() == "hello"
        assert server.http.post(f"/public/distrust/{old}").status_code == 200
        assert await closed_with(doomed) == server.kind.closed
        await spared.send("still here")
        assert await spared.recv() == "still here"
    assert server.get(token=token).status_code == 401


def test_a_body_that_comes_after_its_key_was_distrusted_reaches_no_route(server: Served) -> None:
    old, token = server.rotated()
    before = server.get("/public/uploads").text
    lines = ("POST /upload HTTP/1.1", "Host: api", f"Authorization: Bearer {token}")
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as raw:
        raw.sendall("\r\n".join((*lines, "Content-Length: 2", "", "a")).encode())
        if not server.kind.reads_first:
            wait_until(lambda: server.get("/public/uploads").text != before)
            before = server.get("/public/uploads").text
            assert before.endswith("begun")
        assert server.http.post(f"/public/distrust/{old}").status_code == 200
        raw.sendall(b"b")
        assert int(raw.makefile("rb").readline().split()[1]) == 401
    assert server.get("/public/uploads").text == before


def test_a_response_that_goes_on_ends_once_its_key_is_distrusted(server: Served) -> None:
    with streaming(server, "text/event-stream") as parts:
        assert list(parts) == []
    if server.kind.breaks_off:
        with streaming(server, "video/mp4") as parts, pytest.raises(httpx.RemoteProtocolError):
            next(parts)


@contextmanager
def streaming(server: Served, content_type: str) -> Iterator[Iterator[str]]:
    """What comes of a response after its first part, and after its key was distrusted."""
    old, token = server.rotated()
    query, headers = {"type": content_type}, credentials(token)
    with server.http.stream("GET", "/stream", params=query, headers=headers) as answer:
        parts = answer.iter_text()
        assert next(parts) == "data: one\n\n"
        assert server.http.post(f"/public/distrust/{old}").status_code == 200
        yield parts


async def test_a_socket_is_closed_once_no_key_may_be_trusted(server: Served) -> None:
    token = server.tenant.token()
    async with server.dial(token) as websocket:
        await websocket.send("hello")
        assert await websocket.recv() == "hello"
        server.http.post("/public/close")
        assert await closed_with(websocket) == server.kind.unavailable
    assert server.get(token=token).status_code == 503
    assert await refused_with(server.dial(token)) == (server.kind.refused or 503)
    server.http.post("/public/start")
    assert server.get(token=token).status_code == 200


TRIO = Kind("hypercorn --worker-class trio --bind 127.0.0.1:{port} {app}")


def test_trio_ends_the_start_with_one_clear_error(tmp_path: Path) -> None:
    with served(TRIO, tmp_path / "stderr") as server:
        server.process.wait(PATIENCE)
        assert not server.up
    assert "Run the application on asyncio (`hypercorn -k asyncio`)" in server.written.read_text()


def test_trio_without_lifespan_is_503_and_one_line_in_the_log(tmp_path: Path) -> None:
    app = APP.replace(":app", ":without_lifespan")
    with served(TRIO, tmp_path / "stderr", app) as server:
        wait_until(lambda: server.up)
        for _ in range(3):
            assert server.get(token=server.tenant.token()).status_code == 503
        assert server.get("/public/page").status_code == 200
    written = server.written.read_text()
    assert written.count("Run the application on asyncio") == 1
    assert "Traceback" not in written
