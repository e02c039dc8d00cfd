"""How the client gets, keeps and drops its own token, and that nobody else sees its secrets."""

from __future__ import annotations

import asyncio
import gc
import logging
import re
from collections.abc import AsyncIterator, Callable, Iterator
from functools import cache
from typing import Any, Literal

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from jwks_guard import ConfigurationError
from jwks_guard.admin import (
    ClientCredentials,
    PrivateKeyJWT,
    SigningKeysClient,
    StaticToken,
    SyncSigningKeysClient,
)
from jwks_guard.errors import (
    ForbiddenError,
    JWKSGuardError,
    ManagementAPIError,
    RateLimitedError,
    UnauthorizedError,
    UnavailableError,
)
from jwks_guard.testing import LocalTenant
from tests.admin.support import (
    BEARER,
    CREDENTIALS,
    HTML,
    KEY_SET,
    KEYS,
    ROTATE,
    SECRET,
    TOKEN,
    Asked,
    Naps,
    Reply,
    Scripted,
    answer,
    client_of,
    grant,
    scripted,
    shown,
)
from tests.support import PATIENCE, HandClock

DAY = 86_400.0
ODD_LIFETIMES: list[object] = [0, -1, -(10**400), True, False, None, "100", [], {}]
ALGORITHMS: list[Literal["RS256", "RS384", "PS256"]] = ["RS256", "RS384", "PS256"]


@pytest.fixture
def tenant(clock: HandClock) -> Iterator[LocalTenant]:
    with LocalTenant(algorithm="ES256", clock=clock, client_public_key=public_pem()) as local:
        yield local


@pytest.fixture
async def server() -> AsyncIterator[Scripted]:
    async with scripted() as listening:
        listening.on("GET", KEYS, answer(200, KEY_SET))
        yield listening


@pytest.fixture
async def keys(tenant: LocalTenant, naps: Naps) -> AsyncIterator[SigningKeysClient]:
    async with client_of(tenant, naps) as client:
        yield client


@cache
def private_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65_537, 2_048)


def private_pem(
    form: PrivateFormat = PrivateFormat.PKCS8,
    encryption: KeySerializationEncryption | None = None,
) -> bytes:
    return private_key().private_bytes(Encoding.PEM, form, encryption or NoEncryption())


def public_pem() -> str:
    public = private_key().public_key()
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


# --- kept ---


async def test_fifty_calls_at_once_ask_for_one_token(
    keys: SigningKeysClient, tenant: LocalTenant
) -> None:
    listed = await asyncio.gather(*(keys.list() for _ in range(50)))
    assert all(len(each) == 2 for each in listed)
    assert tenant.requests.count(TOKEN) == 1
    assert tenant.requests.count(KEYS) == 50


async def test_waiting_for_a_token_survives_the_caller_who_asked_for_it_first(
    keys: SigningKeysClient, tenant: LocalTenant
) -> None:
    hold = tenant.faults.hold(path=TOKEN)
    first, second = (asyncio.create_task(keys.list()) for _ in range(2))
    await hold.arrived.wait()
    first.cancel()
    hold.release()
    assert len(await second) == 2
    assert first.cancelled()


@pytest.mark.parametrize(
    ("members", "kept"),
    [
        ({"expires_in": 100}, 90.0),
        ({"expires_in": 100.0}, 90.0),
        ({"expires_in": 1}, 0.9),
        ({"expires_in": 0.5}, 0.45),
        ({"expires_in": 600}, 540.0),
        ({"expires_in": 3_600}, 3_540.0),
        ({"expires_in": 86_400}, DAY - 60),
        ({"expires_in": 10**9}, DAY - 60),
        ({"expires_in": 10**400}, DAY - 60),
        *(({"expires_in": odd}, DAY - 60) for odd in ODD_LIFETIMES),
        ({}, DAY - 60),
    ],
)
async def test_token_is_kept_until_shortly_before_it_expires(
    server: Scripted, naps: Naps, members: dict[str, object], kept: float
) -> None:
    server.on("POST", TOKEN, grant(**members))
    async with client_of(server, naps, auth=CREDENTIALS) as keys:
        await keys.list()
        naps.clock.advance(kept - 0.01)
        naps.clock.set_back(10_000)  # which is nobody's lifetime
        await keys.list()
        assert server.count("POST", TOKEN) == 1
        naps.clock.advance(0.02)
        await keys.list()
        assert server.count("POST", TOKEN) == 2


async def test_lifetime_counts_from_the_request_and_not_from_its_late_answer(
    server: Scripted, naps: Naps
) -> None:
    async def late(_: Asked) -> bytes:
        naps.clock.advance(50)
        return grant(expires_in=100)

    server.on("POST", TOKEN, late)
    async with client_of(server, naps, auth=CREDENTIALS) as keys:
        await keys.list()
        naps.clock.advance(41)
        await keys.list()
    assert server.count("POST", TOKEN) == 2


async def test_real_token_is_renewed_before_the_tenant_refuses_it(
    keys: SigningKeysClient, tenant: LocalTenant, clock: HandClock
) -> None:
    await keys.list()
    clock.advance(DAY - 61)
    await keys.list()
    assert tenant.requests.count(TOKEN) == 1
    clock.advance(2)
    await keys.list()
    assert (tenant.requests.count(TOKEN), tenant.requests.count(KEYS)) == (2, 3)


async def test_token_that_expired_while_the_machine_slept_is_renewed_after_its_401(
    keys: SigningKeysClient, tenant: LocalTenant, clock: HandClock
) -> None:
    await keys.list()
    clock.suspend(2 * DAY)
    assert len(await keys.list()) == 2
    assert (tenant.requests.count(TOKEN), tenant.requests.count(KEYS)) == (2, 3)


async def test_refusal_of_a_token_is_shared_by_all_who_wait_for_it(
    tenant: LocalTenant, naps: Naps
) -> None:
    auth = ClientCredentials(tenant.client_id, SECRET)
    async with client_of(tenant, naps, auth=auth) as keys:
        calls = [keys.list() for _ in range(20)]
        refused = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(error) for error in refused} == {UnauthorizedError}
    assert tenant.requests.count(TOKEN) == 1


async def test_refusal_of_a_token_that_nobody_waits_for_any_more_is_no_noise(
    server: Scripted, naps: Naps, caplog: pytest.LogCaptureFixture
) -> None:
    arrived, go = asyncio.Event(), asyncio.Event()

    async def late(_: Asked) -> bytes:
        arrived.set()
        await go.wait()
        return answer(401)

    server.on("POST", TOKEN, late)
    async with client_of(server, naps, auth=CREDENTIALS) as keys:
        call = asyncio.create_task(keys.list())
        await arrived.wait()
        call.cancel()
        asking = keys._api._asking
        assert asking is not None
        go.set()
        await asyncio.wait([call, asking])
        keys._api.drop_token()
        del asking, call  # whose traceback holds it too
        gc.collect()
    assert [record for record in caplog.records if record.name == "asyncio"] == []


# --- dropped ---


async def test_token_is_dropped_after_a_rotation_and_after_a_revocation(
    keys: SigningKeysClient, tenant: LocalTenant
) -> None:
    old = tenant.key().kid
    await keys.rotate()
    assert tenant.requests.count(TOKEN) == 1
    await keys.list()
    assert tenant.requests.count(TOKEN) == 2
    await keys.revoke(old)
    assert tenant.requests.count(TOKEN) == 2
    await keys.list()
    assert tenant.requests.count(TOKEN) == 3


async def test_refused_rotation_drops_the_token_too(
    keys: SigningKeysClient, tenant: LocalTenant
) -> None:
    tenant.faults.status(429, path=ROTATE)
    with pytest.raises(RateLimitedError):
        await keys.rotate()
    await keys.list()
    assert tenant.requests.count(TOKEN) == 2


async def test_calls_go_on_after_the_key_of_the_held_token_was_revoked_elsewhere(
    keys: SigningKeysClient, tenant: LocalTenant
) -> None:
    signer = tenant.key().kid
    await keys.list()
    tenant.rotate()
    tenant.revoke(signer)
    listed = await asyncio.gather(*(keys.list() for _ in range(10)))
    assert all(len(each) == 3 for each in listed)
    assert tenant.requests.count(TOKEN) == 2


async def test_calls_go_on_after_the_key_of_the_held_token_was_revoked_with_it(
    keys: SigningKeysClient, tenant: LocalTenant
) -> None:
    signer = tenant.key().kid
    await keys.list()
    tenant.rotate()
    assert not (await keys.revoke(signer)).inferred
    assert (await keys.get(signer)).revoked
    assert tenant.requests.count(f"{KEYS}/{signer}") == 1


async def test_token_that_was_on_its_way_when_it_was_dropped_is_not_kept(
    server: Scripted, naps: Naps
) -> None:
    """The tenant may have signed it with the key that was revoked meanwhile."""
    arrived, go = asyncio.Event(), asyncio.Event()

    async def late(_: Asked) -> bytes:
        arrived.set()
        await go.wait()
        return grant("late")

    server.on("POST", TOKEN, late, grant("new"))
    async with client_of(server, naps, auth=CREDENTIALS) as keys:
        early = asyncio.create_task(keys.list())
        await arrived.wait()
        keys._api.drop_token()
        await keys.list()
        go.set()
        await early
        await keys.list()
    sent = [asked.headers["authorization"] for asked in server.asked if asked.method == "GET"]
    assert sent == ["Bearer new", "Bearer late", "Bearer new"]


async def test_401_is_tried_with_exactly_one_new_token(server: Scripted, naps: Naps) -> None:
    server.on("GET", KEYS, answer(401))
    server.on("POST", TOKEN, *(grant(f"token-{number}") for number in range(9)))
    async with client_of(server, naps, auth=CREDENTIALS) as keys:
        with pytest.raises(UnauthorizedError):
            await keys.list()
    sent = [asked.headers["authorization"] for asked in server.asked if asked.method == "GET"]
    assert sent == ["Bearer token-0", "Bearer token-1"]
    assert naps.seconds == []


async def test_static_token_that_is_refused_is_not_tried_again(
    tenant: LocalTenant, naps: Naps
) -> None:
    expired = tenant.token(audience=tenant.management_audience, lifetime=-1)
    async with client_of(tenant, naps, auth=StaticToken(expired)) as keys:
        for call in (keys.list, keys.rotate):
            with pytest.raises(UnauthorizedError, match="has expired, its signing key") as refused:
                await call()
    assert refused.value.status == 401
    assert list(tenant.requests) == [("GET", KEYS)] * 2


async def test_static_token_of_another_audience_is_refused(tenant: LocalTenant, naps: Naps) -> None:
    async with client_of(tenant, naps, auth=StaticToken(tenant.token())) as keys:
        with pytest.raises(UnauthorizedError):
            await keys.list()


# --- asked for ---


async def test_token_is_asked_for_with_the_secret_in_the_body_only(
    server: Scripted, naps: Naps
) -> None:
    async with client_of(server, naps, auth=CREDENTIALS) as keys:
        await keys.list()
    asked = server.asked[0]
    assert (asked.method, asked.target) == ("POST", TOKEN)
    assert asked.json == {
        "grant_type": "client_credentials",
        "client_id": "the-client",
        "client_secret": SECRET,
        "audience": f"{server.url}api/v2/",
    }
    assert asked.headers["content-type"] == "application/json"
    assert "authorization" not in asked.headers


async def test_token_for_a_custom_domain_is_asked_for_the_canonical_audience(
    server: Scripted, naps: Naps
) -> None:
    canonical = "https://acme.eu.auth0.com/api/v2/"
    for auth in (
        ClientCredentials("the-client", SECRET, audience=canonical),
        PrivateKeyJWT("the-client", private_key(), audience=canonical),
    ):
        async with client_of(server, naps, auth=auth) as keys:
            await keys.list()
        assert server.asked[-2].json["audience"] == canonical


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_signed_assertion_is_taken_by_the_tenant_in_place_of_a_secret(
    tenant: LocalTenant, naps: Naps, algorithm: Literal["RS256", "RS384", "PS256"]
) -> None:
    auth = PrivateKeyJWT(tenant.client_id, private_pem(), algorithm=algorithm)
    async with client_of(tenant, naps, auth=auth) as keys:
        old = tenant.key().kid
        assert (await keys.get(old)).current
        await keys.rotate()
        assert (await keys.revoke(old)).revoked
        assert len(await keys.list()) == 3
    assert tenant.requests.count(TOKEN) == 3


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("kid", [None, "credential-1"])
async def test_assertion_is_short_lived_good_once_and_for_this_tenant(
    server: Scripted,
    naps: Naps,
    algorithm: Literal["RS256", "RS384", "PS256"],
    kid: str | None,
) -> None:
    auth = PrivateKeyJWT("the-client", private_key(), algorithm=algorithm, kid=kid)
    for _ in range(2):
        async with client_of(server, naps, auth=auth) as keys:
            await keys.list()
    sent = [asked.json for asked in server.asked if asked.target == TOKEN]
    now = naps.clock.time()
    options: Any = {"verify_exp": False, "verify_iat": False}
    assertions = []
    for parameters in sent:
        assert set(parameters) == {
            *("grant_type", "client_id", "audience", "client_assertion", "client_assertion_type"),
        }
        assertion = parameters["client_assertion"]
        header = jwt.get_unverified_header(assertion)
        assert (header["alg"], header.get("kid")) == (algorithm, kid)
        assertions.append(
            jwt.decode(
                assertion,
                private_key().public_key(),
                algorithms=[algorithm],
                audience=server.url,
                options=options,
            )
        )
    for claims in assertions:
        assert claims["iss"] == claims["sub"] == "the-client"
        assert claims["aud"] == server.url
        assert claims["iat"] == now
        assert now < claims["exp"] <= now + 300
    assert len({claims["jti"] for claims in assertions}) == 2
    assert all(len(claims["jti"]) >= 32 for claims in assertions)


@pytest.mark.parametrize(
    "given",
    [
        private_key(),
        private_pem(),
        private_pem().decode(),
        private_pem(PrivateFormat.TraditionalOpenSSL),
    ],
)
def test_private_key_may_be_a_key_or_pem(given: str | bytes | rsa.RSAPrivateKey) -> None:
    proof = PrivateKeyJWT("the-client", given).proof("https://tenant.test/", 1_800_000_000)
    assert jwt.get_unverified_header(proof["client_assertion"])["alg"] == "RS256"


def elliptic_pem() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.mark.parametrize(
    "given",
    [
        "",
        b"-----BEGIN PRIVATE KEY-----",
        public_pem(),
        elliptic_pem(),
        private_pem(encryption=BestAvailableEncryption(b"password")),
        private_pem()[:-80],
    ],
)
def test_private_key_that_cannot_sign_is_refused_and_not_quoted(given: str | bytes) -> None:
    with pytest.raises(ConfigurationError, match=r"^private_key must be an RSA") as refused:
        PrivateKeyJWT("the-client", given)
    assert "BEGIN" not in str(refused.value)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: StaticToken(""), "token"),
        (lambda: StaticToken("a b"), "token"),
        (lambda: StaticToken("secret\n"), "token"),
        (lambda: StaticToken("secret\r\nX: y"), "token"),
        (lambda: StaticToken("s\xe9cret"), "token"),
        (lambda: StaticToken(None), "token"),  # type: ignore[arg-type]
        (lambda: ClientCredentials("", "secret"), "client_id"),
        (lambda: ClientCredentials("id", ""), "client_secret"),
        (lambda: ClientCredentials("id", "secret\n"), "client_secret"),
        (lambda: ClientCredentials("id", b"secret"), "client_secret"),  # type: ignore[arg-type]
        (lambda: ClientCredentials("id", "secret", audience=""), "audience"),
        (lambda: PrivateKeyJWT("", private_key()), "client_id"),
        (lambda: PrivateKeyJWT("id", private_key(), kid=""), "kid"),
        (lambda: PrivateKeyJWT("id", private_key(), audience=""), "audience"),
        (lambda: PrivateKeyJWT("id", private_key(), algorithm="HS256"), "algorithm"),  # type: ignore[arg-type]
    ],
)
def test_credentials_that_cannot_be_used_are_refused_by_name_and_not_quoted(
    make: Callable[[], object], name: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"^{name} must be ") as refused:
        make()
    assert "secret" not in str(refused.value).replace("client_secret", "")


# --- not granted ---


async def test_wrong_secret_is_unauthorized_and_says_what_to_check(
    tenant: LocalTenant, naps: Naps
) -> None:
    auth = ClientCredentials(tenant.client_id, SECRET)
    async with client_of(tenant, naps, auth=auth) as keys:
        with pytest.raises(UnauthorizedError, match="Check its ID and its secret") as refused:
            await keys.list()
    assert refused.value.error_code == "access_denied"
    assert SECRET not in shown(refused.value)
    assert list(tenant.requests) == [("POST", TOKEN)]


async def test_wrong_private_key_is_unauthorized(tenant: LocalTenant, naps: Naps) -> None:
    other = rsa.generate_private_key(65_537, 2_048)
    auth = PrivateKeyJWT(tenant.client_id, other)
    async with client_of(tenant, naps, auth=auth) as keys:
        with pytest.raises(UnauthorizedError) as refused:
            await keys.list()
    assert refused.value.error_code == "invalid_client"


async def test_unknown_audience_is_forbidden_and_says_what_to_grant(
    tenant: LocalTenant, naps: Naps
) -> None:
    audience = "https://elsewhere.test/api/v2/"
    auth = ClientCredentials(tenant.client_id, tenant.client_secret, audience=audience)
    async with client_of(tenant, naps, auth=auth) as keys:
        with pytest.raises(ForbiddenError, match="Authorize the application") as refused:
            await keys.list()
    assert refused.value.status == 403
    assert list(tenant.requests) == [("POST", TOKEN)]


@pytest.mark.parametrize(
    "reply",
    [
        *(answer(200), answer(200, HTML), answer(200, []), answer(200, {}), answer(200, b"null")),
        *(grant(None), grant(""), grant(5), grant(["a"]), grant("a b"), grant("a\r\nX: y")),
        *(grant("\N{SNOWMAN}"), answer(201, {"access_token": BEARER}), answer(204), answer(302)),
        answer(200, b"[" * 9_000),
        answer(200, b"\xff"),
        answer(400, {"error": "invalid_request", "error_description": 5}),
        answer(418, HTML),
    ],
)
async def test_answer_without_a_usable_token_is_an_error_of_the_api_and_final(
    server: Scripted, naps: Naps, reply: bytes
) -> None:
    server.on("POST", TOKEN, reply)
    async with client_of(server, naps, auth=CREDENTIALS) as keys:
        with pytest.raises(ManagementAPIError) as failed:
            await keys.list()
    assert type(failed.value) is ManagementAPIError
    assert server.count("POST") == 1
    assert server.count("GET") == 0


@pytest.mark.parametrize("fault", ["status", "reset", "truncated", "oversized", "gzip_bomb"])
async def test_token_that_cannot_be_granted_at_the_moment_is_asked_for_again(
    keys: SigningKeysClient, tenant: LocalTenant, naps: Naps, fault: str
) -> None:
    arguments = (503,) if fault == "status" else ()
    getattr(tenant.faults, fault)(*arguments, path=TOKEN, times=2)
    assert len(await keys.list()) == 2
    assert tenant.requests.count(TOKEN) == 3
    assert len(naps.seconds) == 2


async def test_rate_limit_of_the_token_endpoint_is_honoured(
    keys: SigningKeysClient, tenant: LocalTenant, naps: Naps
) -> None:
    tenant.faults.status(429, retry_after=9, path=TOKEN, times=1)
    await keys.list()
    assert [int(pause) for pause in naps.seconds] == [9]
    tenant.faults.status(429, retry_after=900, path=TOKEN)
    naps.clock.advance(DAY)
    with pytest.raises(RateLimitedError, match="token endpoint") as refused:
        await keys.list()
    assert refused.value.reset_at is not None


# --- secrets ---


def test_credentials_do_not_show_their_secrets(tenant: LocalTenant) -> None:
    pem = private_pem().decode()
    for auth, secret in (
        (StaticToken(BEARER), BEARER),
        (CREDENTIALS, SECRET),
        (PrivateKeyJWT("the-client", pem), pem.splitlines()[1]),
    ):
        keys = SigningKeysClient(tenant.issuer, auth=auth)
        sync = SyncSigningKeysClient(tenant.issuer, auth=auth)
        for thing in (auth, keys, keys._api, sync):
            assert secret not in f"{thing!r} {thing!s} {[thing]}"


async def echo(asked: Asked) -> bytes:
    """All that was sent, wherever it can be told."""
    credentials = asked.headers.get("authorization", "") + asked.body.decode()
    told = {"message": credentials, "errorCode": credentials}
    return answer(401, {**told, "error": credentials, "error_description": credentials})


async def echo_as_text(asked: Asked) -> bytes:
    return answer(500, asked.headers.get("authorization", "").encode() + asked.body)


async def echo_as_a_broken_header(asked: Asked) -> bytes:
    line = asked.headers.get("authorization", "") + asked.body.decode()
    return b"HTTP/1.1 200 OK\r\n" + line.replace(":", "=").encode() + b"\r\n\r\n"


async def echo_in_a_location(asked: Asked) -> bytes:
    return answer(302, location=f"x:{asked.headers.get('authorization', '')}{asked.body!r}")


FAILURES: list[Reply] = [
    *(echo, echo_as_text, echo_as_a_broken_header, echo_in_a_location, None, b""),
    *(answer(status) for status in (302, 400, 401, 403, 404, 429, 500, 503)),
    *(answer(200, HTML), answer(200, b"{"), answer(200, [{}]), answer(200, b"{", content_length=9)),
]


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("call", ["list", "rotate", "revoke"])
async def test_no_failure_of_a_call_shows_a_secret(
    server: Scripted, naps: Naps, failure: Reply, call: str
) -> None:
    for method, target in (("POST", ROTATE), ("PUT", f"{KEYS}/previous/revoke")):
        server.on(method, target, failure)
    if call == "list":
        server.on("GET", KEYS, failure)
    async with client_of(server, naps, auth=CREDENTIALS, timeout=0.2, retries=0) as keys:
        error = await failure_of(keys, call)
    assert SECRET not in shown(error)
    assert BEARER not in shown(error)


@pytest.mark.parametrize(
    "failure",
    [
        *FAILURES,
        *(grant(f"{BEARER} "), answer(200, f'{{"access_token": "{BEARER}"'.encode())),
        *(answer(200, [BEARER]), answer(500, {"access_token": BEARER})),
    ],
)
@pytest.mark.parametrize("kind", ["secret", "assertion"])
async def test_no_failure_of_a_grant_shows_a_secret(
    server: Scripted, naps: Naps, failure: Reply, kind: str
) -> None:
    server.on("POST", TOKEN, failure)
    auth = CREDENTIALS if kind == "secret" else PrivateKeyJWT("the-client", private_key())
    async with client_of(server, naps, auth=auth, timeout=0.2, retries=0) as keys:
        error = await failure_of(keys, "list")
    assert SECRET not in shown(error)
    assert BEARER not in shown(error)
    assert re.search(r"\beyJ", shown(error)) is None  # how an assertion begins


@pytest.mark.parametrize("told", [SECRET[:16], SECRET[-17:], f"'{SECRET[5:25]}'", f"{SECRET}!"])
async def test_reason_that_quotes_a_part_of_the_secret_is_left_out(
    server: Scripted, naps: Naps, told: str
) -> None:
    server.on("POST", TOKEN, answer(401, {"error": told, "error_description": f"Wrong: {told}"}))
    async with client_of(server, naps, auth=CREDENTIALS) as keys:
        error = await failure_of(keys, "list")
    assert "Wrong" not in str(error)
    assert told not in shown(error)


async def test_refused_connection_shows_no_secret(server: Scripted, naps: Naps) -> None:
    server.hang_up()
    for auth in (CREDENTIALS, StaticToken(BEARER)):
        async with client_of(server, naps, auth=auth, retries=1) as keys:
            error = await failure_of(keys, "list")
        assert isinstance(error, UnavailableError)
        assert SECRET not in shown(error)
        assert BEARER not in shown(error)


async def failure_of(keys: SigningKeysClient, call: str) -> JWKSGuardError:
    """In a frame of its own: what the test knows is not looked at."""
    arguments = ("previous",) if call == "revoke" else ()
    with pytest.raises(JWKSGuardError) as failed:
        await getattr(keys, call)(*arguments)
    return failed.value


async def test_logs_of_every_level_show_no_secret(
    server: Scripted, naps: Naps, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server.on("POST", ROTATE, answer(201, {"kid": "newest", "cert": "c"}))
    async with client_of(server, naps, auth=CREDENTIALS, timeout=PATIENCE, retries=0) as keys:
        await keys.list()
        await keys.rotate()
    async with client_of(server, naps, auth=CREDENTIALS, timeout=0.2, retries=0) as keys:
        for failure in (echo, echo_as_text, None, b"", answer(401), answer(503)):
            server.on("GET", KEYS, failure)
            await failure_of(keys, "list")
        server.on("POST", TOKEN, echo)
        keys._api.drop_token()
        await failure_of(keys, "list")
    loggers = {record.name.partition(".")[0] for record in caplog.records}
    assert {"httpx", "httpcore"} <= loggers
    told = "".join(f"{record.getMessage()} {vars(record)}\n" for record in caplog.records)
    assert SECRET not in told
    assert BEARER not in told
