"""Logging in at a tenant: the page, the code, the tokens, and what a stranger can't do."""

from __future__ import annotations

import hashlib
import re
from html.parser import HTMLParser
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import httpx
import jwt
import pytest
from jwt.utils import base64url_encode

from jwks_guard.testing import LocalTenant, ManualClock

CALLBACK = "http://localhost:8000/docs/oauth2-redirect"
VERIFIER = "v" * 43
PAGE = "http://localhost:8000"


def challenge(verifier: str) -> str:
    return base64url_encode(hashlib.sha256(verifier.encode()).digest()).decode()


def query(tenant: LocalTenant, **changes: str | None) -> dict[str, str]:
    """An authorization request as Swagger UI sends it; None leaves a parameter out."""
    asked: dict[str, str | None] = {
        "response_type": "code",
        "client_id": tenant.client_id,
        "redirect_uri": CALLBACK,
        "scope": "openid profile read:things",
        "state": "s t&te",
        "code_challenge": challenge(VERIFIER),
        "code_challenge_method": "S256",
        **changes,
    }
    return {name: value for name, value in asked.items() if value is not None}


class Form(HTMLParser):
    """The fields of the form on a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.fields: dict[str, str] = {}
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "input":
            self.fields[found["name"] or ""] = found["value"] or ""


async def logged_in(
    client: httpx.AsyncClient, asked: dict[str, str], **typed: str
) -> dict[str, str]:
    """The parameters that come back to the callback after one click."""
    page = await client.get("/authorize", params=asked)
    assert page.status_code == 200
    answer = await client.post("/authorize", data={**Form(page.text).fields, **typed})
    assert answer.status_code == 303
    target = urlsplit(answer.headers["Location"])
    assert target._replace(query="").geturl() == asked["redirect_uri"]
    return dict(parse_qsl(target.query))


async def redeemed(
    client: httpx.AsyncClient, tenant: LocalTenant, issued: str, **changes: str | None
) -> httpx.Response:
    """The answer to the code, as a public client asks; None leaves a parameter out."""
    asked: dict[str, str | None] = {
        "grant_type": "authorization_code",
        "client_id": tenant.client_id,
        "code": issued,
        "redirect_uri": CALLBACK,
        "code_verifier": VERIFIER,
        **changes,
    }
    data = {name: value for name, value in asked.items() if value is not None}
    return await client.post("/oauth/token", data=data)


def payload(compact: str) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(compact, options={"verify_signature": False})
    return claims


async def test_one_click_gives_a_code_and_the_code_gives_tokens(
    tenant: LocalTenant, client: httpx.AsyncClient
) -> None:
    back = await logged_in(client, query(tenant, nonce="n-1"))
    assert list(back) == ["code", "state"]
    assert back["state"] == "s t&te"
    answer = await redeemed(client, tenant, back["code"])
    granted = answer.json()
    assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "no-store")
    assert (granted["token_type"], granted["expires_in"]) == ("Bearer", 86_400)
    assert granted["scope"] == "openid profile read:things"
    assert payload(granted["access_token"]) == {
        "iss": tenant.issuer,
        "sub": "auth0|alice",
        "aud": [tenant.audience, tenant.issuer + "userinfo"],
        "iat": 1_750_000_000,
        "exp": 1_750_086_400,
        "scope": "openid profile read:things",
        "azp": tenant.client_id,
    }
    assert payload(granted["id_token"]) == {
        "iss": tenant.issuer,
        "aud": tenant.client_id,
        "iat": 1_750_000_000,
        "exp": 1_750_086_400,
        "nonce": "n-1",
        "sub": "auth0|alice",
        "name": "alice",
        "nickname": "alice",
    }
    keys = jwt.PyJWKSet.from_dict(tenant.jwks())
    for compact in (granted["access_token"], granted["id_token"]):
        kid = jwt.get_unverified_header(compact)["kid"]
        jwt.decode(compact, keys[kid], options={"verify_aud": False, "verify_exp": False})


async def test_user_and_scopes_can_be_changed_on_the_page(
    tenant: LocalTenant, client: httpx.AsyncClient
) -> None:
    asked = query(tenant, scope="read:things offline_access")
    back = await logged_in(client, asked, sub="auth0|bob", scope="write:things")
    granted = (await redeemed(client, tenant, back["code"])).json()
    claims = payload(granted["access_token"])
    assert (claims["sub"], claims["scope"], claims["aud"]) == (
        "auth0|bob",
        "write:things",
        tenant.audience,
    )
    assert "id_token" not in granted


async def test_refresh_tokens_are_not_granted(
    tenant: LocalTenant, client: httpx.AsyncClient
) -> None:
    back = await logged_in(client, query(tenant, scope="offline_access read:things"))
    granted = (await redeemed(client, tenant, back["code"])).json()
    assert granted["scope"] == "read:things"
    assert "refresh_token" not in granted


async def test_login_without_state_comes_back_without_state(
    tenant: LocalTenant, client: httpx.AsyncClient
) -> None:
    assert list(await logged_in(client, query(tenant, state=None))) == ["code"]
    assert list(await logged_in(client, query(tenant, state=""))) == ["code"]


@pytest.mark.parametrize(
    "uri",
    [
        "http://localhost",
        "http://localhost/",
        "http://127.0.0.1:1/cb?a=b",
        "https://[::1]:65535/x",
        "http://127.255.255.254:80?x",
    ],
)
async def test_any_port_and_path_of_loopback_is_a_place_to_come_back_to(
    tenant: LocalTenant, client: httpx.AsyncClient, uri: str
) -> None:
    asked = query(tenant, redirect_uri=uri)
    answer = await client.post("/authorize", data=asked)
    location = answer.headers["Location"]
    assert location.startswith(uri + ("&" if "?" in uri else "?") + "code=")


@pytest.mark.parametrize(
    "uri",
    [
        "https://evil.test/",
        "http://localhost.evil.test/",
        "http://localhost@evil.test/",
        "http://evil.test\\@localhost/",
        "http://localhost\\@evil.test/",
        "http://localhost:80@evil.test/",
        "http://localhost:x/",
        "http://localhost:8000/#fragment",
        "http://localhost\t.evil.test/",
        "http://localhost/\r\nSet-Cookie: a=b",
        "http://127.0.0.1.evil.test/",
        "http://0.0.0.0/",
        "http://[::]/",
        "http://2130706433/",
        "//localhost/",
        "javascript:alert(1)//localhost",
        "data:text/html,localhost",
        "http:localhost",
        "http:///localhost/",
        "HTTP://localhost/\u2028",
        " http://localhost/",
        "http://localhost/ ",
        "http://l\u00f6calhost/",
        "",
    ],
)
@pytest.mark.parametrize("error", [False, True])
async def test_foreign_redirect_uri_gets_a_page_and_no_redirect(
    tenant: LocalTenant, client: httpx.AsyncClient, uri: str, error: bool
) -> None:
    changes = {"response_type": "token"} if error else {}  # which else is an error that goes back
    asked = query(tenant, redirect_uri=uri, **changes)
    for answer in (
        await client.get("/authorize", params=asked),
        await client.post("/authorize", data=asked),
    ):
        assert answer.status_code == 400
        assert "Location" not in answer.headers
        assert "redirect_uri has to be" in answer.text


async def test_foreign_client_and_repeated_parameters_get_a_page(
    tenant: LocalTenant, client: httpx.AsyncClient
) -> None:
    for asked in (
        query(tenant, client_id="other"),
        query(tenant, client_id=None),
        query(tenant, redirect_uri=None),
    ):
        answer = await client.get("/authorize", params=asked)
        assert (answer.status_code, answer.headers.get("Location")) == (400, None)
    twice = httpx.QueryParams(query(tenant)).add("redirect_uri", "https://evil.test/")
    answer = await client.get("/authorize", params=twice)
    assert (answer.status_code, "repeated" in answer.text) == (400, True)
    flood = "&".join(f"p{number}=x" for number in range(1_000))
    assert (await client.get(f"/authorize?{flood}")).status_code == 400


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": None}, "unsupported_response_type"),
        ({"response_mode": "web_message"}, "invalid_request"),
        ({"prompt": "none"}, "login_required"),
        ({"scope": 'a"b'}, "invalid_scope"),
        ({"scope": "\u00e4"}, "invalid_scope"),
        ({"audience": "https://unknown.test"}, "access_denied"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"code_challenge": "+" * 43}, "invalid_request"),
    ],
)
async def test_other_errors_go_back_to_the_client_with_its_state(
    tenant: LocalTenant, client: httpx.AsyncClient, changes: dict[str, str | None], error: str
) -> None:
    answer = await client.get("/authorize", params=query(tenant, **changes))
    assert answer.status_code == 303
    back = parse_qs(urlsplit(answer.headers["Location"]).query)
    assert (back["error"], back["state"]) == ([error], ["s t&te"])
    assert "code" not in back


async def test_no_login_gives_a_token_for_the_management_api(
    tenant: LocalTenant, client: httpx.AsyncClient
) -> None:
    asked = query(tenant, audience=tenant.management_audience)
    answer = await client.post("/authorize", data=asked)
    assert "error=access_denied" in answer.headers["Location"]


@pytest.mark.parametrize(
    "changes",
    [
        {"code_verifier": "w" * 43},
        {"code_verifier": "v" * 42},
        {"code_verifier": challenge(VERIFIER)},
        {"redirect_uri": "http://localhost:8000/other"},
        {"redirect_uri": None},
        {"code": "guess"},
        {"code": None},
    ],
)
async def test_code_is_refused_to_who_did_not_begin_the_login_and_is_used_up(
    tenant: LocalTenant, client: httpx.AsyncClient, changes: dict[str, str | None]
) -> None:
    code = (await logged_in(client, query(tenant)))["code"]
    answer = await redeemed(client, tenant, code, **changes)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")
    expected = 200 if "code" in changes else 400
    assert (await redeemed(client, tenant, code)).status_code == expected


@pytest.mark.parametrize(
    "changes",
    [
        {"client_id": "other"},
        {"client_id": None},
        {"code_verifier": None},
        {"client_secret": "guess"},
        {"client_assertion": "x"},
    ],
)
async def test_client_that_is_not_the_one_does_not_get_as_far_as_the_code(
    tenant: LocalTenant, client: httpx.AsyncClient, changes: dict[str, str | None]
) -> None:
    code = (await logged_in(client, query(tenant)))["code"]
    assert (await redeemed(client, tenant, code, **changes)).status_code in (400, 401)
    assert (await redeemed(client, tenant, code)).status_code == 200


async def test_code_is_good_once(tenant: LocalTenant, client: httpx.AsyncClient) -> None:
    code = (await logged_in(client, query(tenant)))["code"]
    statuses = [(await redeemed(client, tenant, code)).status_code for _ in range(2)]
    assert statuses == [200, 400]


@pytest.mark.parametrize(("seconds", "status"), [(59, 200), (60, 400)])
async def test_code_is_good_for_a_minute(
    tenant: LocalTenant, client: httpx.AsyncClient, clock: ManualClock, seconds: int, status: int
) -> None:
    code = (await logged_in(client, query(tenant)))["code"]
    clock.advance(seconds)
    assert (await redeemed(client, tenant, code)).status_code == status


async def test_codes_that_nobody_redeems_are_dropped(
    tenant: LocalTenant, client: httpx.AsyncClient, request: pytest.FixtureRequest
) -> None:
    if "in process" not in request.node.name:
        return  # a thousand requests, and nothing of the socket in them
    first = (await logged_in(client, query(tenant)))["code"]
    for _ in range(1_000):
        last = (await client.post("/authorize", data=query(tenant))).headers["Location"]
    code = parse_qs(urlsplit(last).query)["code"][0]
    assert (await redeemed(client, tenant, first)).status_code == 400
    assert (await redeemed(client, tenant, code)).status_code == 200


NO_PKCE = {"code_challenge": None, "code_challenge_method": None}


async def test_login_without_pkce_needs_the_secret(
    tenant: LocalTenant, client: httpx.AsyncClient
) -> None:
    code = (await logged_in(client, query(tenant, **NO_PKCE)))["code"]
    public = await redeemed(client, tenant, code, code_verifier=None)
    assert public.status_code == 401
    secret = tenant.client_secret
    known = await redeemed(client, tenant, code, code_verifier=None, client_secret=secret)
    assert known.status_code == 200


async def test_verifier_of_a_login_whose_challenge_was_taken_out_is_refused(
    tenant: LocalTenant, client: httpx.AsyncClient
) -> None:
    """An attacker who can change the request must not turn PKCE off unnoticed."""
    code = (await logged_in(client, query(tenant, **NO_PKCE)))["code"]
    answer = await redeemed(client, tenant, code)
    assert answer.json()["error"] == "invalid_grant"


async def test_everything_on_the_page_is_escaped(
    tenant: LocalTenant, client: httpx.AsyncClient
) -> None:
    attack = "\"'><script>alert(1)</script>"
    uri = "http://localhost/<b>'"
    asked = query(tenant, redirect_uri=uri, state=attack, nonce=attack, sub=attack, scope="<i>&'")
    asked[attack] = attack
    page = await client.get("/authorize", params=asked)
    assert page.status_code == 200
    assert not re.search(r"<(script|b|i)>", page.text)
    assert Form(page.text).fields == {**asked, "sub": attack}
    assert "script-src" not in page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]


async def test_pages_are_neither_framed_nor_stored(
    tenant: LocalTenant, client: httpx.AsyncClient
) -> None:
    for asked in (query(tenant), {}):
        page = await client.get("/authorize", params=asked)
        assert page.headers["X-Frame-Options"] == "DENY"
        assert "frame-ancestors 'none'" in page.headers["Content-Security-Policy"]
        assert page.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("origin", ["https://evil.test", "null", PAGE])
async def test_form_of_another_page_is_not_taken(
    tenant: LocalTenant, client: httpx.AsyncClient, origin: str
) -> None:
    answer = await client.post("/authorize", data=query(tenant), headers={"Origin": origin})
    assert (answer.status_code, answer.headers.get("Location")) == (403, None)
    own = tenant.issuer.rstrip("/")
    answer = await client.post("/authorize", data=query(tenant), headers={"Origin": own})
    assert answer.status_code == 303


@pytest.mark.parametrize("host", ["evil.test", "evil.test:80", "localhost.evil.test", "", "[x"])
async def test_name_that_a_stranger_gave_to_this_machine_is_not_answered(
    tenant: LocalTenant, client: httpx.AsyncClient, host: str
) -> None:
    """DNS rebinding would let a page of that name read a code out of the redirect."""
    headers = {"Host": host}
    page = await client.get("/authorize", params=query(tenant), headers=headers)
    form = await client.post("/authorize", data=query(tenant), headers=headers)
    assert [page.status_code, form.status_code] == [400, 400]
    assert "Location" not in form.headers


@pytest.mark.parametrize(
    "path",
    [
        "/.well-known/openid-configuration",
        "/.well-known/jwks.json",
        "/oauth/token",
        "/userinfo",
    ],
)
async def test_pages_of_other_origins_may_call_what_a_login_needs(
    client: httpx.AsyncClient, path: str
) -> None:
    preflight = await client.options(
        path,
        headers={
            "Origin": PAGE,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization, x-requested-with",
        },
    )
    assert preflight.status_code == 200
    assert preflight.headers["Access-Control-Allow-Origin"] in ("*", PAGE)
    assert "POST" in preflight.headers["Access-Control-Allow-Methods"]
    allowed = preflight.headers["Access-Control-Allow-Headers"].lower()
    assert "x-requested-with" in allowed
    assert "Access-Control-Allow-Credentials" not in preflight.headers
    answer = await client.get(path, headers={"Origin": PAGE})
    assert answer.headers["Access-Control-Allow-Origin"] == "*"


@pytest.mark.parametrize("path", ["/authorize", "/testing/token", "/api/v2/keys/signing"])
async def test_pages_of_other_origins_may_read_nothing_else(
    tenant: LocalTenant, client: httpx.AsyncClient, path: str
) -> None:
    asked = {"Origin": PAGE, "Access-Control-Request-Method": "POST"}
    for answer in (
        await client.options(path, headers=asked),
        await client.get(path, params=query(tenant), headers={"Origin": PAGE}),
        await client.post(path, data=query(tenant), headers={"Origin": PAGE}),
    ):
        assert "Access-Control-Allow-Origin" not in answer.headers


async def test_userinfo_knows_the_user_of_a_token_with_openid(
    tenant: LocalTenant, client: httpx.AsyncClient, clock: ManualClock
) -> None:
    back = await logged_in(client, query(tenant, scope="openid email"))
    access = (await redeemed(client, tenant, back["code"])).json()["access_token"]
    authorization = {"Authorization": f"Bearer {access}"}
    assert (await client.get("/userinfo", headers=authorization)).json() == {
        "sub": "auth0|alice",
        "email": "alice@users.test",
        "email_verified": True,
    }
    clock.advance(86_400)
    assert (await client.get("/userinfo", headers=authorization)).status_code == 401


async def test_userinfo_refuses_other_tokens(
    tenant: LocalTenant, client: httpx.AsyncClient
) -> None:
    for token in ("x", "x.y.z", tenant.token(audience=[tenant.audience]), tenant.forged_token()):
        answer = await client.get("/userinfo", headers={"Authorization": f"Bearer {token}"})
        assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (
            401,
            'Bearer error="invalid_token"',
        )


async def test_discovery_says_what_there_is(tenant: LocalTenant, client: httpx.AsyncClient) -> None:
    document = (await client.get("/.well-known/openid-configuration")).json()
    assert document["authorization_endpoint"] == tenant.issuer + "authorize"
    assert document["userinfo_endpoint"] == tenant.issuer + "userinfo"
    assert document["response_types_supported"] == ["code"]
    assert document["code_challenge_methods_supported"] == ["S256"]
    assert document["grant_types_supported"] == ["authorization_code", "client_credentials"]
    assert "none" in document["token_endpoint_auth_methods_supported"]
