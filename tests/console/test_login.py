"""The log-in by secret: guesses, fixed sessions, redirects to elsewhere, and what is noted."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from jwks_guard import ConfigurationError
from jwks_guard.asgi import StaticSecrets
from jwks_guard.console import OperatorSecrets
from jwks_guard.console.sessions import Identity, SessionError, Sessions
from tests.console.visiting import OPERATOR, VIEWER, Stage, staged
from tests.support import HandClock

NEW = "the-secret-that-follows-it"


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with staged() as stage:
        yield stage


async def test_right_secret_opens_the_page_that_was_asked_for(stage: Stage) -> None:
    async with stage.browser() as browser:
        asked = await browser.get("/timeline?kid=a%20b")
        login = await browser.get(asked.headers["location"])
        assert 'name="next" value="/timeline?kid=a%20b"' in login.text
        answer = await browser.log_in(next="/timeline?kid=a%20b")
        assert (answer.status_code, answer.headers["location"]) == (303, "/timeline?kid=a%20b")
        page = await browser.get("/timeline?kid=a%20b")
        assert (page.status_code, "Ada" in page.text, "operator" in page.text) == (200, True, True)
        assert (await browser.get("/login?next=/keys")).headers["location"] == "/keys"


@pytest.mark.parametrize(
    "secret", ["", "a-guess", OPERATOR[:-1], f"{OPERATOR} ", "\u00e9", "x" * 9_000]
)
async def test_wrong_secret_opens_nothing(stage: Stage, secret: str) -> None:
    async with stage.browser() as browser:
        answer = await browser.log_in(secret)
        assert (answer.status_code, browser.session()) == (403, None)
        assert "The secret is wrong." in answer.text
        assert 'value="Ada"' in answer.text
        assert not secret or secret not in answer.text


async def test_secret_can_be_replaced_while_both_are_known() -> None:
    async with staged(OperatorSecrets(operator=(OPERATOR, NEW))) as stage:
        for secret in (OPERATOR, NEW):
            async with stage.browser() as browser:
                assert (await browser.log_in(secret)).status_code == 303
        async with stage.browser() as browser:
            assert (await browser.log_in(VIEWER)).status_code == 403


@pytest.mark.parametrize("name", ["", "  ", "x" * 101, "a\nb", "a\x00b", "\u202etxt"])
async def test_operator_without_a_usable_name_is_asked_for_one(stage: Stage, name: str) -> None:
    async with stage.browser() as browser:
        answer = await browser.log_in(name=name)
        assert (answer.status_code, browser.session()) == (400, None)
        assert "Write your name" in answer.text


async def test_secrets_are_not_guessed_at_speed(stage: Stage) -> None:
    clock = stage.scene.clock
    async with stage.browser() as browser:
        guesses = [await browser.log_in(f"guess number {n}, no more") for n in range(50)]
        assert [each.status_code for each in guesses] == [403] * 5 + [429] * 45
        assert "Too many attempts from this address. Wait 12 seconds" in guesses[-1].text
        assert (await browser.log_in()).status_code == 429  # the right one tells nothing either
        clock.advance(3600)
        hour = [await browser.log_in(f"guess number {n}, no more") for n in range(50)]
        assert [each.status_code for each in hour].count(403) == 5
        clock.advance(12)
        assert (await browser.log_in()).status_code == 303


async def test_guesses_of_one_address_keep_nobody_else_out(stage: Stage) -> None:
    async with stage.browser(client=("192.0.2.1", 1)) as guessing:
        for _ in range(9):
            await guessing.log_in("guess")
    async with stage.browser(client=("192.0.2.2", 1)) as browser:
        assert (await browser.log_in()).status_code == 303


async def test_machine_with_a_whole_network_of_addresses_guesses_no_faster(stage: Stage) -> None:
    statuses = []
    for number in range(20):
        async with stage.browser(client=(f"2001:db8:1:2::{number:x}", 1)) as browser:
            statuses.append((await browser.log_in("guess")).status_code)
    assert statuses.count(403) == 5
    async with stage.browser(client=("2001:db8:1:3::1", 1)) as browser:
        assert (await browser.log_in()).status_code == 303


@pytest.mark.parametrize("peer", [None, ("/run/console.sock", 0)])
async def test_peer_without_an_address_is_limited_too(stage: Stage, peer: Any) -> None:
    async with stage.browser(client=peer) as browser:
        statuses = [(await browser.log_in("guess")).status_code for _ in range(6)]
        assert statuses[-1] == 429


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.test/",
        "//evil.test/",
        "/\\evil.test/",
        "\\\\evil.test",
        "/\t/evil.test",
        "/\n/evil.test",
        "/x\r\nLocation: https://evil.test/",
        "javascript:alert(1)",
        "evil.test",
        "",
        "/\u00e9",
    ],
)
async def test_log_in_ends_at_a_page_of_the_console(stage: Stage, target: str) -> None:
    async with stage.browser() as browser:
        answer = await browser.log_in(next=target)
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        again = await browser.get("/login?" + str(httpx.QueryParams({"next": target})))
        assert (again.status_code, again.headers["location"]) == (303, "/")


async def test_session_is_never_the_one_that_the_browser_brought(stage: Stage) -> None:
    """Fixation: an attacker has the victim's browser use the attacker's cookie."""
    async with stage.browser() as attacker, stage.browser() as victim:
        await attacker.log_in(VIEWER, "Mallory")
        victim.client.cookies = httpx.Cookies(attacker.client.cookies)
        planted = victim.session()
        await victim.log_in()
        assert victim.session() not in (None, planted)
        assert "Ada" not in (await attacker.get("/keys")).text
        assert (await attacker.get("/keys")).status_code == 303  # the browser's old one has ended
        assert "Ada" in (await victim.get("/keys")).text


async def test_page_of_another_site_logs_nobody_in(stage: Stage) -> None:
    """Login CSRF: the victim works on in the attacker's session without knowing."""
    fields = {"name": "Mallory", "secret": OPERATOR}
    async with stage.browser() as browser:
        for headers in ({"origin": "https://evil.test"}, {"sec-fetch-site": "same-site"}):
            answer = await browser.post("/login", fields, **headers)
            assert (answer.status_code, browser.session()) == (403, None)
        answer = await browser.client.post("/login", data=fields)
        assert (answer.status_code, browser.session()) == (403, None)
        answer = await browser.get("/login?" + str(httpx.QueryParams(fields)))
        assert browser.session() is None


async def test_log_in_is_logged_with_its_fields_and_without_its_secret(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "jwks_guard")
    async with stage.browser() as browser:
        await browser.log_in("a wrong secret, of course", "A\nB")
        await browser.log_in()
        await browser.get("/keys")
        await browser.post("/logout", browser.fields)
    kinds = ("console_login", "console_logout")
    records = [each.__dict__ for each in caplog.records if getattr(each, "kind", "") in kinds]
    shown = [(each["kind"], each["result"], each["peer"]) for each in records]
    assert shown == [
        ("console_login", "refused", "127.0.0.1"),
        ("console_login", "done", "127.0.0.1"),
        ("console_logout", "done", "127.0.0.1"),
    ]
    assert [each.get("actor") for each in records[1:]] == ["Ada, by operator secret"] * 2
    assert "\n" not in records[0]["message"]
    assert OPERATOR not in caplog.text
    assert "of course" not in caplog.text


async def test_login_page_can_be_filled_in_by_a_password_manager(stage: Stage) -> None:
    async with stage.browser() as browser:
        page = (await browser.get("/login")).text
        assert 'type="password" autocomplete="current-password"' in page
        assert 'action="/login"' in page


def test_secret_that_is_short_or_means_two_roles_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="16 characters"):
        OperatorSecrets(operator="short")
    for viewer in (OPERATOR, (VIEWER, OPERATOR), StaticSecrets(OPERATOR)):
        with pytest.raises(ConfigurationError, match="different secrets"):
            OperatorSecrets(operator=(NEW, OPERATOR), viewer=viewer)


def test_of_too_many_sessions_the_oldest_ends() -> None:
    clock = HandClock()
    sessions = Sessions(clock, key=b"k")
    people = [Identity(name="Ada", actor=f"Ada {n}", role="viewer") for n in range(1001)]
    first, second, *_ = [sessions.begin(each) for each in people]
    with pytest.raises(SessionError):
        sessions.find(sessions.cookie(first))
    assert (
        sessions.why_ended(first) == "There were too many sessions, and yours was the oldest one."
    )
    assert sessions.find(sessions.cookie(second)) is second
