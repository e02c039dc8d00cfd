"""A rotation is sent once, whatever becomes of its answer, and then looked for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from jwks_guard.admin import SigningKey, SigningKeysClient, StaticToken
from jwks_guard.admin.signing_keys import SETTLE_SECONDS
from jwks_guard.errors import (
    ForbiddenError,
    ManagementAPIError,
    RateLimitedError,
    RotationUncertainError,
    UnauthorizedError,
    UnavailableError,
)
from jwks_guard.testing import LocalTenant
from tests.admin.support import (
    HTML,
    KEY_SET,
    KEYS,
    ROTATE,
    TOKEN,
    Asked,
    Naps,
    Scripted,
    answer,
    bound,
    client_of,
    key_document,
    scripted,
)
from tests.support import PATIENCE

ROTATED = [
    key_document("next", current=True),
    key_document("newest", next=True),
    key_document("current", previous=True),
    key_document("previous", previous=True),
]
ROTATED_TWICE = [
    key_document("newest", current=True),
    key_document("newer than that", next=True),
    *(key_document(kid, previous=True) for kid in ("next", "current", "previous")),
]


@pytest.fixture
async def keys(tenant: LocalTenant, naps: Naps) -> AsyncIterator[SigningKeysClient]:
    async with client_of(tenant, naps, timeout=PATIENCE) as client:
        yield client


@pytest.fixture
async def server() -> AsyncIterator[Scripted]:
    async with scripted() as listening:
        listening.on("GET", KEYS, answer(200, KEY_SET))
        yield listening


def rotations(tenant: LocalTenant) -> int:
    return len(tenant.signing_keys) - 2


def kids(listed: tuple[SigningKey, ...]) -> list[str]:
    return [key.kid for key in listed]


def at_poll(number: int, server: Scripted, state: list[dict[str, object]]) -> dict[int, Any]:
    return {number: lambda: server.on("GET", KEYS, answer(200, state))}


# --- answered ---


async def test_rotation_gives_the_new_next_key_with_its_certificate(
    keys: SigningKeysClient, tenant: LocalTenant, naps: Naps
) -> None:
    current, following = tenant.key(), tenant.key("next")
    new = await keys.rotate()
    assert tenant.key().kid == following.kid
    assert tenant.key("previous").kid == current.kid
    made = tenant.key("next")
    assert (new.kid, new.state, new.inferred) == (made.kid, "next", False)
    assert new.certificate == made.certificate
    assert (new.fingerprint, new.thumbprint) == (made.fingerprint, made.thumbprint)
    assert naps.seconds == []
    assert [path for method, path in tenant.requests if method == "POST"] == [TOKEN, ROTATE]


async def test_two_rotations_are_two(keys: SigningKeysClient, tenant: LocalTenant) -> None:
    assert (await keys.rotate()).kid != (await keys.rotate()).kid
    assert rotations(tenant) == tenant.requests.count(ROTATE) == 2


# --- applied, and the answer lost: looked for and found ---


@pytest.mark.parametrize("fault", ["reset", "truncated", "oversized", "gzip_bomb", "hold", "drip"])
async def test_lost_answer_to_a_rotation_that_took_place_is_inferred(
    tenant: LocalTenant, naps: Naps, fault: str
) -> None:
    getattr(tenant.faults, fault)(path=ROTATE)
    async with client_of(tenant, naps, timeout=bound(fault)) as keys:
        new = await keys.rotate()
    assert new.inferred
    assert (new.kid, new.state) == (tenant.key("next").kid, "next")
    assert new.certificate == tenant.key("next").certificate
    assert tenant.requests.count(ROTATE) == rotations(tenant) == 1
    assert naps.seconds == []


UNUSABLE = [
    *(answer(status) for status in (404, 405, 408, 409, 410, 499, 500, 502, 503, 504, 599)),
    *(answer(status, location="http://127.0.0.1:9/") for status in (301, 302, 303, 307, 308)),
    answer(302, location="javascript:alert(1)"),
    answer(502, HTML),
    answer(503, retry_after="86400"),
    answer(201, HTML),
    answer(201),
    answer(204),
    answer(201, []),
    answer(201, {}),
    answer(201, {"kid": 5}),
    answer(201, b'{"kid": "newest", "cert": "', content_length=400),
    b"",
    b"HTTP/1.1 201 Created\r\nbroken\r\n\r\n",
    None,
]


@pytest.mark.parametrize("reply", UNUSABLE)
async def test_unusable_answer_to_a_rotation_that_took_place_is_inferred(
    server: Scripted, naps: Naps, reply: bytes | None
) -> None:
    async def rotate(_: Asked) -> bytes | None:
        server.on("GET", KEYS, answer(200, ROTATED))
        return reply

    server.on("POST", ROTATE, rotate)
    async with client_of(server, naps, timeout=bound(reply)) as keys:
        new = await keys.rotate()
    assert (new.kid, new.state, new.inferred) == ("newest", "next", True)
    assert server.count("POST", ROTATE) == 1
    assert naps.seconds == []


@pytest.mark.parametrize("number", [1, 3, 9])
async def test_rotation_that_takes_place_late_is_waited_for(
    keys: SigningKeysClient, tenant: LocalTenant, naps: Naps, number: int
) -> None:
    tenant.faults.status(504, path=ROTATE)
    naps.during = {number: tenant.rotate}
    new = await keys.rotate()
    assert new.inferred
    assert new.kid == tenant.key("next").kid
    assert tenant.requests.count(ROTATE) == rotations(tenant) == 1
    assert len(naps.seconds) == number
    assert naps.seconds[:4] == [0.5, 1.0, 2.0, 4.0][:number]


async def test_rotation_seen_in_the_last_moment_still_counts(server: Scripted, naps: Naps) -> None:
    server.on("POST", ROTATE, answer(502))
    async with client_of(server, naps) as keys:
        with pytest.raises(RotationUncertainError):
            await keys.rotate()
        naps.during = at_poll(2 * len(naps.seconds), server, ROTATED)
        assert (await keys.rotate()).inferred


@pytest.mark.parametrize("fault", ["reset", "truncated"])
async def test_list_that_fails_for_a_while_is_asked_for_again(
    keys: SigningKeysClient, tenant: LocalTenant, naps: Naps, fault: str
) -> None:
    def out_of_order() -> None:
        tenant.faults.clear()

    getattr(tenant.faults, fault)(path=ROTATE)
    hold = tenant.faults.hold(path=ROTATE, times=1)
    rotating = asyncio.create_task(keys.rotate())
    await hold.arrived.wait()
    tenant.faults.status(503, path=KEYS)
    hold.release()
    naps.during = {3: out_of_order}
    assert (await rotating).inferred
    assert rotations(tenant) == 1
    assert len(naps.seconds) == 3


async def test_rotation_is_looked_for_with_a_new_token(
    keys: SigningKeysClient, tenant: LocalTenant
) -> None:
    tenant.faults.truncated(path=ROTATE)
    assert (await keys.rotate()).inferred
    assert tenant.requests.count(TOKEN) == 2


# --- not applied, or not to be told: uncertain ---


@pytest.mark.parametrize("reply", UNUSABLE)
async def test_rotation_that_cannot_be_seen_is_uncertain_after_half_a_minute(
    server: Scripted, naps: Naps, reply: bytes | None
) -> None:
    server.on("POST", ROTATE, reply)
    began = naps.clock.monotonic()
    async with client_of(server, naps, timeout=bound(reply)) as keys:
        with pytest.raises(RotationUncertainError) as uncertain:
            await keys.rotate()
    assert naps.clock.monotonic() - began == SETTLE_SECONDS == 30.0
    assert server.count("POST", ROTATE) == 1
    assert kids(uncertain.value.before) == kids(uncertain.value.after)
    assert kids(uncertain.value.before) == ["current", "next", "previous"]


async def test_uncertain_rotation_says_what_happened_and_what_to_look_at(
    keys: SigningKeysClient, tenant: LocalTenant
) -> None:
    tenant.faults.status(502, path=ROTATE)
    with pytest.raises(RotationUncertainError) as uncertain:
        await keys.rotate()
    current, following = tenant.key().kid, tenant.key("next").kid
    text = str(uncertain.value)
    for words in (
        "not known whether the tenant rotated",
        "502 Bad Gateway",
        "Don't rotate again yet",
        f"Before, current was {current} and next was {following}",
        f"last seen, current was {current} and next was {following}",
    ):
        assert words in text
    assert kids(uncertain.value.after) == [current, following]
    assert rotations(tenant) == 0
    assert tenant.requests.count(ROTATE) == 1


async def test_two_steps_are_not_taken_for_one(server: Scripted, naps: Naps) -> None:
    server.on("POST", ROTATE, answer(502))
    server.on("GET", KEYS, answer(200, KEY_SET), answer(200, ROTATED_TWICE))
    async with client_of(server, naps) as keys:
        with pytest.raises(RotationUncertainError, match="last seen, current was newest") as seen:
            await keys.rotate()
    assert kids(seen.value.before)[0] == "current"
    assert kids(seen.value.after)[0] == "newest"
    assert server.count("POST", ROTATE) == 1


@pytest.mark.parametrize(
    "after",
    [
        [],
        [key_document("next", current=True)],
        [key_document("next", current=True), key_document("current", next=True)],
        [key_document("next", current=True), key_document("previous", next=True)],
        [key_document("next"), key_document("newest")],
        [*ROTATED, key_document("another", next=True)],
        [*ROTATED, key_document("another", current=True)],
        [key_document("newest", current=True), key_document("next", next=True)],
        [key_document("current", current=True), key_document("newest", next=True)],
        [key_document("next", current=True, next=True), key_document("newest", previous=True)],
    ],
)
async def test_list_that_is_not_exactly_one_step_on_is_no_success(
    server: Scripted, naps: Naps, after: list[dict[str, object]]
) -> None:
    server.on("POST", ROTATE, answer(502))
    server.on("GET", KEYS, answer(200, KEY_SET), answer(200, after))
    async with client_of(server, naps) as keys:
        with pytest.raises(RotationUncertainError) as uncertain:
            await keys.rotate()
    assert kids(uncertain.value.after) == [key["kid"] for key in after]
    assert sum(naps.seconds) == 30.0


@pytest.mark.parametrize("before", [[], [key_document("one")], [key_document("a", current=True)]])
async def test_tenant_without_a_next_key_before_leaves_a_lost_answer_uncertain(
    server: Scripted, before: list[dict[str, object]]
) -> None:
    server.on("POST", ROTATE, answer(502))
    server.on("GET", KEYS, answer(200, before), answer(200, ROTATED))
    async with client_of(server) as keys:
        with pytest.raises(RotationUncertainError):
            await keys.rotate()


@pytest.mark.parametrize("lost", [answer(503), answer(401), answer(429), answer(200, HTML), b""])
async def test_list_that_can_never_be_read_again_leaves_the_rotation_uncertain(
    server: Scripted, naps: Naps, lost: bytes
) -> None:
    server.on("POST", ROTATE, b"")
    server.on("GET", KEYS, answer(200, KEY_SET), lost)
    async with client_of(server, naps) as keys:
        with pytest.raises(RotationUncertainError, match="the list could not be read") as uncertain:
            await keys.rotate()
    assert uncertain.value.after == ()
    assert len(uncertain.value.before) == 3
    assert sum(naps.seconds) == 30.0


async def test_uncertain_rotation_says_why_the_keys_could_not_be_listed_and_what_was_seen_last(
    server: Scripted,
) -> None:
    server.on("POST", ROTATE, answer(502))
    server.on("GET", KEYS, *[answer(200, KEY_SET)] * 2, answer(503, {"message": "Sunday"}))
    async with client_of(server) as keys:
        with pytest.raises(RotationUncertainError) as uncertain:
            await keys.rotate()
    text = str(uncertain.value)
    assert "The Management API answered 502 Bad Gateway" in text
    assert 'could not be listed: The Management API answered 503 Service Unavailable ("Su' in text
    assert kids(uncertain.value.after) == ["current", "next", "previous"]


async def test_time_that_the_lists_take_counts_against_the_half_minute(
    server: Scripted, naps: Naps
) -> None:
    async def slowly(_: Asked) -> bytes:
        naps.clock.advance(14.0)
        return answer(200, KEY_SET)

    server.on("POST", ROTATE, b"")
    server.on("GET", KEYS, answer(200, KEY_SET), slowly)
    async with client_of(server, naps) as keys:
        with pytest.raises(RotationUncertainError):
            await keys.rotate()
    assert server.count("GET") == 4
    assert sum(naps.seconds) == pytest.approx(0.5 + 1.0)


# --- refused: nothing happened, and nothing is looked for ---


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (answer(400), ManagementAPIError),
        (answer(401), UnauthorizedError),
        (answer(403), ForbiddenError),
        (answer(429), RateLimitedError),
        (answer(429, retry_after="1"), RateLimitedError),
        (answer(429, x_ratelimit_reset="1800000001"), RateLimitedError),
    ],
)
@pytest.mark.parametrize("auth", ["token", "credentials"])
async def test_refusal_is_raised_at_once_and_the_rotation_not_sent_again(
    server: Scripted, naps: Naps, reply: bytes, kind: type[ManagementAPIError], auth: str
) -> None:
    server.on("POST", ROTATE, reply)
    options = {"auth": StaticToken("t")} if auth == "token" else {}
    async with client_of(server, naps, **options) as keys:
        with pytest.raises(ManagementAPIError) as refused:
            await keys.rotate()
    assert type(refused.value) is kind
    assert server.count("POST", ROTATE) == 1
    assert server.count("GET") == 1
    assert naps.seconds == []


async def test_sixth_rotation_of_the_day_says_when_there_is_another(
    keys: SigningKeysClient, tenant: LocalTenant, naps: Naps
) -> None:
    for _ in range(5):
        await keys.rotate()
    with pytest.raises(RateLimitedError) as refused:
        await keys.rotate()
    assert refused.value.reset_at is not None
    assert refused.value.reset_at.timestamp() == naps.clock.time() + 86_400 / 5
    assert tenant.requests.count(ROTATE) == 6
    assert rotations(tenant) == 5
    assert naps.seconds == []


# --- never sent: safe to try again ---


@pytest.mark.parametrize("fault", ["status", "garbage", "reset", "truncated", "hold"])
async def test_list_that_fails_before_means_that_nothing_was_sent(
    tenant: LocalTenant, naps: Naps, fault: str
) -> None:
    arguments = (503,) if fault == "status" else ()
    getattr(tenant.faults, fault)(*arguments, path=KEYS)
    async with client_of(tenant, naps, timeout=0.2, retries=1) as keys:
        with pytest.raises(ManagementAPIError) as failed:
            await keys.rotate()
    assert not getattr(failed.value, "sent", False)
    assert tenant.requests.count(ROTATE) == 0
    assert rotations(tenant) == 0


async def test_token_that_is_not_granted_means_that_nothing_was_sent(
    keys: SigningKeysClient, tenant: LocalTenant
) -> None:
    tenant.faults.status(500, path=TOKEN)
    with pytest.raises(UnavailableError) as failed:
        await keys.rotate()
    assert failed.value.sent is False
    assert tenant.requests.count(ROTATE) == 0


async def test_list_is_repeated_before_a_rotation_and_the_rotation_is_not(
    keys: SigningKeysClient, tenant: LocalTenant
) -> None:
    tenant.faults.status(503, path=KEYS, times=2)
    assert not (await keys.rotate()).inferred
    assert (tenant.requests.count(KEYS), tenant.requests.count(ROTATE)) == (3, 1)


async def test_refused_connection_is_unavailable_nothing_sent_and_not_tried_again(
    server: Scripted, naps: Naps
) -> None:
    async def last(_: Asked) -> bytes:
        server.hang_up()
        return answer(200, KEY_SET)

    server.on("GET", KEYS, last)
    async with client_of(server, naps) as keys:
        with pytest.raises(UnavailableError, match="Nothing was sent: it is safe") as failed:
            await keys.rotate()
    assert failed.value.sent is False
    assert server.count("POST") == 0
    assert naps.seconds == []


async def test_full_pool_is_unavailable_nothing_sent_and_not_tried_again(
    server: Scripted, naps: Naps
) -> None:
    """Somebody else's request waits for the only connection and has it next."""
    others: list[asyncio.Task[httpx.Response]] = []
    limits = httpx.Limits(max_connections=1)
    async with httpx.AsyncClient(verify=False, trust_env=False, limits=limits) as http:

        async def busy(_: Asked) -> bytes:
            others.append(asyncio.create_task(http.get(f"{server.url}hang", timeout=PATIENCE)))
            await asyncio.sleep(0)
            return answer(200, KEY_SET)

        server.on("GET", KEYS, busy)
        server.on("GET", "/hang", None)
        async with client_of(server, naps, http_client=http, timeout=0.6) as keys:
            with pytest.raises(UnavailableError, match="Nothing was sent") as failed:
                await keys.rotate()
        (other,) = others
        other.cancel()
        await asyncio.wait([other])
    assert failed.value.sent is False
    assert server.count("POST") == 0
    assert naps.seconds == []


@pytest.mark.parametrize(
    "error", [RuntimeError("a defect"), httpx.ConnectError("the collector is away")]
)
async def test_event_hook_that_fails_after_the_rotation_does_not_hide_that_it_rotated(
    tenant: LocalTenant, naps: Naps, error: Exception
) -> None:
    async def hook(response: httpx.Response) -> None:
        if response.request.url.path == ROTATE:
            raise error

    hooks = {"response": [hook]}
    async with (
        httpx.AsyncClient(verify=False, trust_env=False, event_hooks=hooks) as http,
        client_of(tenant, naps, http_client=http) as keys,
    ):
        assert (await keys.rotate()).inferred
    assert tenant.requests.count(ROTATE) == rotations(tenant) == 1


# --- given up ---


async def test_caller_who_gives_up_leaves_one_rotation_behind(
    keys: SigningKeysClient, tenant: LocalTenant
) -> None:
    hold = tenant.faults.hold(path=ROTATE)
    task = asyncio.create_task(keys.rotate())
    await hold.arrived.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    hold.release()
    assert tenant.requests.count(ROTATE) == rotations(tenant) == 1
    await keys.list()
    assert tenant.requests.count(TOKEN) == 2
