from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import httpx
import pytest

from jwks_guard.testing.transport import InProcessTransport

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope, Send

URL = "https://tenant.test/path%20x?a=b"


async def test_request_reaches_the_application_as_over_http() -> None:
    seen: dict[str, object] = {}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.update(scope, body=(await receive())["body"])
        await send({"type": "http.response.start", "status": 204, "headers": []})

    async with httpx.AsyncClient(transport=InProcessTransport(app)) as client:
        response = await client.post(URL, content=b"hello", headers={"X-Name": "value"})
    assert response.status_code == 204
    assert (seen["method"], seen["path"], seen["raw_path"]) == ("POST", "/path x", b"/path%20x")
    assert (seen["query_string"], seen["body"]) == (b"a=b", b"hello")
    headers = seen["headers"]
    assert isinstance(headers, list)
    assert (b"x-name", b"value") in headers


async def test_failure_of_the_application_is_not_hidden() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise ZeroDivisionError

    async with httpx.AsyncClient(transport=InProcessTransport(app)) as client:
        with pytest.raises(ZeroDivisionError):
            await client.get(URL)


async def test_answer_that_stops_coming_runs_into_the_read_timeout() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        await asyncio.Event().wait()

    async with httpx.AsyncClient(transport=InProcessTransport(app), timeout=0.05) as client:
        with pytest.raises(httpx.ReadTimeout):
            await client.get(URL)


async def test_application_is_cancelled_when_its_client_gives_up() -> None:
    asked, cancelled = asyncio.Event(), asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async with httpx.AsyncClient(transport=InProcessTransport(app)) as client:
        task = asyncio.create_task(client.get(URL))
        await asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert cancelled.is_set()


async def test_body_can_be_left_unread() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        message: Message = {"type": "http.response.start", "status": 200, "headers": []}
        await send(message)
        await send({"type": "http.response.body", "body": b"x" * 100})

    async with (
        httpx.AsyncClient(transport=InProcessTransport(app)) as client,
        client.stream("GET", URL) as response,
    ):
        assert response.status_code == 200
    assert response.is_closed
