"""The log-in by OpenID Connect, and the key that must not guard its own revocation."""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import httpx
import pytest

from jwks_guard import ConfigurationError
from jwks_guard.console import OpenIDConnect, console
from jwks_guard.distrust.state import Distrusted
from tests.admin.rotating import verdict
from tests.console.providing import LOOPBACK, ROLES, Provided, provided
from tests.console.support import FakeFleet
from tests.console.visiting import OPERATOR, Browser, dialog, ending, running

TOKEN, DISCOVERY = "/oauth/token", "/.well-known/openid-configuration"
Edit = Callable[[dict[str, Any]], object]


@pytest.fixture
async def setting() -> AsyncIterator[Provided]:
    async with provided() as setting:
        yield setting


async def answered_with(setting: Provided, browser: Browser, **changes: Any) -> httpx.Response:
    """A log-in whose ID token has these claims changed; `key` signs it, `kid` names its key."""
    parameters = await setting.begun(browser)
    how = {name: changes.pop(name) for name in ("key", "header", "kid") if name in changes}
    claims = {
        "aud": setting.provider.client_id,
        "azp": None,
        "scope": None,
        "nonce": parameters["nonce"],
        "email": "alice@users.test",
        "email_verified": True,
        **changes,
    }
    token = setting.provider.token(claims=claims, **how)
    setting.meddling.changes[TOKEN] = lambda document: document.update(id_token=token)
    return await browser.get(await setting.agreed(parameters))


def require_refused(answer: httpx.Response, browser: Browser, why: str, status: int = 403) -> None:
    assert (answer.status_code, browser.session()) == (status, None)
    assert why in answer.text
    assert "location" not in answer.headers


# --- what works ---


async def test_log_in_at_the_provider_ends_at_the_page_that_was_asked_for(
    setting: Provided,
) -> None:
    async with setting.browser() as browser:
        asked = await browser.get("/timeline")
        login = await browser.get(asked.headers["location"])
        assert f"<strong>{setting.provider.issuer}</strong>" in login.text
        assert 'href="/login/provider?next=%2Ftimeline"' in login.text
        answer = await setting.log_in(browser, path="/login/provider?next=%2Ftimeline")
        assert answer.status_code == 200
        assert 'content="0;url=/timeline"' in answer.text
        page = await browser.get("/timeline")
        assert (page.status_code, "alice" in page.text) == (200, True)


async def test_provider_is_asked_as_the_standards_say(setting: Provided) -> None:
    async with setting.browser() as browser:
        parameters = await setting.begun(browser)
        assert parameters["redirect_uri"] == f"{LOOPBACK}/login/callback"
        assert parameters["scope"].split() == ["openid", "profile", "email"]
        assert (parameters["response_type"], parameters["code_challenge_method"]) == (
            *("code", "S256"),
        )
        assert min(len(parameters[each]) for each in ("state", "nonce")) == 43
        other = await setting.begun(browser)
        for name in ("state", "nonce", "code_challenge"):
            assert parameters[name] != other[name]
        back = await setting.agreed(other)
        assert (await browser.get(back)).status_code == 200
        request = setting.meddling.asked[-2]
        if request.url.path != TOKEN:
            request = next(r for r in setting.meddling.asked if r.url.path == TOKEN)
        sent = httpx.QueryParams(request.content.decode())
        digest = hashlib.sha256(sent["code_verifier"].encode()).digest()
        assert urlsafe_b64encode(digest).rstrip(b"=").decode() == other["code_challenge"]
        assert sent["client_secret"] == setting.provider.client_secret
        assert "cookie" not in request.headers


async def test_cookie_of_the_log_in_is_short_and_holds_no_secret_of_it(setting: Provided) -> None:
    async with setting.browser() as browser:
        answer = await browser.get("/login/provider")
        cookie = answer.headers["set-cookie"]
        assert "Max-Age=600" in cookie
        assert "SameSite=lax" in cookie
        assert "HttpOnly" in cookie
        parameters = httpx.URL(answer.headers["location"]).params
        assert parameters["nonce"] not in cookie


async def test_client_without_a_secret_and_one_that_uses_basic_log_in_too() -> None:
    async with provided(client_secret=None) as setting, setting.browser() as browser:
        assert (await setting.log_in(browser)).status_code == 200
    async with provided() as setting, setting.browser() as browser:
        setting.meddling.changes[DISCOVERY] = lambda document: document.pop(
            "token_endpoint_auth_methods_supported"
        )
        assert (await setting.log_in(browser)).status_code == 200
        asked = next(r for r in setting.meddling.asked if r.url.path == TOKEN)
        assert asked.headers["authorization"].startswith("Basic ")
        assert "client_secret" not in asked.content.decode()


# --- roles ---


async def test_role_follows_from_a_claim(setting: Provided) -> None:
    for sub, role in {"auth0|alice": "operator", "auth0|bob": "viewer"}.items():
        async with setting.browser() as browser:
            await setting.log_in(browser, sub)
            assert f'<span class="role">{role}</span>' in (await browser.get("/keys")).text


async def test_person_without_a_role_reads_what_is_missing(setting: Provided) -> None:
    async with setting.browser() as browser:
        answer = await setting.log_in(browser, "auth0|eve")
        require_refused(answer, browser, "you have no role in this console")
        assert "&#39;alice@users.test&#39; in &#39;email&#39; for operator" in answer.text


async def test_role_may_come_from_a_function_and_from_an_array() -> None:
    def roles(claims: Mapping[str, Any]) -> Any:
        return {"auth0|alice": "operator", "auth0|bob": "admin"}.get(claims["sub"])

    async with provided(roles=roles) as setting:
        for sub, status in {"auth0|alice": 200, "auth0|bob": 403, "auth0|eve": 403}.items():
            async with setting.browser() as browser:
                assert (await setting.log_in(browser, sub)).status_code == status
    async with provided(roles={"groups": {"sre": "operator", "dev": "viewer"}}) as setting:
        for groups, status in {("dev", "sre"): 200, ("sreX",): 403}.items():
            async with setting.browser() as browser:
                answer = await answered_with(setting, browser, groups=groups)
                assert answer.status_code == status
        async with setting.browser() as browser:
            answer = await answered_with(setting, browser, groups={"sre": True})
            require_refused(answer, browser, "no role")


@pytest.mark.parametrize("verified", [False, None, "true", 1])
async def test_address_that_is_not_verified_gives_no_role(setting: Provided, verified: Any) -> None:
    """Whoever signs up with the address of an operator is none."""
    async with setting.browser() as browser:
        answer = await answered_with(setting, browser, email_verified=verified)
        require_refused(answer, browser, "no role")


# --- attacks on the way back ---


async def test_answer_for_another_browser_logs_nobody_in(setting: Provided) -> None:
    """Login CSRF: the attacker's code in the victim's browser."""
    async with setting.browser() as attacker, setting.browser() as victim:
        back = await setting.agreed(await setting.begun(attacker))
        require_refused(await victim.get(back), victim, "This browser has begun no log-in")
        await setting.begun(victim)
        require_refused(await victim.get(back), victim, "does not belong to the log-in")
        assert (await attacker.get(back)).status_code == 200


async def test_answer_is_taken_once(setting: Provided) -> None:
    async with setting.browser() as browser:
        parameters = await setting.begun(browser)
        kept = dict(browser.client.cookies)
        back = await setting.agreed(parameters)
        assert (await browser.get(back)).status_code == 200
        browser.client.cookies.clear()
        require_refused(await browser.get(back), browser, "This browser has begun no log-in")
        browser.client.cookies.update(kept)
        answer = await browser.get(
            back
        )  # with the cookie of then: the provider takes no code twice
        require_refused(answer, browser, "invalid_grant", 502)


@pytest.mark.parametrize("state", ["", "x", None])
async def test_answer_without_its_state_is_refused(setting: Provided, state: str | None) -> None:
    async with setting.browser() as browser:
        back = httpx.URL(await setting.agreed(await setting.begun(browser)))
        url = (
            back.copy_remove_param("state")
            if state is None
            else back.copy_set_param("state", state)
        )
        require_refused(await browser.get(str(url)), browser, "does not belong to the log-in")


async def test_forged_cookie_of_a_log_in_is_refused(setting: Provided) -> None:
    async with setting.browser() as browser:
        back = await setting.agreed(await setting.begun(browser))
        cookie = browser.client.cookies["jwks_guard_login"]
        payload, rest = cookie.split(".", 1)
        for forged in ("", "x", f"{payload[:-1]}.{rest}", cookie[:-3], payload):
            headers = [(b"cookie", f"jwks_guard_login={forged}".encode())]
            browser.client.cookies.clear()
            answer = await browser.client.get(back, headers=headers)
            require_refused(answer, browser, "This browser has begun no log-in")


async def test_answer_of_another_provider_is_refused(setting: Provided) -> None:
    async with setting.browser() as browser:
        back = await setting.agreed(await setting.begun(browser))
        answer = await browser.get(f"{back}&iss=https%3A%2F%2Fevil.test%2F")
        require_refused(answer, browser, "another provider")
    async with setting.browser() as browser:
        back = await setting.agreed(await setting.begun(browser))
        assert (await browser.get(f"{back}&iss={setting.provider.issuer}")).status_code == 200


async def test_provider_that_says_it_names_itself_has_to(setting: Provided) -> None:
    setting.meddling.changes[DISCOVERY] = lambda document: document.update(
        authorization_response_iss_parameter_supported=True
    )
    async with setting.browser() as browser:
        back = await setting.agreed(await setting.begun(browser))
        require_refused(await browser.get(back), browser, "another provider")


async def test_answers_that_are_made_up_do_not_reach_the_provider_at_speed(
    setting: Provided,
) -> None:
    async with setting.browser() as browser:
        state = (await setting.begun(browser))["state"]
        before = len(setting.meddling.asked)
        answers = [
            await browser.get(f"/login/callback?state={state}&code=made-up", cookie=cookie)
            for cookie in ["; ".join(f"{c.name}={c.value}" for c in browser.client.cookies.jar)]
            * 20
        ]
        assert [answer.status_code for answer in answers][-1] == 429
        assert "Wait 12 seconds" in answers[-1].text
        assert len(setting.meddling.asked) <= before + 5


async def test_session_is_a_new_one(setting: Provided) -> None:
    async with setting.browser() as attacker, setting.browser() as victim:
        await setting.log_in(attacker, "auth0|bob")
        victim.client.cookies.set(
            "jwks_guard_session", attacker.session() or "", domain="127.0.0.1"
        )
        await setting.log_in(victim)
        assert (await attacker.get("/keys")).status_code == 303
        assert "alice" in (await victim.get("/keys")).text


@pytest.mark.parametrize("target", ["https://evil.test/", "//evil.test", "/\\evil.test", '/"><p>'])
async def test_log_in_ends_at_a_page_of_the_console(setting: Provided, target: str) -> None:
    async with setting.browser() as browser:
        query = httpx.QueryParams({"next": target})
        answer = await setting.log_in(browser, path=f"/login/provider?{query}")
        assert answer.status_code == 200
        assert "evil" not in answer.text
        assert '<p>"' not in answer.text


# --- the ID token ---


async def test_id_token_as_it_should_be_is_accepted(setting: Provided) -> None:
    """The attacks below differ from this in one thing each."""
    async with setting.browser() as browser:
        assert (await answered_with(setting, browser)).status_code == 200
    for more in ({"azp": setting.provider.client_id}, {"aud": [setting.provider.client_id]}):
        async with setting.browser() as browser:
            assert (await answered_with(setting, browser, **more)).status_code == 200


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"aud": "another-client"}, "aud"),
        ({"aud": None}, "aud"),
        ({"azp": "another-client"}, "another application"),
        ({"nonce": "x" * 43}, "another log-in"),
        ({"nonce": None}, "another log-in"),
        ({"nonce": 7}, "another log-in"),
        ({"iss": "https://evil.test/"}, "iss"),
        ({"exp": 1}, "expired"),
        ({"exp": None}, "exp"),
        ({"iat": None}, "iat"),
        ({"sub": None}, "sub"),
        ({"sub": ""}, "sub"),
        ({"header": {"alg": "none"}}, "alg"),
        ({"header": {"alg": "HS256"}}, "alg"),
        ({"header": {"typ": "at+jwt"}}, "typ"),
        ({"kid": "nobody-has-this"}, "key"),
    ],
)
async def test_id_token_that_is_not_for_this_log_in_is_refused(
    setting: Provided, changes: dict[str, Any], why: str
) -> None:
    async with setting.browser() as browser:
        answer = await answered_with(setting, browser, **changes)
        require_refused(answer, browser, "The ID token is not accepted.")
        assert why in answer.text


async def test_keys_of_the_provider_that_can_not_be_had_are_no_fault_of_the_token(
    setting: Provided,
) -> None:
    jwks = "/.well-known/jwks.json"
    setting.meddling.changes[jwks] = lambda _: httpx.Response(503)
    async with setting.browser() as browser:
        answer = await setting.log_in(browser)
        require_refused(answer, browser, "The provider&#39;s keys can&#39;t be had", 503)


async def test_id_token_for_several_audiences_says_that_it_is_ours(setting: Provided) -> None:
    audiences = [setting.provider.client_id, "another-client"]
    async with setting.browser() as browser:
        answer = await answered_with(setting, browser, aud=audiences)
        require_refused(answer, browser, "another application")
        answer = await answered_with(
            setting, browser, aud=audiences, azp=setting.provider.client_id
        )
        assert answer.status_code == 200


async def test_forged_id_token_is_refused(setting: Provided) -> None:
    async with setting.browser() as browser:
        forger = setting.provider.new_key()
        kid = setting.provider.key().kid
        answer = await answered_with(setting, browser, key=forger, kid=kid)
        require_refused(answer, browser, "The ID token is not accepted.")


async def test_access_token_is_no_id_token(setting: Provided) -> None:
    async with setting.browser() as browser:
        setting.meddling.changes[TOKEN] = lambda document: document.update(
            id_token=document["access_token"]
        )
        require_refused(await setting.log_in(browser), browser, "The ID token is not accepted.")


# --- a provider that fails ---


def plain(status: int, body: bytes = b"<h1>oops</h1>") -> Edit:
    return lambda _: httpx.Response(status, content=body)


@pytest.mark.parametrize(
    ("path", "change", "why"),
    [
        (DISCOVERY, plain(500), "answered 500 to its metadata"),
        (DISCOVERY, plain(200), "no JSON object"),
        (DISCOVERY, plain(302), "answered 302"),
        (DISCOVERY, lambda d: d.update(issuer="https://evil.test/"), "name the issuer"),
        (DISCOVERY, lambda d: d.pop("token_endpoint"), "token_endpoint can&#39;t be used"),
        (
            DISCOVERY,
            lambda d: d.update(authorization_endpoint="http://staff.test/authorize"),
            "authorization_endpoint can&#39;t be used: it is not https",
        ),
        (DISCOVERY, lambda d: d.update(authorization_endpoint="javascript:alert(1)"), "no host"),
        (TOKEN, plain(503), "answered 503 to the token request"),
        (TOKEN, lambda d: d.pop("id_token"), "no ID token"),
        (TOKEN, lambda d: d.update(id_token=7), "no ID token"),
        (TOKEN, plain(200, b"[]"), "no JSON object"),
    ],
)
async def test_provider_that_fails_is_told_as_it_is(
    setting: Provided, path: str, change: Edit, why: str
) -> None:
    setting.meddling.changes[path] = change
    async with setting.browser() as browser:
        answer = await browser.get("/login/provider")
        if path == TOKEN:
            answer = await setting.log_in(browser)
        require_refused(answer, browser, why, 502)
        assert "You are not logged in." in answer.text
        assert "<h1>oops" not in answer.text
        assert setting.provider.client_secret not in answer.text


async def test_refusal_of_the_provider_is_shown_as_text(setting: Provided) -> None:
    async with setting.browser() as browser:
        state = (await setting.begun(browser))["state"]
        query = httpx.QueryParams(
            {"state": state, "error": "access_denied", "error_description": "<b>no\nentry</b>" * 99}
        )
        answer = await browser.get(f"/login/callback?{query}")
        require_refused(answer, browser, "access_denied: &lt;b&gt;no entry&lt;/b&gt;", 502)
        assert len(answer.text) < 9_000


async def test_text_in_a_link_is_not_shown_as_the_providers(setting: Provided) -> None:
    async with setting.browser() as browser:
        answer = await browser.get("/login/callback?error=call+0900-12345&state=x")
        require_refused(answer, browser, "begun no log-in")
        assert "0900" not in answer.text


async def test_provider_that_is_not_reached_is_told_as_that() -> None:
    def unreachable(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("no route")

    def client() -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.MockTransport(unreachable))

    async with provided(http_client=client) as setting, setting.browser() as browser:
        answer = await browser.get("/login/provider")
        require_refused(answer, browser, "it can&#39;t be reached", 502)


async def test_address_of_the_console_does_not_follow_from_the_host_header() -> None:
    async with provided() as setting, setting.stage.browser(base_url="https://ops.test") as browser:
        answer = await browser.get("/login/provider")
        require_refused(answer, browser, "does not know its own address", 500)
    uri = "https://ops.test/login/callback"
    async with (
        provided(redirect_uri=uri) as setting,
        setting.stage.browser(base_url="https://ops.test") as browser,
    ):
        answer = await browser.get("/login/provider", host="evil.test")
        assert httpx.URL(answer.headers["location"]).params["redirect_uri"] == uri


# --- the key that must not guard its own revocation ---


async def act(setting: Provided, browser: Browser, **more: str) -> httpx.Response:
    """Have the tenant's current key refused."""
    kid = setting.stage.scene.tenant.key().kid
    await browser.get("/keys")
    fields = {"subject": kid, "reason": "leaked", "how": "forced", "ending": ending(kid)}
    return await browser.post(dialog(kid, "distrust"), {**browser.fields, **fields, **more})


async def accepted(setting: Provided) -> bool:
    stage = setting.stage
    return await verdict(stage.verifier, stage.scene.tenant.token()) == "accepted"


async def test_operator_of_another_provider_acts_by_the_log_in_alone(setting: Provided) -> None:
    async with setting.browser() as browser:
        await setting.log_in(browser)
        assert (await act(setting, browser)).status_code == 200
        assert not await accepted(setting)
        actor = setting.stage.scene.events[-1].intent.actor
        assert actor == f"auth0|alice of {setting.provider.issuer}"


async def test_log_in_at_the_guarded_issuer_only_looks() -> None:
    """The leaked key signs an ID token for anybody: see that it opens the console, and no more."""
    async with provided(guarded=True) as setting, setting.browser() as browser:
        assert (await answered_with(setting, browser)).status_code == 200
        assert '<span class="role">viewer</span>' in (await browser.get("/keys")).text
        answer = await act(setting, browser)
        assert answer.status_code == 403
        assert "operator_secret" in answer.text
        assert await accepted(setting)


async def test_log_in_at_the_guarded_issuer_acts_with_the_operator_secret() -> None:
    async with provided(guarded=True, operator_secret=OPERATOR) as setting:
        kid = setting.provider.key().kid
        async with setting.browser() as browser:
            await setting.log_in(browser)
            page = await browser.get(dialog(kid, "distrust"))
            assert "Operator secret" in page.text
            for secret in ("", "a-guess-of-a-secret"):
                answer = await act(setting, browser, secret=secret)
                assert answer.status_code == 400
                assert "The operator secret is wrong." in answer.text
                assert await accepted(setting)
            assert (await act(setting, browser, secret=OPERATOR)).status_code == 200
            assert not await accepted(setting)


async def test_operator_secret_is_not_guessed_at_speed_in_a_dialog(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with (
        provided(guarded=True, operator_secret=OPERATOR) as setting,
        setting.browser() as browser,
    ):
        await setting.log_in(browser)
        statuses = [(await act(setting, browser, secret="guess")).status_code for _ in range(9)]
        assert statuses == [400] * 5 + [429] * 4
        told = [r.__dict__ for r in caplog.records if getattr(r, "kind", "") == "console_action"]
        assert [each["result"] for each in told] == ["refused"] * 9
        assert told[0]["detail"] == "The operator secret is wrong."
        assert "guess" not in caplog.text
        assert (await act(setting, browser, secret=OPERATOR)).status_code == 429
        assert await accepted(setting)


async def test_custom_domain_with_the_guarded_keys_only_looks(setting: Provided) -> None:
    """An issuer of another name that publishes the same keys is the same key all the same."""
    guarded = setting.stage.scene.tenant.key()
    setting.provider.publish(guarded)
    async with setting.browser() as browser:
        assert (await answered_with(setting, browser, key=guarded)).status_code == 200
        answer = await act(setting, browser)
        assert (answer.status_code, "operator_secret" in answer.text) == (403, True)
        assert await accepted(setting)


async def test_session_ends_when_the_key_of_its_id_token_is_distrusted() -> None:
    async with provided(guarded=True, operator_secret=OPERATOR) as setting:
        kid = setting.provider.key().kid
        async with setting.browser() as browser, setting.browser() as other:
            await setting.log_in(browser)
            await setting.log_in(other)
            assert (await act(setting, browser, secret=OPERATOR)).status_code == 200
            for each in (browser, other):
                assert (await each.get("/keys")).status_code == 303
                assert "ID token" in (await each.get("/login")).text
            answer = await setting.log_in(other)
            require_refused_again(answer)
            assert setting.stage.verifier.distrusted.keys() == {kid}


def require_refused_again(answer: httpx.Response) -> None:
    assert answer.status_code == 403
    assert "distrusted" in answer.text


async def test_session_ends_when_another_process_distrusts_the_key_of_its_id_token(
    setting: Provided,
) -> None:
    """The console's own verifier does not hear of it: the fleet shows it."""
    kid, fleet = setting.provider.key().kid, FakeFleet()
    clock = setting.stage.scene.clock
    app = console(None, fleet, login=setting.login, clock=clock)
    async with running(app), setting.stage.browser(app=app, base_url=LOOPBACK) as browser:
        await setting.log_in(browser)
        assert (await browser.get("/keys")).status_code == 200
        fleet.decisions[kid] = Distrusted(fleet.issuer, kid, "leaked", at=clock.time())
        clock.advance(3)
        await browser.get("/keys")  # which looks at the fleet
        assert (await browser.get("/keys")).status_code == 303
        assert "The key that signed your ID token is refused" in (await browser.get("/login")).text


async def test_session_ends_when_its_provider_withdraws_the_key(setting: Provided) -> None:
    provider = setting.provider
    async with setting.browser() as browser:
        await setting.log_in(browser)
        kid = provider.key().kid
        provider.rotate()
        setting.stage.scene.clock.advance(300)
        async with setting.browser() as other:  # whose ID token is by the next key
            await setting.log_in(other)
            assert (await browser.get("/keys")).status_code == 200  # still published
            provider.revoke(kid)
            setting.stage.scene.clock.advance(300)
            await setting.refreshed()
            assert (await browser.get("/keys")).status_code == 303
            assert "The provider has withdrawn the key" in (await browser.get("/login")).text
            assert (await other.get("/keys")).status_code == 200


async def test_outage_of_the_provider_and_the_end_of_the_id_token_end_no_session(
    setting: Provided,
) -> None:
    async with setting.browser() as browser:
        await setting.log_in(browser)
        for _ in range(20):
            setting.stage.scene.clock.advance(1200)  # past the trust in the provider's keys
            assert (await browser.get("/keys")).status_code == 200


# --- arguments ---


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"roles": None}, "roles must be"),
        ({"roles": {}}, "roles must be"),
        ({"roles": {"groups": {}}}, "roles must be"),
        ({"roles": {"groups": {"sre": "admin"}}}, "roles must be"),
        ({"roles": {"groups": "operator"}}, "roles must be"),
        ({"scopes": ["profile"]}, "openid"),
        ({"scopes": "openid"}, "openid"),
        ({"redirect_uri": "http://ops.test/login/callback"}, "redirect_uri"),
        ({"redirect_uri": "https://ops.test/"}, "does not end in /login/callback"),
        ({"redirect_uri": "https://ops.test/login/callback?x=1"}, "query"),
        ({"redirect_uri": 7}, "redirect_uri"),
        ({"client_id": ""}, "client_id"),
        ({"client_secret": ""}, "client_secret"),
        ({"operator_secret": "short"}, "16 characters"),
        ({"issuer": "http://staff.test/"}, "https"),
        ({"http_client": 7}, "http_client"),
    ],
)
def test_argument_that_can_not_be_used_is_named(options: dict[str, Any], why: str) -> None:
    usual: dict[str, Any] = {
        "issuer": "https://staff.test/",
        "client_id": "console",
        "roles": ROLES,
    }
    with pytest.raises(ConfigurationError, match=why):
        OpenIDConnect(**{**usual, **options})
