"""What the official client does where ours was made to do better, and that both read the same."""

from __future__ import annotations

import asyncio
import dataclasses
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path
from threading import Event
from typing import Any

import httpx
import pytest
from auth0.management import AsyncManagementClient
from auth0.management.core.api_error import ApiError
from auth0.management.core.parse_error import ParsingError
from auth0.management.errors import NotFoundError, TooManyRequestsError, UnauthorizedError

from jwks_guard.admin import SigningKey
from jwks_guard.testing import LocalTenant
from tests.admin.official import (
    SCOPES,
    Flavour,
    Gateway,
    Official,
    https,
    official,
    official_with_credentials,
    ours,
)
from tests.support import PATIENCE, HandClock

KEYS = "/api/v2/keys/signing"
ROTATE = KEYS + "/rotate"
TOKEN = "/oauth/token"
ROTATIONS = 5  # at once, and then as many a day
FLAGS = ("current", "next", "previous", "revoked")
DATES = ("current_since", "current_until", "revoked_at")
SECONDS_PER_ROTATION = 86_400 / ROTATIONS


@pytest.fixture(params=["sync", "async"])
def flavour(request: pytest.FixtureRequest) -> Flavour:
    chosen: Flavour = request.param
    return chosen


@pytest.fixture
def clock() -> HandClock:
    """Of the tenant: the client reads the time of day itself."""
    return HandClock(wall=time.time())


@pytest.fixture
def tenant(clock: HandClock) -> Iterator[LocalTenant]:
    with LocalTenant(algorithm="ES256", clock=clock) as local:
        yield local


@pytest.fixture
def keys(flavour: Flavour, tenant: LocalTenant) -> Iterator[Official]:
    with official(flavour, tenant) as client:
        yield client


@pytest.fixture
def domain(tenant: LocalTenant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    certificate = tmp_path / "front.pem"
    with https(tenant, certificate) as front:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        yield front


def rotations(tenant: LocalTenant) -> int:
    return len(tenant.signing_keys) - 2


def revoke_path(kid: str) -> str:
    return f"{KEYS}/{kid}/revoke"


# A lost answer to rotate.


def test_rotate_whose_answer_breaks_off_is_sent_again_and_rotates_twice_unannounced(
    keys: Official, tenant: LocalTenant
) -> None:
    tenant.faults.truncated(path=ROTATE, times=1)
    answer = keys.rotate()
    assert tenant.requests.count(ROTATE) == rotations(tenant) == 2
    assert answer.kid == tenant.key("next").kid
    assert sum(keys.naps) >= 0.9


def test_rotate_whose_answer_becomes_a_502_on_the_way_rotates_twice_unannounced(
    flavour: Flavour, tenant: LocalTenant
) -> None:
    with (
        httpx.Client(trust_env=False) as http,
        official(flavour, tenant, gateway=losing_the_first_answer(http)) as keys,
    ):
        answer = keys.rotate()
    assert tenant.requests.count(ROTATE) == rotations(tenant) == 2
    assert answer.kid == tenant.key("next").kid


def test_rotate_that_fails_before_it_rotates_is_sent_again_too(
    keys: Official, tenant: LocalTenant
) -> None:
    tenant.faults.status(502, path=ROTATE, times=1)
    keys.rotate()
    assert tenant.requests.count(ROTATE) == 2
    assert rotations(tenant) == 1


def test_rotate_is_sent_once_only_where_the_call_asks_for_no_retries(
    keys: Official, tenant: LocalTenant
) -> None:
    tenant.faults.truncated(path=ROTATE)
    with pytest.raises(httpx.RemoteProtocolError):
        keys.rotate(max_retries=0)
    assert tenant.requests.count(ROTATE) == rotations(tenant) == 1


def test_rotate_that_is_reset_raises_the_error_of_httpx_although_it_rotated(
    keys: Official, tenant: LocalTenant
) -> None:
    tenant.faults.reset(path=ROTATE, times=1)
    with pytest.raises(httpx.ReadError):
        keys.rotate()
    assert tenant.requests.count(ROTATE) == rotations(tenant) == 1


def test_rotate_that_times_out_raises_the_error_of_httpx_although_it_rotated(
    flavour: Flavour, tenant: LocalTenant
) -> None:
    tenant.faults.hold(path=ROTATE, times=1)
    with official(flavour, tenant, timeout=0.5) as keys, pytest.raises(httpx.ReadTimeout):
        keys.rotate()
    assert tenant.requests.count(ROTATE) == rotations(tenant) == 1


# A lost answer to revoke.


def test_revoke_whose_answer_is_lost_is_reported_as_refused(
    keys: Official, tenant: LocalTenant
) -> None:
    for _ in range(2):  # the first key signed the token and stays
        tenant.rotate()
    previous = tenant.key("previous").kid
    tenant.faults.truncated(path=revoke_path(previous), times=1)
    with pytest.raises(ApiError) as refused:
        keys.revoke(previous)
    assert (type(refused.value), refused.value.status_code) == (ApiError, 400)
    assert tenant.requests.count(revoke_path(previous)) == 2
    assert tenant.key(previous).revoked


def test_lost_answer_to_revoking_the_key_of_its_own_token_is_reported_as_unauthorized(
    keys: Official, tenant: LocalTenant
) -> None:
    signer = tenant.key().kid
    tenant.rotate()
    tenant.faults.truncated(path=revoke_path(signer), times=1)
    with pytest.raises(UnauthorizedError):
        keys.revoke(signer)
    assert tenant.key(signer).revoked


# 401 after revoke.


def test_given_token_is_useless_after_its_key_was_revoked(
    keys: Official, tenant: LocalTenant
) -> None:
    retire(tenant.key().kid, keys)
    tenant.requests.clear()
    with pytest.raises(UnauthorizedError) as refused:
        keys.list()
    assert refused.value.body["message"] == "Invalid token"
    assert list(tenant.requests) == [("GET", KEYS)]


def test_own_token_is_kept_and_every_call_fails_after_its_key_was_revoked(
    flavour: Flavour, tenant: LocalTenant, domain: str
) -> None:
    with official_with_credentials(flavour, tenant, domain) as keys:
        retire(tenant.key().kid, keys)
        for call in (keys.list, keys.rotate, partial(keys.get, tenant.key().kid)):
            with pytest.raises(UnauthorizedError):
                call()
    assert tenant.requests.count(TOKEN) == 1
    assert tenant.requests.count(ROTATE) == 2


def test_own_token_is_renewed_only_ten_seconds_before_its_expiry(
    flavour: Flavour, clock: HandClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "front.pem"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    for lifetime, tokens in ((10, 2), (20, 1)):
        with (
            LocalTenant(algorithm="ES256", clock=clock, token_lifetime=lifetime) as tenant,
            https(tenant, tmp_path / "front.pem") as domain,
            official_with_credentials(flavour, tenant, domain) as keys,
        ):
            keys.list()
            keys.list()
            assert tenant.requests.count(TOKEN) == tokens


async def test_async_client_blocks_its_event_loop_while_it_fetches_a_token(
    tenant: LocalTenant, domain: str
) -> None:
    hold = tenant.faults.hold(path=TOKEN)
    loop = asyncio.get_running_loop()

    def loop_is_free() -> bool:
        hold.arrived.wait_blocking()
        turned = Event()
        loop.call_soon_threadsafe(turned.set)
        try:
            return turned.wait(0.3)
        finally:
            hold.release()

    async with httpx.AsyncClient() as http:
        client = AsyncManagementClient(
            domain=domain,
            client_id=tenant.client_id,
            client_secret=tenant.client_secret,
            audience=tenant.management_audience,
            httpx_client=http,
        )
        free = loop.run_in_executor(None, loop_is_free)
        assert len(await client.keys.signing.list()) == 2
    assert not await free


# 429.


@pytest.mark.parametrize(
    ("flavour", "call", "path"),
    [("sync", "rotate", ROTATE), ("async", "rotate", ROTATE), ("async", "list", KEYS)],
)
def test_429_is_tried_twice_more_after_its_retry_after(
    keys: Official, tenant: LocalTenant, call: str, path: str
) -> None:
    tenant.faults.status(429, retry_after=1, path=path)
    with pytest.raises(TooManyRequestsError) as refused:
        getattr(keys, call)()
    assert tenant.requests.count(path) == 3
    assert sum(keys.naps) >= 2
    assert refused.value.headers is not None
    assert refused.value.headers["retry-after"] == "1"


def test_429_without_any_time_is_tried_again_after_about_a_second_and_about_two(
    tenant: LocalTenant,
) -> None:
    tenant.faults.status(429, path=KEYS)
    with official("async", tenant) as keys, pytest.raises(TooManyRequestsError):
        keys.list()
    assert list(keys.naps) == [pytest.approx(1, rel=0.1), pytest.approx(2, rel=0.1)]


@pytest.mark.parametrize(
    ("flavour", "at_least", "at_most"), [("sync", 0, PATIENCE), ("async", 29, 31 * 1.2)]
)
def test_429_that_only_names_its_reset_is_tried_again_then_or_up_to_a_fifth_later(
    keys: Official, tenant: LocalTenant, clock: HandClock, at_least: float, at_most: float
) -> None:
    clock.wall = time.time() - SECONDS_PER_ROTATION + at_least
    spend_the_rotations(keys, tenant)
    with pytest.raises(TooManyRequestsError) as refused:
        keys.rotate(max_retries=1)
    assert tenant.requests.count(ROTATE) == 2
    assert rotations(tenant) == ROTATIONS
    assert at_least <= sum(keys.naps) <= at_most
    assert time_of_reset(refused.value) == str(math.ceil(clock.wall + SECONDS_PER_ROTATION))


def test_rotate_beyond_the_daily_five_sleeps_two_minutes_and_fails(
    tenant: LocalTenant, clock: HandClock
) -> None:
    with official("async", tenant) as keys:
        spend_the_rotations(keys, tenant)
        with pytest.raises(TooManyRequestsError) as refused:
            keys.rotate()
    assert tenant.requests.count(ROTATE) == 3
    assert len(keys.naps) == 2
    assert all(60 <= nap <= 72 for nap in keys.naps)  # 60 s, and up to a fifth more
    assert int(time_of_reset(refused.value)) - clock.wall > 4 * 3600


def test_retry_after_is_cut_down_to_a_minute_and_asked_again_too_early(
    tenant: LocalTenant,
) -> None:
    tenant.faults.status(429, retry_after=3600, path=KEYS)
    with official("async", tenant) as keys, pytest.raises(TooManyRequestsError):
        keys.list()
    assert keys.naps == [60, 60]


def test_429_error_has_its_reset_time_only_as_the_text_of_a_header(
    keys: Official, tenant: LocalTenant
) -> None:
    tenant.faults.status(429, retry_after=7, path=KEYS)
    with pytest.raises(TooManyRequestsError) as refused:
        keys.list(max_retries=0)
    assert set(vars(refused.value)) == {"headers", "status_code", "body"}


# Revoking the current or the next key.


@pytest.mark.parametrize("status", ["current", "next"])
def test_current_and_next_key_are_sent_to_be_revoked_and_only_the_tenant_refuses(
    keys: Official, tenant: LocalTenant, status: str
) -> None:
    kid = tenant.key(status).kid
    with pytest.raises(ApiError) as refused:
        keys.revoke(kid)
    assert list(tenant.requests) == [("PUT", revoke_path(kid))]
    assert (type(refused.value), refused.value.status_code) == (ApiError, 400)
    assert refused.value.body["message"] == f"the {status} key can't be revoked"


def test_unknown_key_is_a_not_found_error(keys: Official) -> None:
    with pytest.raises(NotFoundError):
        keys.revoke("nobody")


# The fields of a key.


def test_key_has_all_documented_fields_absent_ones_are_none_and_dates_are_text(
    keys: Official, tenant: LocalTenant
) -> None:
    kid = tenant.key().kid
    for key in (keys.get(kid), keys.list()[0]):
        fields = dict(key)
        assert set(fields) == {
            *("kid", "cert", "pkcs_7", "fingerprint", "thumbprint"),
            *("current", "next", "previous", "current_since", "current_until"),
            *("revoked", "revoked_at"),
        }
        assert fields["kid"] == kid
        assert fields["current"] is True
        assert {fields[name] for name in ("next", "previous", "revoked")} == {None}
        assert isinstance(fields["current_since"], str)
        assert fields["current_until"] is fields["revoked_at"] is None


def test_rotate_and_revoke_give_kid_and_certificate_only(
    keys: Official, tenant: LocalTenant
) -> None:
    old = tenant.key()
    assert dict(keys.rotate()) == {"kid": tenant.key("next").kid, "cert": tenant.key("next").cert}
    assert dict(keys.revoke(old.kid)) == {"kid": old.kid, "cert": old.cert}


def test_unknown_fields_and_odd_dates_are_kept_but_a_wrong_type_fails_the_whole_list(
    keys: Official, tenant: LocalTenant
) -> None:
    key: dict[str, Any] = {"kid": "k", "cert": "c", "fingerprint": "f", "thumbprint": "t"}
    answers = (
        {**key, "novelty": 1, "current_since": "once", "revoked_at": {"seconds": 1}},
        {**key, "current_since": 1},
    )
    for answer in reversed(answers):
        content = httpx.Response(200, json=[answer]).content
        tenant.faults.garbage(content, content_type="application/json", path=KEYS, times=1)
    odd = keys.list()[0]
    assert odd.model_extra == {"novelty": 1}
    assert (odd.current_since, odd.revoked_at) == ("once", {"seconds": 1})
    with pytest.raises(ParsingError):
        keys.list()


# Beside ours.


@pytest.mark.parametrize("our_flavour", ["sync", "async"])
@pytest.mark.parametrize("stage", ["fresh", "rotated", "rotated twice", "revoked", "all revoked"])
def test_both_clients_read_every_field_of_every_key_alike(
    tenant: LocalTenant, clock: HandClock, stage: str, our_flavour: Flavour, flavour: Flavour
) -> None:
    bring_to(stage, tenant, clock)
    with ours(our_flavour, tenant) as mine, official(flavour, tenant) as theirs:
        read, read_by_them = mine.list(), theirs.list()
        assert [key.kid for key in read] == [key.kid for key in tenant.signing_keys]
        for key, their_key in zip(read, read_by_them, strict=True):
            assert fields(key) == their_fields(their_key)
            assert fields(mine.get(key.kid)) == their_fields(theirs.get(key.kid)) == fields(key)


@pytest.mark.parametrize("our_flavour", ["sync", "async"])
def test_keys_that_we_rotate_and_revoke_are_read_alike_by_the_official_client(
    tenant: LocalTenant, our_flavour: Flavour, flavour: Flavour
) -> None:
    old = tenant.key()
    with ours(our_flavour, tenant) as mine, lasting(flavour, tenant) as theirs:
        following = mine.rotate()
        assert told(fields(following)) == told(their_fields(theirs.get(following.kid)))
        assert theirs.list()[1].kid == following.kid
        assert theirs.get(old.kid).previous
        revoked = mine.revoke(old.kid)
        assert told(fields(revoked)) == told(their_fields(theirs.get(old.kid)))
        assert revoked.revoked


@pytest.mark.parametrize("our_flavour", ["sync", "async"])
def test_keys_that_the_official_client_rotates_and_revokes_are_read_alike_by_us(
    tenant: LocalTenant, our_flavour: Flavour, flavour: Flavour
) -> None:
    old = tenant.key()
    with ours(our_flavour, tenant) as mine, lasting(flavour, tenant) as theirs:
        assert mine.get(old.kid).current
        answer = theirs.rotate()
        following = mine.get(answer.kid)
        assert (following.cert, following.next) == (answer.cert, True)
        assert mine.get(old.kid).previous
        answer = theirs.revoke(old.kid)
        revoked = mine.get(answer.kid)
        assert (revoked.kid, revoked.cert, revoked.revoked) == (old.kid, answer.cert, True)


@pytest.mark.parametrize("our_flavour", ["sync", "async"])
def test_answers_of_rotate_and_revoke_are_read_alike_from_the_same_bytes(
    tenant: LocalTenant, our_flavour: Flavour, flavour: Flavour
) -> None:
    tenant.rotate()
    for call, kid in (("rotate", tenant.key("next").kid), ("revoke", tenant.key("previous").kid)):
        answer = {"kid": kid, "cert": tenant.key(kid).cert, "novelty": [1]}
        path = ROTATE if call == "rotate" else revoke_path(kid)
        tenant.faults.garbage(
            httpx.Response(200, json=answer).content, content_type="application/json", path=path
        )
        arguments = () if call == "rotate" else (kid,)
        with ours(our_flavour, tenant) as mine, official(flavour, tenant) as theirs:
            key, their_answer = (getattr(each, call)(*arguments) for each in (mine, theirs))
        assert (key.kid, key.cert) == (their_answer.kid, their_answer.cert)
        assert key.extra == their_answer.model_extra == {"novelty": [1]}


def bring_to(stage: str, tenant: LocalTenant, clock: HandClock) -> None:
    """Rotate and revoke as often as `stage` says, at moments with and without milliseconds."""
    steps = {
        "fresh": (0, 0),
        "rotated": (1, 0),
        "rotated twice": (2, 0),
        "revoked": (2, 1),
        "all revoked": (2, 2),
    }
    rotated, revoked = steps[stage]
    clock.wall = math.floor(clock.wall)
    for _ in range(rotated):
        clock.advance(60.25)
        tenant.rotate()
    for _ in range(revoked):
        clock.advance(3600)
        tenant.revoke(tenant.key("previous").kid)


def fields(key: SigningKey) -> dict[str, object]:
    """All that our client read, by the names that the API documents."""
    members = {field.name: getattr(key, field.name) for field in dataclasses.fields(key)}
    assert members.pop("inferred") is False
    assert members.pop("extra") == {}
    assert {name for name in FLAGS if type(members[name]) is not bool} == set()
    assert {members[name].utcoffset() for name in DATES if members[name]} <= {timedelta()}
    return members


def their_fields(key: Any) -> dict[str, object]:
    """The same of the official client: its `None` for false, and its dates parsed."""
    members = {"pkcs7" if name == "pkcs_7" else name: value for name, value in key}
    flags = {name: members[name] or False for name in FLAGS}
    dates = {name: parsed(members[name]) for name in DATES}
    return {**members, **flags, **dates}


def parsed(date: str | None) -> datetime | None:
    return None if date is None else datetime.strptime(date, "%Y-%m-%dT%H:%M:%S.%f%z")


def told(members: Mapping[str, object]) -> dict[str, object]:
    """What the answer to a rotation or a revocation says, or what follows from it."""
    names = ("kid", "cert", "fingerprint", "thumbprint", *FLAGS)
    return {name: members[name] for name in names}


def lasting(flavour: Flavour, tenant: LocalTenant) -> AbstractContextManager[Official]:
    """The official client with a token that survives the revocation of the current key."""
    token = tenant.token(audience=tenant.management_audience, scope=SCOPES, key="next")
    return official(flavour, tenant, token=token)


def retire(kid: str, keys: Official) -> None:
    keys.rotate()
    keys.revoke(kid)


def spend_the_rotations(keys: Official, tenant: LocalTenant) -> None:
    for _ in range(ROTATIONS):
        keys.rotate()
    tenant.requests.clear()


def time_of_reset(error: ApiError) -> str:
    assert error.headers is not None
    assert "retry-after" not in error.headers
    return error.headers["x-ratelimit-reset"]


def losing_the_first_answer(http: httpx.Client) -> Gateway:
    """A gateway that passes on what it gets, and answers 502 to whoever comes first."""
    answers = count()

    def answer(request: httpx.Request) -> httpx.Response:
        response = http.send(request)
        if next(answers):
            return httpx.Response(response.status_code, json=response.json())
        return httpx.Response(502, html="<h1>Bad Gateway</h1>")

    return answer
