"""The headers of every answer, and a console in a real server."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
import uvicorn
from starlette.types import ASGIApp

from jwks_guard.testing.server import listen
from tests.console.visiting import Browser, Stage, dialog, ending, staged
from tests.support import PATIENCE


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with staged() as stage:
        yield stage


def policy_of(answer: httpx.Response) -> dict[str, str]:
    parts = answer.headers["content-security-policy"].split("; ")
    return dict(part.split(" ", 1) for part in parts)


async def test_every_answer_forbids_what_no_page_needs(stage: Stage) -> None:
    kid = stage.scene.tenant.key().kid
    async with stage.operator() as browser, stage.browser() as stranger:
        answers = [
            *[await browser.get(path) for path in ("/keys", "/instances", "/timeline", "/nothing")],
            *[await browser.get(path) for path in (dialog(kid, "revoke"), "/static/console.js")],
            *[await stranger.get(path) for path in ("/", "/login", "/keys/live", "/static/none")],
            await browser.post("/logout", {"csrf": "wrong"}),
            await stranger.post("/login", {"secret": "wrong"}),
            await stranger.client.request("PUT", "/login"),
        ]
    for answer in answers:
        policy = policy_of(answer)
        assert policy.pop("script-src") == policy.pop("style-src")
        assert policy == {
            "default-src": "'none'",
            "img-src": "'self'",
            "connect-src": "'self'",
            "form-action": "'self'",
            "base-uri": "'none'",
            "frame-ancestors": "'none'",
        }
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "same-origin"
        assert answer.headers["cross-origin-opener-policy"] == "same-origin"
        assert answer.headers["x-frame-options"] == "DENY"


async def test_scripts_and_styles_are_those_of_this_very_answer(stage: Stage) -> None:
    kid = stage.scene.tenant.key().kid
    seen = set()
    async with stage.operator() as browser:
        for path in ("/keys", "/instances", "/timeline", "/nothing", dialog(kid, "revoke")):
            answer = await browser.get(path)
            nonce = policy_of(answer)["script-src"].removeprefix("'nonce-").removesuffix("'")
            assert re.fullmatch(r"[A-Za-z0-9_-]{22}", nonce)
            seen.add(nonce)
            tags = re.findall(r"<(?:script|link rel=\"stylesheet\")[^>]*>", answer.text)
            assert len(tags) == 2
            assert all(f'nonce="{nonce}"' in tag for tag in tags)
            assert not re.search(r"\s(?:style|on\w+)=", answer.text)
            assert not re.search(r"(?:src|href)=\"(?:https?:)?//", answer.text)
    assert len(seen) == 5


# --- a real server ---


@asynccontextmanager
async def served(app: ASGIApp) -> AsyncIterator[str]:
    listener = listen("127.0.0.1", 0)
    config = uvicorn.Config(app, lifespan="off", log_config=None, log_level=None)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve([listener]))
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await serving


@asynccontextmanager
async def visitor(address: str) -> AsyncIterator[Browser]:
    async with httpx.AsyncClient(base_url=address, timeout=PATIENCE, trust_env=False) as client:
        browser = Browser(client, origin=address)
        assert (await browser.log_in()).status_code == 303
        yield browser


async def next_of(lines: AsyncIterator[str], kind: str) -> str:
    """The data of the next event of that kind."""
    async with asyncio.timeout(PATIENCE):
        async for line in lines:
            if line == f"event: {kind}":
                return await anext(lines)
    raise AssertionError(kind)


async def test_key_is_revoked_by_a_browser_of_a_real_server(stage: Stage) -> None:
    kid, _ = stage.scene.used_key()
    async with served(stage.app) as address, visitor(address) as browser:
        fields = {"how": "emergency", "reason": "leaked", "ending": ending(kid)}
        answer = await browser.submit(dialog(kid, "revoke"), **fields)
        assert answer.status_code == 200
    assert stage.scene.tenant.key(kid).revoked
    assert kid in stage.verifier.distrusted


async def test_live_page_hears_that_its_session_has_ended(stage: Stage) -> None:
    async with served(stage.app) as address, visitor(address) as browser:
        await browser.get("/keys")
        async with browser.client.stream("GET", "/keys/live") as answer:
            assert answer.headers["content-security-policy"].startswith("default-src 'none'")
            lines = answer.aiter_lines()
            assert stage.scene.tenant.key().kid in await next_of(lines, "parts")
            assert (await browser.post("/logout", browser.fields)).status_code == 303
            assert await next_of(lines, "ended") == 'data: "You have logged out."'
