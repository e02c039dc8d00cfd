"""Listing and reading keys over real HTTP: what is sent, what is repeated, what is refused."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st

from jwks_guard import ConfigurationError
from jwks_guard.admin import (
    ClientCredentials,
    PrivateKeyJWT,
    SigningKeysClient,
    StaticToken,
)
from jwks_guard.admin.management import MAX_BODY_BYTES, base_url_of
from jwks_guard.errors import (
    ManagementAPIError,
    NotFoundError,
    RevocationRefusedError,
    UnauthorizedError,
    UnavailableError,
)
from jwks_guard.testing import LocalTenant
from tests.admin.support import (
    AUTH,
    BEARER,
    CREDENTIALS,
    HTML,
    KEY_SET,
    KEYS,
    TOKEN,
    Naps,
    Scripted,
    answer,
    client_of,
    grant,
    key_document,
    scripted,
)
from tests.process.programs import program
from tests.support import HandClock

NOW = HandClock().wall


@pytest.fixture(scope="module")
def command() -> Iterator[dict[str, str]]:
    """What `jwks-guard tenant --json` prints; it runs in a process of its own."""
    with program("-m", "jwks_guard", "tenant", "--port=0", "--json") as process:
        assert process.stdout is not None
        facts: dict[str, str] = json.loads(process.stdout.readline())
        yield facts


# --- against the command, in a process of its own ---


async def test_keys_of_the_command_are_listed_read_rotated_and_revoked(
    command: dict[str, str],
) -> None:
    auth = ClientCredentials(command["client_id"], command["client_secret"])
    async with SigningKeysClient(command["issuer"], auth=auth) as keys:
        before = {key.state: key.kid for key in await keys.list()}
        old = before["current"]
        new = await keys.rotate()
        after = {key.kid: key.state for key in await keys.list()}
        assert (after[before["next"]], after[new.kid]) == ("current", "next")
        assert after[old] == "previously used"
        assert await keys.published_kids() >= {old, before["next"], new.kid}
        revoked = await keys.revoke(old)
        assert (revoked.kid, revoked.state, revoked.inferred) == (old, "revoked", False)
        assert (await keys.get(old)).revoked_at is not None
        assert old not in await keys.published_kids(command["jwks_uri"])


async def test_static_token_of_the_command_works_until_its_key_is_revoked(
    command: dict[str, str],
) -> None:
    async with SigningKeysClient(command["issuer"], auth=static_token(command)) as keys:
        signer = next(key for key in await keys.list() if key.current)
        await keys.rotate()
        await keys.revoke(signer.kid)
        with pytest.raises(UnauthorizedError) as refused:
            await keys.get(signer.kid)
    assert refused.value.status == 401


async def test_command_takes_no_assertion_as_it_knows_no_key_of_the_client(
    command: dict[str, str],
) -> None:
    private = rsa.generate_private_key(65_537, 2_048)
    auth = PrivateKeyJWT(command["client_id"], private)
    async with SigningKeysClient(command["issuer"], auth=auth) as keys:
        with pytest.raises(UnauthorizedError) as refused:
            await keys.list()
    assert refused.value.error_code == "invalid_client"


async def test_refusals_of_the_command_are_the_typed_errors(command: dict[str, str]) -> None:
    auth = ClientCredentials(command["client_id"], command["client_secret"])
    async with SigningKeysClient(command["issuer"], auth=auth) as keys:
        with pytest.raises(NotFoundError):
            await keys.get("nobody")
        with pytest.raises(NotFoundError):
            await keys.revoke("nobody")
        for key in await keys.list():
            if key.current or key.next:
                with pytest.raises(RevocationRefusedError):
                    await keys.revoke(key.kid)


def static_token(facts: dict[str, str]) -> StaticToken:
    parameters = {
        "grant_type": "client_credentials",
        "client_id": facts["client_id"],
        "client_secret": facts["client_secret"],
        "audience": facts["management_audience"],
    }
    url = facts["issuer"] + "oauth/token"
    token = httpx.post(url, data=parameters, trust_env=False).json()["access_token"]
    return StaticToken(token)


# --- one good answer ---


async def test_list_gives_every_key_with_its_place(tenant: LocalTenant, naps: Naps) -> None:
    first = tenant.key().kid
    tenant.rotate()
    second = tenant.key().kid
    tenant.rotate()
    tenant.revoke(first)
    async with client_of(tenant, naps) as keys:
        listed = await keys.list()
        assert {key.kid: key.state for key in listed} == {
            tenant.key().kid: "current",
            tenant.key("next").kid: "next",
            second: "previously used",
            first: "revoked",
        }
        for key, own in zip(listed, tenant.signing_keys, strict=True):
            assert key.certificate == own.certificate
            assert await keys.get(key.kid) == key


async def test_call_sends_our_own_headers_and_the_token(
    keys: SigningKeysClient, server: Scripted
) -> None:
    server.on("GET", KEYS, answer(200, KEY_SET))
    await keys.list()
    (asked,) = server.asked
    assert dict(asked.headers) == {
        "host": server.url.removeprefix("http://").rstrip("/"),
        "accept": "application/json",
        "accept-encoding": "gzip, deflate",
        "user-agent": "jwks-guard",
        "authorization": f"Bearer {BEARER}",
    }


async def test_compressed_answer_is_read(keys: SigningKeysClient, server: Scripted) -> None:
    body = gzip.compress(json.dumps(KEY_SET).encode())
    server.on("GET", KEYS, answer(200, body, content_encoding="gzip"))
    assert len(await keys.list()) == 3


async def test_nothing_of_a_foreign_client_is_sent_or_followed_and_it_is_left_open(
    server: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login theirs password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    async with (
        scripted() as elsewhere,
        httpx.AsyncClient(
            base_url=f"{elsewhere.url}api",
            headers={"Authorization": "Bearer secret", "User-Agent": "theirs", "X-Key": "secret"},
            cookies={"session": "secret"},
            params={"token": "secret"},
            auth=("user", "secret"),
            timeout=None,
            follow_redirects=True,
        ) as theirs,
    ):
        server.on("GET", KEYS, answer(302, location=f"{elsewhere.url}keys", set_cookie="a=secret"))
        async with client_of(server, http_client=theirs, auth=CREDENTIALS) as keys:
            for _ in range(2):
                with pytest.raises(ManagementAPIError) as refused:
                    await keys.list()
        assert not theirs.is_closed
        assert elsewhere.asked == []
    assert refused.value.status == 302
    assert [asked.target for asked in server.asked] == [TOKEN, KEYS, KEYS]
    for asked in server.asked:
        assert {"cookie", "x-key"}.isdisjoint(asked.headers)
        assert "secret" not in repr(asked.headers) + asked.target
        assert asked.headers["user-agent"] == "jwks-guard"
    sent = [asked.headers.get("authorization") for asked in server.asked]
    assert sent == [None, f"Bearer {BEARER}", f"Bearer {BEARER}"]


async def test_client_of_our_own_is_closed_with_the_keys_client(server: Scripted) -> None:
    server.on("GET", KEYS, answer(200, KEY_SET))
    async with SigningKeysClient(server.url, auth=AUTH) as keys:
        await keys.list()
    await keys.aclose()
    with pytest.raises(ConfigurationError, match="closed"):
        await keys.list()
    assert server.count("GET") == 1


# --- redirects ---


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_token_and_secret_are_not_carried_along_a_redirect(status: int) -> None:
    async with scripted() as elsewhere, scripted() as server:
        away = answer(status, location=f"{elsewhere.url}oauth/token")
        for path, replies in ((KEYS, [away]), (TOKEN, [grant(), away])):
            method = "GET" if path == KEYS else "POST"
            server.on(method, path, *replies)
        for _ in range(2):
            async with client_of(server, auth=CREDENTIALS) as keys:
                with pytest.raises(ManagementAPIError) as refused:
                    await keys.list()
            assert refused.value.status == status
        assert elsewhere.asked == []
        assert [asked.target for asked in server.asked] == [TOKEN, KEYS, TOKEN]


@pytest.mark.parametrize(
    "location",
    [
        *("", "//", "http://[::1", "http://[v1.x]/", "https://xn--0.b/", "http://a:99999/", "\\"),
        *("https://" + "a" * 70_000, "http://\xff/", "javascript:alert(1)", "ftp:"),
    ],
)
async def test_location_that_is_no_address_is_an_answer_like_another(
    keys: SigningKeysClient, server: Scripted, location: str
) -> None:
    server.on("GET", KEYS, answer(302, location=location))
    with pytest.raises(ManagementAPIError):
        await keys.list()


# --- the domain ---


@pytest.mark.parametrize(
    ("domain", "url"),
    [
        ("acme.eu.auth0.com", "https://acme.eu.auth0.com/"),
        ("acme.eu.auth0.com/", "https://acme.eu.auth0.com/"),
        ("ACME.EU.Auth0.com", "https://acme.eu.auth0.com/"),
        ("https://acme.eu.auth0.com", "https://acme.eu.auth0.com/"),
        ("HTTPS://acme.eu.auth0.com/", "https://acme.eu.auth0.com/"),
        ("login.acme.com:8443", "https://login.acme.com:8443/"),
        ("xn--bcher-kva.example", "https://xn--bcher-kva.example/"),
        ("http://127.0.0.1:3000", "http://127.0.0.1:3000/"),
        ("http://localhost:3000/", "http://localhost:3000/"),
        ("http://[::1]:3000", "http://[::1]:3000/"),
        ("localhost:3000", "https://localhost:3000/"),
    ],
)
def test_domain_may_be_a_host_or_a_url(domain: str, url: str) -> None:
    assert base_url_of(domain) == url
    assert SigningKeysClient(domain, auth=AUTH).base_url == url


@pytest.mark.parametrize(
    "domain",
    [
        *(None, 5, b"acme.auth0.com", "", "/", "acme", "https://", "https://acme"),
        *("http://acme.auth0.com", "ftp://acme.auth0.com", "http://127.0.0.1.evil.test"),
        *("https://user:pass@acme.auth0.com", "user@acme.auth0.com", "acme.auth0.com/api/v2"),
        *("acme.auth0.com?x", "acme.auth0.com/?", "acme.auth0.com#x", "acme.auth0.com//"),
        *("acme.auth0.com\n", " acme.auth0.com", "acme.auth0.com\r\nX: y", "acme\\.auth0.com"),
        *("acme.auth0.com:port", "acme.auth0.com:99999", "[::1", "[v1.x]", "xn--0.b"),
        *("b\xfccher.example", "acme.auth0.com\u2028", "\udc80.auth0.com", "https://acme\0.com"),
    ],
)
def test_domain_that_cannot_be_used_is_refused_at_construction(domain: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^domain can't be used: .*acme\.eu\.auth0\.com"):
        SigningKeysClient(domain, auth=AUTH)


@given(domain=st.text(st.characters(codec="ascii"), max_size=20) | st.from_regex(r"[\w.%:\[\]-]+"))
def test_any_domain_is_refused_or_can_be_asked(domain: str) -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(200, json=KEY_SET))
    client = httpx.AsyncClient(transport=transport)
    try:
        keys = SigningKeysClient(domain, auth=AUTH, http_client=client)
    except ConfigurationError:
        return
    assert len(asyncio.run(keys.list())) == 3


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"auth": None}, "auth"),
        ({"auth": "token"}, "auth"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": float("nan")}, "timeout"),
        ({"retries": -1}, "retries"),
        ({"retries": 1.5}, "retries"),
        ({"max_wait": -1}, "max_wait"),
        ({"http_client": httpx.Client}, "http_client"),
    ],
)
def test_argument_that_cannot_be_used_is_named(options: dict[str, Any], name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{name} must be "):
        SigningKeysClient("acme.eu.auth0.com", **{"auth": AUTH, **options})


# --- the kid, in a path ---


@pytest.mark.parametrize(
    "kid",
    [
        *(
            "a/b",
            "../rotate",
            "a?b",
            "a#b",
            "a%2Fb",
            "%2e%2e",
            "a b",
            "a\\b",
            "a\r\nb",
            "...",
            "\0",
        ),
        *("\N{SNOWMAN}", "\N{PILE OF POO}", "a;b", "a:b", "@", "-", "a" * 4_000, "..;", "*"),
    ],
)
async def test_kid_is_one_segment_of_the_path_whatever_is_in_it(
    keys: SigningKeysClient, server: Scripted, kid: str
) -> None:
    target = f"{KEYS}/{quote(kid, safe='')}"
    server.on("GET", target, answer(200, key_document(kid)))
    assert (await keys.get(kid)).kid == kid
    assert [asked.target for asked in server.asked] == [target]


@pytest.mark.parametrize("kid", [".", "..", "a" * 4_097, "\N{SNOWMAN}" * 500, "a" * 70_000])
async def test_kid_that_no_path_can_name_is_not_found_and_nothing_is_sent(
    keys: SigningKeysClient, server: Scripted, kid: str
) -> None:
    for call in (keys.get, keys.revoke):
        with pytest.raises(NotFoundError) as missing:
            await call(kid)
        assert len(str(missing.value)) < 200
    assert server.asked == []


@pytest.mark.parametrize("kid", ["", None, 5, b"k", "\ud800"])
async def test_kid_that_is_no_text_is_refused(keys: SigningKeysClient, kid: Any) -> None:
    for call in (keys.get, keys.revoke):
        with pytest.raises(ConfigurationError, match="kid"):
            await call(kid)


async def test_answer_about_another_key_is_an_error_of_the_api(
    keys: SigningKeysClient, server: Scripted
) -> None:
    server.on("GET", f"{KEYS}/one", answer(200, key_document("other")))
    with pytest.raises(ManagementAPIError, match="another key"):
        await keys.get("one")


async def test_real_tenant_has_no_key_of_an_odd_name(tenant: LocalTenant, naps: Naps) -> None:
    async with client_of(tenant, naps) as keys:
        for kid in ("a/b", "?", "..", "%2e%2e", f"{tenant.key().kid}/../", "\N{SNOWMAN}"):
            with pytest.raises(NotFoundError):
                await keys.get(kid)


# --- what is repeated ---


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504, 599])
async def test_reading_is_repeated_until_it_is_answered(
    keys: SigningKeysClient, server: Scripted, naps: Naps, status: int
) -> None:
    server.on("GET", KEYS, *[answer(status)] * 3, answer(200, KEY_SET))
    assert len(await keys.list()) == 3
    assert server.count("GET") == 4
    assert len(naps.seconds) == 3


@pytest.mark.parametrize("retries", [0, 1, 3, 7])
async def test_reading_is_repeated_as_often_as_it_may_be_and_no_more(
    server: Scripted, naps: Naps, retries: int
) -> None:
    server.on("GET", KEYS, answer(503))
    async with client_of(server, naps, retries=retries) as keys:
        with pytest.raises(UnavailableError) as failed:
            await keys.list()
    assert failed.value.status == 503
    assert server.count("GET") == 1 + retries
    assert len(naps.seconds) == retries


@pytest.mark.parametrize("fault", ["reset", "truncated", "oversized", "gzip_bomb"])
async def test_answer_that_does_not_arrive_is_asked_for_again(
    tenant: LocalTenant, naps: Naps, fault: str
) -> None:
    getattr(tenant.faults, fault)(path=KEYS, times=1)
    async with client_of(tenant, naps) as keys:
        assert len(await keys.list()) == 2
    assert tenant.requests.count(KEYS) == 2


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("reset", "lost"),
        ("truncated", "lost"),
        ("oversized", f"larger than {MAX_BODY_BYTES} bytes"),
        ("gzip_bomb", f"larger than {MAX_BODY_BYTES} bytes"),
    ],
)
async def test_answer_that_never_arrives_is_unavailable_and_says_why(
    tenant: LocalTenant, naps: Naps, fault: str, why: str
) -> None:
    getattr(tenant.faults, fault)(path=KEYS)
    async with client_of(tenant, naps) as keys:
        with pytest.raises(UnavailableError, match=why) as failed:
            await keys.list()
    assert failed.value.sent
    assert failed.value.status is None
    assert tenant.requests.count(KEYS) == 4


@pytest.mark.parametrize("fault", ["hold", "drip"])
async def test_answer_beyond_the_timeout_is_given_up(
    tenant: LocalTenant, naps: Naps, fault: str
) -> None:
    """Each drip comes in time, all of them don't."""
    getattr(tenant.faults, fault)(path=KEYS)
    async with client_of(tenant, naps, timeout=0.6, retries=1) as keys:
        with pytest.raises(UnavailableError, match=r"no complete answer within 0\.6 s") as failed:
            await keys.list()
    assert failed.value.sent
    assert tenant.requests.count(KEYS) == 2


async def test_tenant_that_is_not_there_is_unavailable_and_nothing_was_sent(
    tenant: LocalTenant, naps: Naps
) -> None:
    async with client_of(tenant, naps, auth=AUTH) as keys:
        tenant.stop()
        with pytest.raises(UnavailableError, match="Nothing was sent") as failed:
            await keys.list()
    assert not failed.value.sent
    assert len(naps.seconds) == 3


@pytest.mark.parametrize("status", [300, 304, 400, 402, 404, 405, 409, 410, 418, 422, 451])
async def test_refusal_is_final(
    keys: SigningKeysClient, server: Scripted, naps: Naps, status: int
) -> None:
    server.on("GET", KEYS, answer(status))
    with pytest.raises(ManagementAPIError) as refused:
        await keys.list()
    assert refused.value.status == status
    assert server.count("GET") == 1
    assert naps.seconds == []


async def test_caller_who_gives_up_is_let_go_at_once(tenant: LocalTenant, naps: Naps) -> None:
    hold = tenant.faults.hold(path=KEYS)
    async with client_of(tenant, naps) as keys:
        task = asyncio.create_task(keys.list())
        await hold.arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        hold.release()
        assert len(await keys.list()) == 2


# --- the published set ---


async def test_published_kids_are_asked_for_past_caches_and_without_the_token(
    keys: SigningKeysClient, server: Scripted, tenant: LocalTenant
) -> None:
    server.on("GET", "/.well-known/jwks.json", answer(200, tenant.jwks()))
    assert await keys.published_kids() == {tenant.key().kid, tenant.key("next").kid}
    (asked,) = server.asked
    assert asked.headers["cache-control"] == "no-cache"
    assert "authorization" not in asked.headers


async def test_published_kids_count_keys_that_a_verifier_would_skip(
    keys: SigningKeysClient, server: Scripted, tenant: LocalTenant
) -> None:
    odd = [*tenant.jwks()["keys"], {"kid": "odd", "kty": "oct"}, {"kty": "RSA"}, 5]
    server.on("GET", "/jwks", answer(200, {"keys": odd}))
    published = await keys.published_kids(f"{server.url}jwks")
    assert published == {tenant.key().kid, tenant.key("next").kid, "odd"}


@pytest.mark.parametrize("reply", [answer(503), answer(200, HTML), b"", answer(302)])
async def test_published_set_that_cannot_be_read_is_unavailable(
    keys: SigningKeysClient, server: Scripted, reply: bytes
) -> None:
    server.on("GET", "/.well-known/jwks.json", reply)
    with pytest.raises(UnavailableError, match="key set can't be read"):
        await keys.published_kids()
