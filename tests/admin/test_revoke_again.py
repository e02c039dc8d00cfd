"""Revoking is safe to repeat, and never reaches the keys that sign now or next."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from jwks_guard.admin import ClientCredentials, SigningKeysClient, StaticToken
from jwks_guard.errors import (
    ForbiddenError,
    ManagementAPIError,
    NotFoundError,
    RateLimitedError,
    RevocationRefusedError,
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
    TOKEN,
    Asked,
    Naps,
    Reply,
    Scripted,
    answer,
    bound,
    client_of,
    key_document,
    scripted,
)
from tests.support import PATIENCE, HandClock

ONE = f"{KEYS}/previous"
REVOKE = f"{ONE}/revoke"


@pytest.fixture
def tenant(clock: HandClock) -> Iterator[LocalTenant]:
    """With one previously used key."""
    with LocalTenant(algorithm="ES256", clock=clock) as local:
        local.rotate()
        yield local


@pytest.fixture
async def keys(tenant: LocalTenant, naps: Naps) -> AsyncIterator[SigningKeysClient]:
    async with client_of(tenant, naps, timeout=PATIENCE) as client:
        yield client


@pytest.fixture
async def server() -> AsyncIterator[Scripted]:
    async with scripted() as listening:
        listening.on("GET", KEYS, answer(200, KEY_SET))
        listening.on("GET", ONE, answer(200, KEY_SET[2]))
        yield listening


def revoked_then(server: Scripted, reply: bytes) -> Reply:
    """Revokes in truth, and answers something else."""

    async def revoke(_: Asked) -> bytes:
        gone = key_document("previous", revoked=True, revoked_at="2027-01-15T08:00:00Z")
        server.on("GET", ONE, answer(200, gone))
        return reply

    return revoke


def puts(tenant: LocalTenant) -> int:
    return sum(method == "PUT" for method, _ in tenant.requests)


# --- answered ---


async def test_revoked_key_is_given_with_its_certificate(
    keys: SigningKeysClient, tenant: LocalTenant, naps: Naps
) -> None:
    old = tenant.key("previous")
    key = await keys.revoke(old.kid)
    assert tenant.key(old.kid).revoked
    assert (key.kid, key.state, key.inferred) == (old.kid, "revoked", False)
    assert key.certificate == old.certificate
    assert key.thumbprint == old.thumbprint
    assert puts(tenant) == 1
    assert naps.seconds == []


async def test_key_that_is_revoked_already_is_success_and_nothing_is_sent(
    keys: SigningKeysClient, tenant: LocalTenant
) -> None:
    old = tenant.key("previous").kid
    tenant.revoke(old)
    key = await keys.revoke(old)
    assert (key.state, key.inferred) == ("revoked", True)
    assert key.revoked_at is not None
    assert puts(tenant) == 0


async def test_key_that_the_list_leaves_out_is_read_by_itself(server: Scripted, naps: Naps) -> None:
    server.on("GET", KEYS, answer(200, KEY_SET[:2]))
    server.on("PUT", REVOKE, answer(200, {"kid": "previous", "cert": "c"}))
    async with client_of(server, naps) as keys:
        assert not (await keys.revoke("previous")).inferred
        server.on("GET", ONE, answer(200, key_document("previous", revoked=True)))
        assert (await keys.revoke("previous")).inferred
    assert server.count("PUT") == 1


# --- done, and the answer lost: read again ---


@pytest.mark.parametrize("fault", ["reset", "truncated", "oversized", "hold", "drip"])
async def test_lost_answer_to_a_revocation_that_took_place_is_success(
    tenant: LocalTenant, naps: Naps, fault: str
) -> None:
    old = tenant.key("previous").kid
    getattr(tenant.faults, fault)(path=f"{KEYS}/{old}/revoke")
    async with client_of(tenant, naps, timeout=bound(fault)) as keys:
        key = await keys.revoke(old)
    assert (key.state, key.inferred) == ("revoked", True)
    assert key.revoked_at is not None
    assert puts(tenant) == 1
    assert naps.seconds == []


@pytest.mark.parametrize(
    "reply",
    [
        *(answer(status) for status in (302, 400, 403, 404, 409, 410, 500, 502, 503)),
        *(answer(200, HTML), answer(200), answer(204), answer(200, []), answer(200, {})),
        *(answer(200, {"kid": 5}), b"", b"HTTP/1.1 200 OK\r\nbroken\r\n\r\n"),
        answer(200, b"{", content_length=400),
        answer(503, retry_after="86400"),
    ],
)
async def test_whatever_the_answer_a_key_that_reads_as_revoked_is_success(
    server: Scripted, naps: Naps, reply: bytes
) -> None:
    server.on("PUT", REVOKE, revoked_then(server, reply))
    async with client_of(server, naps) as keys:
        key = await keys.revoke("previous")
    assert (key.kid, key.state, key.inferred) == ("previous", "revoked", True)
    assert server.count("PUT") == 1
    assert naps.seconds == []


async def test_answer_lost_with_the_token_that_its_own_key_signed_is_success(
    tenant: LocalTenant, naps: Naps
) -> None:
    """The token is worth nothing from then on, so a new one reads the key."""
    async with client_of(tenant, naps) as keys:
        signer = tenant.key().kid
        await keys.list()
        tenant.rotate()
        tenant.faults.truncated(path=f"{KEYS}/{signer}/revoke")
        assert (await keys.revoke(signer)).inferred
        assert len(await keys.list()) == 4
    assert puts(tenant) == 1


@pytest.mark.parametrize("times", [1, 2, 3])
async def test_failure_that_passes_is_repeated_until_the_key_is_revoked(
    keys: SigningKeysClient, tenant: LocalTenant, naps: Naps, times: int
) -> None:
    old = tenant.key("previous").kid
    tenant.faults.status(500, path=f"{KEYS}/{old}/revoke", times=times)
    key = await keys.revoke(old)
    assert tenant.key(old).revoked
    assert not key.inferred
    assert puts(tenant) == 1 + times
    assert len(naps.seconds) == times


async def test_rate_limit_is_waited_for(
    keys: SigningKeysClient, tenant: LocalTenant, naps: Naps
) -> None:
    old = tenant.key("previous").kid
    tenant.faults.status(429, retry_after=7, path=f"{KEYS}/{old}/revoke", times=1)
    assert (await keys.revoke(old)).revoked
    assert [int(pause) for pause in naps.seconds] == [7]
    assert puts(tenant) == 2


# --- not done ---


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (302, ManagementAPIError),
        (400, ManagementAPIError),
        (403, ForbiddenError),
        (404, NotFoundError),
        (409, ManagementAPIError),
    ],
)
async def test_refusal_of_a_key_that_is_not_revoked_is_raised_at_once(
    keys: SigningKeysClient,
    tenant: LocalTenant,
    naps: Naps,
    status: int,
    kind: type[ManagementAPIError],
) -> None:
    old = tenant.key("previous").kid
    tenant.faults.status(status, path=f"{KEYS}/{old}/revoke")
    with pytest.raises(ManagementAPIError, match="Switched on for a test") as refused:
        await keys.revoke(old)
    assert type(refused.value) is kind
    assert refused.value.status == status
    assert puts(tenant) == 1
    assert naps.seconds == []


@pytest.mark.parametrize("reply", [answer(500), answer(503), b"", answer(504, HTML)])
async def test_revocation_that_never_takes_place_is_given_up_within_its_bounds(
    server: Scripted, naps: Naps, reply: bytes
) -> None:
    server.on("PUT", REVOKE, reply)
    async with client_of(server, naps, retries=2) as keys:
        with pytest.raises(UnavailableError):
            await keys.revoke("previous")
    assert server.count("PUT") == 3
    assert server.count("GET", ONE) == 3
    assert len(naps.seconds) == 2


@pytest.mark.parametrize("limit", [answer(429), answer(429, retry_after="600")])
async def test_rate_limit_that_stays_is_raised_and_the_key_not_read(
    server: Scripted, naps: Naps, limit: bytes
) -> None:
    server.on("PUT", REVOKE, limit)
    async with client_of(server, naps, retries=1) as keys:
        with pytest.raises(RateLimitedError):
            await keys.revoke("previous")
    assert server.count("PUT") == (1 if b"600" in limit else 2)
    assert server.count("GET", ONE) == 0


@pytest.mark.parametrize("lost", [answer(500), answer(404), answer(429), answer(200, HTML), b""])
async def test_key_that_cannot_be_read_again_leaves_the_error_of_the_revocation(
    server: Scripted, naps: Naps, lost: bytes
) -> None:
    server.on("PUT", REVOKE, answer(409, {"message": "Because"}))
    server.on("GET", ONE, lost)
    async with client_of(server, naps) as keys:
        with pytest.raises(ManagementAPIError, match="Because") as refused:
            await keys.revoke("previous")
    assert refused.value.status == 409
    assert refused.value.__cause__ is None


async def test_another_key_that_is_revoked_is_no_success(server: Scripted, naps: Naps) -> None:
    server.on("PUT", REVOKE, answer(409, {"message": "Because"}))
    server.on("GET", ONE, answer(200, key_document("other", revoked=True)))
    async with client_of(server, naps) as keys:
        with pytest.raises(ManagementAPIError, match="Because"):
            await keys.revoke("previous")


async def test_key_that_is_not_listed_is_revoked_only_if_it_says_that_it_was_used_before(
    server: Scripted,
) -> None:
    """The list may lag behind a rotation, and the key be the next one."""
    server.on("GET", KEYS, answer(200, KEY_SET[:2]))
    server.on("GET", ONE, answer(200, key_document("previous")))
    async with client_of(server) as keys:
        with pytest.raises(RevocationRefusedError, match="does not list previous"):
            await keys.revoke("previous")
    assert server.count("PUT") == 0


async def test_unknown_key_is_not_found_and_nothing_is_sent(
    keys: SigningKeysClient, tenant: LocalTenant
) -> None:
    with pytest.raises(NotFoundError):
        await keys.revoke("nobody")
    assert puts(tenant) == 0


@pytest.mark.parametrize(("auth", "attempts"), [(StaticToken(BEARER), 1), (CREDENTIALS, 2)])
async def test_401_to_a_revocation_is_tried_once_more_where_there_is_a_new_token(
    server: Scripted, naps: Naps, auth: StaticToken | ClientCredentials, attempts: int
) -> None:
    server.on("PUT", REVOKE, answer(401))
    async with client_of(server, naps, auth=auth) as keys:
        with pytest.raises(UnauthorizedError):
            await keys.revoke("previous")
    assert server.count("PUT") == attempts
    assert naps.seconds == []


# --- the keys that are never revoked ---


@pytest.mark.parametrize("status", ["current", "next"])
async def test_current_and_next_key_are_refused_before_anything_is_sent(
    keys: SigningKeysClient, tenant: LocalTenant, status: str
) -> None:
    kid = tenant.key(status).kid
    with pytest.raises(RevocationRefusedError, match=f"{status} key.* Rotate first") as refused:
        await keys.revoke(kid)
    assert kid in str(refused.value)
    assert puts(tenant) == 0
    assert list(tenant.requests) == [("POST", TOKEN), ("GET", KEYS)]


@pytest.mark.parametrize(
    "listed",
    [
        [key_document("previous")],
        [key_document("previous"), key_document("other")],
        [key_document("previous", previous=True)],
        [key_document("previous", previous=True), key_document("other", current=True)],
        [key_document("previous", previous=True), key_document("other", next=True)],
        [key_document("previous", current=False, next=False), key_document("other", current=True)],
        [key_document("previous", revoked=True), key_document("previous", current=True)],
        [key_document("previous", previous=True, current=True), *KEY_SET[:2]],
        [key_document("previous", previous=True, next=True), *KEY_SET[:2]],
        [],
    ],
)
async def test_key_that_might_be_current_or_next_is_refused_before_anything_is_sent(
    server: Scripted, listed: list[dict[str, object]]
) -> None:
    server.on("GET", KEYS, answer(200, listed))
    server.on("GET", ONE, answer(200, key_document("previous")))
    async with client_of(server) as keys:
        with pytest.raises(RevocationRefusedError):
            await keys.revoke("previous")
    assert server.count("PUT") == 0


async def test_list_that_cannot_be_read_means_that_nothing_is_sent(
    keys: SigningKeysClient, tenant: LocalTenant
) -> None:
    for fault in (tenant.faults.garbage, tenant.faults.reset):
        fault(path=KEYS)
        with pytest.raises(ManagementAPIError):
            await keys.revoke(tenant.key("previous").kid)
    assert puts(tenant) == 0


async def test_key_becomes_revocable_by_a_rotation(
    keys: SigningKeysClient, tenant: LocalTenant
) -> None:
    kid = tenant.key().kid
    with pytest.raises(RevocationRefusedError):
        await keys.revoke(kid)
    assert not (await keys.rotate()).inferred
    assert (await keys.revoke(kid)).revoked
    assert tenant.key(kid).revoked
