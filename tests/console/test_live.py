"""Live updates, through a real server: parts that changed, beats, and the end of a session."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any

import httpx
import pytest

from jwks_guard.console import OperatorSecrets, access, console, gathering, live
from jwks_guard.console.gathering import Gatherer
from jwks_guard.console.rendering import rendered
from tests.console.support import FakeFleet, Pages, Server, instance
from tests.support import PATIENCE, HandClock

SECRET = "the-operators-own-secret"
EVERYTHING = {"problems", "freshness", "valid", "revoked"}


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "WATCHED_SECONDS", 0.01)
    monkeypatch.setattr(live, "BEAT_SECONDS", 0.05)


@pytest.fixture
def fleet(clock: HandClock) -> FakeFleet:
    return FakeFleet(instance("a", clock, kids=("k1",)))


@pytest.fixture
def pages(fleet: FakeFleet, clock: HandClock) -> Pages:
    return Pages(Gatherer(None, fleet, clock=clock))


@contextmanager
def served(pages: Pages) -> Iterator[str]:
    server = Server(pages.app)
    try:
        yield server.url
    finally:
        server.stop()


@asynccontextmanager
async def events(url: str) -> AsyncIterator[AsyncIterator[tuple[str, Any]]]:
    """The events of a stream as they come, with their data."""

    async def parsed(answer: httpx.Response) -> AsyncIterator[tuple[str, Any]]:
        kind = ""
        async for line in answer.aiter_lines():
            name, _, value = line.partition(": ")
            if name == "event":
                kind = value
            elif line.startswith("data:") and kind:
                yield kind, json.loads(value) if value else None

    async with (
        asyncio.timeout(PATIENCE),
        httpx.AsyncClient(trust_env=False, timeout=PATIENCE) as client,
        client.stream("GET", url) as answer,
    ):
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield parsed(answer)


async def data_of(kind: str, stream: AsyncIterator[tuple[str, Any]]) -> Any:
    """The data of the next event of that kind."""
    async for each, data in stream:
        if each == kind:
            return data
    raise AssertionError(f"the stream ended without {kind}")


async def eventually(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not holds():  # noqa: ASYNC110 - it is another loop's
            await asyncio.sleep(0.01)


async def test_a_stream_begins_with_all_parts(pages: Pages) -> None:
    with served(pages) as url:
        async with events(f"{url}/keys/live") as stream:
            kind, parts = await anext(stream)
    assert kind == "parts"
    assert {*parts} == EVERYTHING


async def test_only_what_has_changed_is_sent_then(
    pages: Pages, fleet: FakeFleet, clock: HandClock
) -> None:
    with served(pages) as url:
        async with events(f"{url}/keys/live") as stream:
            while "k1" not in (await data_of("parts", stream)).get("valid", ""):
                pass
            fleet.states = (instance("a", clock, kids=("k1", "k2")),)
            parts = await data_of("parts", stream)
    assert {*parts} == {"valid"}
    assert "k2" in parts["valid"]


async def test_the_filter_of_a_page_holds_for_its_stream(pages: Pages) -> None:
    with served(pages) as url:
        async with events(f"{url}/timeline/live?kid=k9") as stream:
            _, parts = await anext(stream)
    assert {*parts} == {"problems", "freshness", "timeline"}
    assert "Nothing yet." in parts["timeline"]


async def test_a_stream_shows_that_it_lives_while_nothing_changes(pages: Pages) -> None:
    with served(pages) as url:
        async with events(f"{url}/keys/live") as stream:
            assert await data_of("beat", stream) is None


async def test_the_end_of_a_session_ends_the_stream_and_says_why(pages: Pages) -> None:
    with served(pages) as url:
        async with events(f"{url}/keys/live") as stream:
            await anext(stream)
            pages.ended.append("You have logged out.")
            rest = [event async for event in stream]
    assert rest[-1] == ("ended", "You have logged out.")


@contextmanager
def whole(fleet: FakeFleet) -> Iterator[tuple[str, dict[str, str]]]:
    """A console that is served, and the headers of somebody who is logged in."""
    server = Server(console(None, fleet, login=OperatorSecrets(operator=SECRET)))
    try:
        own = {"origin": server.url, "sec-fetch-site": "same-origin"}
        form = {"name": "Ada", "secret": SECRET}
        answer = httpx.post(f"{server.url}/login", data=form, headers=own, trust_env=False)
        yield server.url, {"cookie": answer.headers["set-cookie"].partition(";")[0]}
    finally:
        server.stop()


async def test_streams_of_one_session_are_bounded(
    fleet: FakeFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "MOST_STREAMS", 3)
    with whole(fleet) as (url, headers):
        async with AsyncExitStack() as stack, httpx.AsyncClient(trust_env=False) as client:
            opened = [
                await stack.enter_async_context(
                    client.stream("GET", f"{url}/keys/live", headers=headers)
                )
                for _ in range(5)
            ]
            assert [each.status_code for each in opened] == [200, 200, 200, 429, 429]
            page = await client.get(f"{url}/keys", headers=headers)
            assert page.status_code == 200
            await opened[0].aclose()
            async with asyncio.timeout(PATIENCE):
                while True:
                    async with client.stream("GET", f"{url}/keys/live", headers=headers) as again:
                        if again.status_code == 200:
                            break


async def test_stream_that_nobody_reads_ends(
    fleet: FakeFleet, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "MOST_STREAMS", 1)
    monkeypatch.setattr(access, "SEND_SECONDS", 0.3)
    kids = tuple(f"key-{n}-{'x' * 400}" for n in range(100))
    fleet.states = tuple(instance(name, clock, kids=kids) for name in "abcdef")
    with whole(fleet) as (url, headers):
        host, port = url.removeprefix("http://").split(":")
        request = f"GET /keys/live HTTP/1.1\r\nHost: {host}:{port}\r\nCookie: {headers['cookie']}"
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            deaf.connect((host, int(port)))
            deaf.sendall(f"{request}\r\n\r\n".encode())
            assert deaf.recv(1)
            turn = 0
            async with asyncio.timeout(PATIENCE), httpx.AsyncClient(trust_env=False) as client:
                while True:
                    turn += 1  # something to send
                    fleet.states = tuple(
                        instance(name, clock, kids=(f"turn-{turn}", *kids)) for name in "abcdef"
                    )
                    async with client.stream("GET", f"{url}/keys/live", headers=headers) as again:
                        if again.status_code == 200:
                            break
                        await asyncio.sleep(0.05)


async def test_all_streams_of_a_page_are_drawn_once_for_each_picture(
    pages: Pages, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[object] = []  # or another one could have its id
    drawn: list[tuple[str, int]] = []

    def counting(request: Any, template: str, *given: Any, **context: Any) -> str:
        kept.append(context["picture"])
        drawn.append((template, id(context["picture"])))
        return rendered(request, template, *given, **context)

    monkeypatch.setattr("jwks_guard.console.pages.rendered", counting)
    with served(pages) as url:
        async with AsyncExitStack() as stack:
            streams = [
                await stack.enter_async_context(events(f"{url}/keys/live")) for _ in range(8)
            ]
            for stream in streams:
                await data_of("parts", stream)
    streamed = [each for each in drawn if each[0].startswith("parts/")]
    assert len(streamed) == len(set(streamed))


async def test_a_mounted_console_looks_from_its_start_to_its_end(fleet: FakeFleet) -> None:
    before = asyncio.all_tasks()
    app = console(None, fleet, login=OperatorSecrets(operator="the-operators-own-secret"))
    async with app:
        await eventually(lambda: fleet.asked)
    assert asyncio.all_tasks() == before


async def test_the_gatherer_looks_often_only_while_a_stream_is_open(
    pages: Pages, fleet: FakeFleet
) -> None:
    with served(pages) as url:
        async with events(f"{url}/keys/live") as stream:
            await anext(stream)
            await eventually(lambda: len(fleet.asked) > 5)
        await eventually(lambda: not pages.gatherer.watchers)
