"""Who may see and who may act: attacks on sessions, forms and roles."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from jwks_guard import ConfigurationError
from jwks_guard.admin import KeyRotation
from jwks_guard.console import console
from jwks_guard.console.forms import MAX_FORM_BYTES
from jwks_guard.console.sessions import Identity, Sessions
from tests.admin.rotating import verdict
from tests.console.visiting import HERE, SECRETS, VIEWER, Stage, dialog, ending, staged
from tests.support import HandClock

PAGES = ("/", "/keys", "/instances", "/timeline", "/no-such-page")
Answer = httpx.Response


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with staged() as stage:
        yield stage


def target(stage: Stage) -> tuple[str, dict[str, str]]:
    """The path and the fields of a form that has the current key refused."""
    kid = stage.scene.tenant.key().kid
    fields = {"subject": kid, "reason": "leaked", "how": "forced", "ending": ending(kid)}
    return dialog(kid, "distrust"), fields


async def is_trusted(stage: Stage) -> bool:
    return await verdict(stage.verifier, stage.scene.tenant.token()) == "accepted"


async def require_harmless(stage: Stage, answer: Answer, status: int) -> None:
    assert answer.status_code == status
    assert "Nothing was done" in answer.text
    assert await is_trusted(stage)


# --- without a session ---


async def test_nothing_is_shown_without_a_session(stage: Stage) -> None:
    kid = stage.scene.tenant.key().kid
    async with stage.browser() as browser:
        for path in (*PAGES, dialog(kid, "distrust")):
            answer = await browser.get(path)
            assert answer.status_code == 303
            assert answer.headers["location"].startswith("/login?next=%2F")
            assert kid not in answer.text
        stream = await browser.get("/keys/live")
        assert stream.text == 'event: ended\ndata: "You are not logged in."\n\n'
        by_script = await browser.get("/keys", **{"sec-fetch-mode": "cors"})
        assert by_script.status_code == 401


async def test_form_without_a_session_does_nothing(stage: Stage) -> None:
    path, fields = target(stage)
    async with stage.browser() as browser:
        await require_harmless(stage, await browser.post(path, fields), 401)


async def test_link_of_another_site_meets_the_session_one_page_later(stage: Stage) -> None:
    async with stage.browser() as browser:  # of such a request, a strict cookie is left out
        answer = await browser.get("/timeline?kid=a%26b", **{"sec-fetch-site": "cross-site"})
        assert answer.status_code == 200
        assert 'content="0;url=/timeline?kid=a%26b"' in answer.text


async def test_forged_and_edited_cookies_are_no_session(stage: Stage) -> None:
    async with stage.operator() as operator, stage.browser() as browser:
        genuine = operator.session() or ""
        name, _, signature = genuine.rpartition(".")
        flipped = ("B" if name[0] != "B" else "C") + name[1:]
        for forged in ("", ".", "x", name, f"{flipped}.{signature}", f"{name}.", genuine + "x",
                       genuine[:-2], "%00", "\u00e9".encode().decode("latin-1")):  # fmt: skip
            cookie = f"__Host-jwks_guard_session={forged}".encode("latin-1")
            answer = await browser.client.get("/keys", headers=[(b"cookie", cookie)])
            assert answer.status_code == 303, forged
        cookie = f"__Host-jwks_guard_session={genuine}".encode()
        answer = await browser.client.get("/keys", headers=[(b"cookie", cookie)])
        assert answer.status_code == 200


async def test_session_ends_at_the_log_out_for_every_copy_of_its_cookie(stage: Stage) -> None:
    async with stage.operator() as browser:
        copied = browser.session() or ""
        await browser.get("/keys")
        answer = await browser.post("/logout", browser.fields)
        assert (answer.status_code, answer.headers["location"]) == (303, "/login")
        assert browser.session() is None
        browser.client.cookies.set("__Host-jwks_guard_session", copied, domain="ops.test")
        assert (await browser.get("/keys")).status_code == 303
        path, fields = target(stage)
        await require_harmless(stage, await browser.post(path, {**browser.fields, **fields}), 401)


async def test_session_that_is_not_used_ends_and_the_page_says_why(stage: Stage) -> None:
    async with stage.operator() as browser:
        stage.scene.clock.advance(1799)
        assert (await browser.get("/keys")).status_code == 200
        stage.scene.clock.advance(1799)
        path, fields = target(stage)
        fields |= browser.fields
        assert (await browser.get("/keys")).status_code == 200
        stage.scene.clock.advance(1800)
        answer = await browser.post(path, fields)
        await require_harmless(stage, answer, 401)
        assert "Nobody used it for 30 min." in answer.text
        assert "Nobody used it for 30 min." in (await browser.get("/login")).text


async def test_live_page_that_nobody_looks_at_does_not_keep_its_session(stage: Stage) -> None:
    async with stage.operator() as browser:
        for _ in range(3):
            stage.scene.clock.advance(599)
            async with browser.client.stream("GET", "/no-page/live") as answer:
                assert answer.status_code == 404
        stage.scene.clock.advance(599)
        assert (await browser.get("/no-page/live")).text.startswith("event: ended")


async def test_page_that_asks_whether_its_session_lasts_does_not_keep_it(stage: Stage) -> None:
    async with stage.operator() as browser:
        for _ in range(4):
            stage.scene.clock.advance(600)
            await browser.client.head("/keys", headers={"sec-fetch-mode": "cors"})
        assert (await browser.get("/keys")).status_code == 303


async def test_one_person_who_logs_in_again_and_again_ends_nobody_elses_session() -> None:
    clock = HandClock()
    sessions = Sessions(clock, key=b"k" * 32)
    other = sessions.begin(Identity(name="Ada", actor="ada", role="operator"))
    again = [sessions.begin(Identity(name="Eve", actor="eve", role="viewer")) for _ in range(1_500)]
    assert sessions.why_ended(other) is None
    assert sessions.why_ended(again[-1]) is None
    assert "many" in (sessions.why_ended(again[0]) or "")


async def test_session_ends_after_8_hours_however_much_it_is_used(stage: Stage) -> None:
    async with stage.operator() as browser:
        for _ in range(31):
            stage.scene.clock.advance(900)
            assert (await browser.get("/keys")).status_code == 200
        stage.scene.clock.advance(900)
        assert (await browser.get("/keys")).status_code == 303


async def test_machine_that_slept_has_ended_its_sessions(stage: Stage) -> None:
    async with stage.operator() as browser:
        stage.scene.clock.suspend(1800)
        assert (await browser.get("/keys")).status_code == 303


async def test_restart_ends_every_session(stage: Stage) -> None:
    async with stage.operator() as browser:
        again = console(stage.rotation, stage.verifier, login=SECRETS, clock=stage.scene.clock)
        async with stage.browser(app=again) as other:
            other.client.cookies = browser.client.cookies
            assert (await other.get("/keys")).status_code == 303


# --- forms ---


async def test_form_does_what_it_says(stage: Stage) -> None:
    """The attacks below differ from this in one thing each."""
    path, fields = target(stage)
    async with stage.operator() as browser:
        answer = await browser.submit(path, **fields)
        assert answer.status_code == 200
        assert not await is_trusted(stage)


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.test"},
        {"origin": "null"},
        {"origin": "https://ops.test.evil.test"},
        {"origin": "http://ops.test"},
        {"origin": "https://ops.test:444"},
        {"origin": "ops.test"},
        {"origin": "ftp://ops.test"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "none"},
        {"sec-fetch-site": "cross-site", "origin": HERE},
    ],
)
async def test_form_of_a_page_of_another_origin_does_nothing(
    stage: Stage, headers: dict[str, str]
) -> None:
    """Even with the token of the session, which no such page can read."""
    path, fields = target(stage)
    async with stage.operator() as browser:
        await browser.get(path)
        answer = await browser.post(path, {**browser.fields, **fields}, **headers)
        await require_harmless(stage, answer, 403)


async def test_form_that_does_not_say_where_it_comes_from_does_nothing(stage: Stage) -> None:
    path, fields = target(stage)
    async with stage.operator() as browser:
        await browser.get(path)
        answer = await browser.client.post(path, data={**browser.fields, **fields})
        await require_harmless(stage, answer, 403)


async def test_form_of_an_older_browser_is_judged_by_its_origin_alone(stage: Stage) -> None:
    path, fields = target(stage)
    async with stage.operator() as browser:
        await browser.get(path)
        data = {**browser.fields, **fields}
        answer = await browser.client.post(path, data=data, headers={"origin": HERE})
        assert answer.status_code == 200
        answer = await browser.client.post(
            "/logout", data=data, headers={"sec-fetch-site": "same-origin"}
        )
        assert answer.status_code == 303


async def test_form_without_the_token_of_its_session_does_nothing(stage: Stage) -> None:
    path, fields = target(stage)
    async with stage.operator() as browser, stage.operator() as other:
        await other.get(path)
        await browser.get(path)
        assert browser.fields["csrf"] != other.fields["csrf"]
        for token in ("", "x", other.fields["csrf"], "\u00e9"):
            answer = await browser.post(path, {**fields, "csrf": token})
            await require_harmless(stage, answer, 403)
        await require_harmless(stage, await browser.post(path, fields), 403)
        assert (await browser.post("/logout", {"csrf": ""})).status_code == 403
        assert (await browser.get("/keys")).status_code == 200


async def test_form_in_the_address_does_nothing(stage: Stage) -> None:
    path, fields = target(stage)
    async with stage.operator() as browser:
        await browser.get(path)
        query = str(httpx.QueryParams({**browser.fields, **fields}))
        answer = await browser.get(f"{path}?{query}")
        assert answer.status_code == 200  # the dialog, and no more
        empty = await browser.post(f"{path}?{query}", {"reason": ""})
        await require_harmless(stage, empty, 403)


async def test_body_that_is_no_small_form_does_nothing(stage: Stage) -> None:
    path, fields = target(stage)
    form = "application/x-www-form-urlencoded"
    async with stage.operator() as browser:
        await browser.get(path)
        data = {**browser.fields, **fields}
        encoded = str(httpx.QueryParams(data)).encode()
        bodies: list[tuple[str, bytes, int]] = [
            ("application/json", b"{}", 415),
            ("text/plain", encoded, 415),
            ("", encoded, 415),
            ("multipart/form-data; boundary=x", b"--x--", 415),
            (form, encoded + b"&x=" + b"a" * MAX_FORM_BYTES, 413),
            (form, encoded + b"&x=%ff", 400),
            (form, encoded + b"&x=\xff", 400),
            (form, encoded + b"&reason=another", 400),
            (form, encoded + b"".join(b"&x%d=" % n for n in range(30)), 400),
        ]
        headers = {"origin": HERE}
        for kind, body, status in bodies:
            answer = await browser.client.post(
                path, content=body, headers={**headers, "content-type": kind}
            )
            await require_harmless(stage, answer, status)


async def test_other_methods_do_nothing(stage: Stage) -> None:
    path, fields = target(stage)
    async with stage.operator() as browser:
        await browser.get(path)
        data = {**browser.fields, **fields}
        for method in ("PUT", "DELETE", "PATCH"):
            answer = await browser.client.request(method, path, data=data, headers={"origin": HERE})
            assert answer.status_code == 405
        assert await is_trusted(stage)


# --- roles ---


async def test_viewer_sees_the_pages_and_does_nothing(stage: Stage) -> None:
    path, fields = target(stage)
    async with stage.browser() as browser:
        await browser.log_in(VIEWER, "Vera")
        shown = await browser.get("/keys")
        assert (shown.status_code, "Vera" in shown.text, "/distrust" in shown.text) == (
            *(200, True, False),
        )
        token = browser.fields
        assert (await browser.get(path)).status_code == 403
        await require_harmless(stage, await browser.post(path, {**token, **fields}), 403)
        other = await browser.post("/no-such-action", token)
        await require_harmless(stage, other, 403)
        assert (await browser.post("/logout", token)).status_code == 303


# --- where it is mounted, and by which name ---


async def test_console_can_be_mounted_under_a_prefix(stage: Stage) -> None:
    host = Starlette(routes=[Mount("/tools/console", stage.app)])
    kid = stage.scene.tenant.key().kid
    async with stage.browser(app=host) as browser:
        answer = await browser.get("/tools/console/keys?x=1")
        assert answer.headers["location"] == "/tools/console/login?next=%2Fkeys%3Fx%3D1"
        login = await browser.get(answer.headers["location"])
        assert 'action="/tools/console/login"' in login.text
        fields = {"name": "Ada", "secret": "the-operators-own-secret", "next": "/keys?x=1"}
        answer = await browser.post("/tools/console/login", fields)
        assert answer.headers["location"] == "/tools/console/keys?x=1"
        page = await browser.get("/tools/console/keys")
        for link in ("/static/console.css", "/static/console.js", "/timeline", "/logout"):
            assert f'"/tools/console{link}"' in page.text
            assert f'"{link}"' not in page.text
        assert (await browser.get("/tools/console/static/console.css")).status_code == 200
        path = f"/tools/console{dialog(kid, 'distrust')}"
        answer = await browser.submit(path, reason="leaked", how="forced", ending=ending(kid))
        assert answer.status_code == 200
        assert not await is_trusted(stage)
        answer = await browser.post("/tools/console/logout", browser.fields)
        assert answer.headers["location"] == "/tools/console/login"


async def test_viewer_is_held_under_a_prefix_too(stage: Stage) -> None:
    host = Starlette(routes=[Mount("/logout", stage.app)])
    path, fields = target(stage)
    async with stage.browser(app=host) as browser:
        await browser.post("/logout/login", {"name": "Vera", "secret": VIEWER})
        await browser.get("/logout/keys")
        answer = await browser.post(f"/logout{path}", {**browser.fields, **fields})
        await require_harmless(stage, answer, 403)


async def test_host_header_chooses_nothing(stage: Stage) -> None:
    async with stage.operator() as browser:
        for host in ("evil.test", "ops.test:1@evil.test", "[", "[::1", "", "evil.test/x?"):
            for path in ("/", "/keys/", "/login/", "//evil.test", "//evil.test/..", "/static"):
                answer = await browser.get(path, host=host)
                assert "evil" not in answer.headers.get("location", "").partition("next=")[0]
                assert f"http://{host}" not in answer.text
                assert "https://" not in answer.headers.get("location", "")


async def test_host_that_is_none_is_no_loopback(stage: Stage) -> None:
    async with stage.browser(base_url="http://ops.test") as browser:
        for host in ("[", "[::1", "127.0.0.1.evil.test", "localhost.evil.test"):
            fields = {"name": "Ada", "secret": VIEWER}
            answer = await browser.post("/login", fields, host=host, origin=f"http://{host}")
            assert (answer.status_code, browser.session()) == (403, None)


async def test_cookie_is_kept_by_this_host_alone_over_https_alone(stage: Stage) -> None:
    async with stage.browser() as browser:
        answer = await browser.log_in()
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith("__Host-jwks_guard_session=")
        assert cookie.partition("; ")[2] == "HttpOnly; Path=/; SameSite=strict; Secure"


async def test_on_loopback_plain_http_will_do(stage: Stage) -> None:
    for here in ("http://127.0.0.1:8000", "http://localhost:8000", "http://[::1]:8000"):
        async with stage.browser(base_url=here) as browser:
            answer = await browser.log_in()
            assert answer.headers["set-cookie"].startswith("jwks_guard_session=")
            assert "Secure" not in answer.headers["set-cookie"]
            assert (await browser.get("/keys")).status_code == 200


async def test_over_plain_http_nobody_logs_in(stage: Stage) -> None:
    async with stage.browser(base_url="http://ops.test") as browser:
        answer = await browser.log_in()
        assert answer.status_code == 403
        assert "Open it over https" in answer.text


async def test_proxy_that_ends_tls_and_passes_the_host_on_will_do(stage: Stage) -> None:
    async with stage.browser(base_url="http://ops.test") as browser:
        browser.origin = "https://ops.test"
        answer = await browser.log_in()
        assert answer.status_code == 303
        assert answer.headers["set-cookie"].startswith("__Host-")


async def test_websocket_is_refused(stage: Stage) -> None:
    sent: list[str] = []

    async def send(message: object) -> None:
        assert isinstance(message, dict)
        sent.append(message["type"])

    async def receive() -> dict[str, str]:
        return {"type": "websocket.connect"}

    scope = {"type": "websocket", "path": "/keys", "headers": [], "query_string": b""}
    await stage.app(scope, receive, send)
    assert sent == ["websocket.close"]


# --- arguments ---


async def test_console_without_a_log_in_is_refused(stage: Stage) -> None:
    with pytest.raises(ConfigurationError, match="login must be"):
        console(None, stage.verifier, login=None)  # type: ignore[arg-type]


async def test_rotation_that_would_refuse_keys_elsewhere_is_refused(stage: Stage) -> None:
    other = KeyRotation(stage.scene.keys)
    with pytest.raises(ConfigurationError, match="KeyRotation"):
        console(other, stage.verifier, login=SECRETS)


async def test_session_that_outlives_itself_is_refused(stage: Stage) -> None:
    with pytest.raises(ConfigurationError, match="session_idle"):
        console(None, stage.verifier, login=SECRETS, session_idle=10, session_lifetime=9)
