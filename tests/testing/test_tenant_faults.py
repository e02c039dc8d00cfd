from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

import httpx
import pytest

from jwks_guard.testing import DISCOVERY_PATH, LocalTenant, ManualClock
from jwks_guard.testing.faults import Faults

LONG = 3600.0  # s; a test that waited for it would be seen


def kids(response: httpx.Response) -> list[str]:
    return [jwk["kid"] for jwk in response.json()["keys"]]


async def test_status_is_answered_with_its_retry_after(
    tenant: LocalTenant, client: httpx.AsyncClient
) -> None:
    tenant.faults.status(429, retry_after=7)
    response = await client.get(tenant.jwks_uri)
    assert response.status_code == 429
    assert response.headers["Retry-After"] == "7"
    assert response.headers["Date"] == "Sun, 15 Jun 2025 15:06:40 GMT"
    tenant.faults.status(503)
    response = await client.get(tenant.jwks_uri)
    assert response.status_code == 503
    assert "Retry-After" not in response.headers


async def test_fault_ends_after_its_times_and_the_one_before_is_back(
    tenant: LocalTenant, client: httpx.AsyncClient
) -> None:
    tenant.faults.status(500, times=3)
    tenant.faults.status(502, times=1)
    statuses = [(await client.get(tenant.jwks_uri)).status_code for _ in range(5)]
    assert statuses == [502, 500, 500, 500, 200]


async def test_fault_meets_only_its_path(tenant: LocalTenant, client: httpx.AsyncClient) -> None:
    tenant.faults.status(500, path=DISCOVERY_PATH)
    assert (await client.get(tenant.jwks_uri)).status_code == 200
    assert (await client.get(DISCOVERY_PATH)).status_code == 500
    tenant.faults.status(503, path="*")
    assert (await client.get(tenant.jwks_uri)).status_code == 503
    assert (await client.get("/pem")).status_code == 503


async def test_clear_switches_every_fault_off(
    tenant: LocalTenant, client: httpx.AsyncClient
) -> None:
    tenant.faults.status(500)
    tenant.faults.delay(LONG)
    tenant.faults.reset()
    tenant.faults.clear()
    assert (await client.get(tenant.jwks_uri)).json() == tenant.jwks()


async def test_garbage_is_html_with_status_200_or_what_was_asked_for(
    tenant: LocalTenant, client: httpx.AsyncClient
) -> None:
    tenant.faults.garbage()
    response = await client.get(tenant.jwks_uri)
    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("text/html")
    tenant.faults.garbage(b"\xff\x00", content_type="application/json")
    response = await client.get(tenant.jwks_uri)
    assert response.headers["Content-Type"] == "application/json"
    assert response.content == b"\xff\x00"


async def test_redirect_leads_away(tenant: LocalTenant, client: httpx.AsyncClient) -> None:
    tenant.faults.redirect("https://evil.test/jwks.json")
    response = await client.get(tenant.jwks_uri)
    assert response.status_code == 302
    assert response.headers["Location"] == "https://evil.test/jwks.json"


async def test_empty_set_looks_like_a_good_one(
    tenant: LocalTenant, client: httpx.AsyncClient
) -> None:
    good = await client.get(tenant.jwks_uri)
    tenant.faults.empty()
    response = await client.get(tenant.jwks_uri)
    assert response.json() == {"keys": []}
    assert response.headers["Last-Modified"] == good.headers["Last-Modified"]
    assert response.headers["Content-Type"] == good.headers["Content-Type"]


async def test_age_is_added_to_any_answer(tenant: LocalTenant, client: httpx.AsyncClient) -> None:
    tenant.faults.age(86_400)
    response = await client.get(tenant.jwks_uri)
    assert response.headers["Age"] == "86400"
    assert response.json() == tenant.jwks()


async def test_rollback_serves_an_earlier_set_with_its_last_modified(
    tenant: LocalTenant, client: httpx.AsyncClient, clock: ManualClock
) -> None:
    old = tenant.key().kid
    clock.advance(60)
    tenant.rotate()
    before = await client.get(tenant.jwks_uri)
    clock.advance(60)
    tenant.revoke(old)
    tenant.faults.rollback(age=45)
    stale = await client.get(tenant.jwks_uri)
    assert stale.content == before.content
    assert old in kids(stale)
    assert stale.headers["Last-Modified"] == before.headers["Last-Modified"]
    assert stale.headers["Age"] == "45"
    assert stale.headers["Date"] == "Sun, 15 Jun 2025 15:08:40 GMT"


async def test_rollback_of_no_version_freezes_an_edge_at_the_present_set(
    tenant: LocalTenant, client: httpx.AsyncClient
) -> None:
    tenant.faults.rollback(0, age=None)
    following = tenant.rotate()
    frozen = await client.get(tenant.jwks_uri)
    assert following not in kids(frozen)
    assert "Age" not in frozen.headers


async def test_rollback_to_before_the_first_set_is_refused(tenant: LocalTenant) -> None:
    with pytest.raises(LookupError, match="changed 0 times"):
        tenant.faults.rollback(1)


async def test_flapping_edges_serve_the_old_and_the_new_set_in_turn(
    tenant: LocalTenant, client: httpx.AsyncClient
) -> None:
    first = tenant.rotate()
    tenant.faults.flap()
    second = tenant.rotate()
    answers = [await client.get(tenant.jwks_uri) for _ in range(4)]
    assert [first in kids(answer) for answer in answers] == [False, True, False, True]
    assert [second in kids(answer) for answer in answers] == [False, True, False, True]
    assert ["Age" in answer.headers for answer in answers] == [True, False, True, False]


async def test_hold_keeps_an_answer_back_that_was_made_before(
    tenant: LocalTenant, client: httpx.AsyncClient
) -> None:
    hold = tenant.faults.hold(times=1)
    slow = asyncio.create_task(client.get(tenant.jwks_uri))
    await hold.arrived.wait()
    following = tenant.rotate()
    fast = await client.get(tenant.jwks_uri)
    assert not slow.done()
    hold.release()
    assert following in kids(fast)
    assert following not in kids(await slow)


async def test_clear_lets_out_what_is_held_delayed_or_dripping(
    tenant: LocalTenant, client: httpx.AsyncClient
) -> None:
    hold = tenant.faults.hold(times=1)
    first = asyncio.create_task(client.get(tenant.jwks_uri))
    await hold.arrived.wait()
    tenant.faults.delay(LONG, times=1)
    second = asyncio.create_task(client.get(tenant.jwks_uri))
    tenant.faults.drip(interval=LONG, path=DISCOVERY_PATH)
    async with client.stream("GET", DISCOVERY_PATH) as third:
        chunks = third.aiter_bytes()
        assert len(await anext(chunks)) == 16
        tenant.faults.clear()
        assert len(b"".join([chunk async for chunk in chunks])) > 16
    assert (await first).json() == (await second).json() == tenant.jwks()


async def test_held_answer_runs_into_the_read_timeout_of_the_client(
    tenant: LocalTenant, client: httpx.AsyncClient
) -> None:
    hold = tenant.faults.hold()
    with pytest.raises(httpx.ReadTimeout):
        await client.get(tenant.jwks_uri, timeout=httpx.Timeout(10, read=0.05))
    hold.release()
    assert (await client.get(tenant.jwks_uri)).status_code == 200


async def test_client_that_left_before_the_fault_leaves_no_error_behind(
    tenant: LocalTenant, client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    hold = tenant.faults.hold(times=1)
    tenant.faults.reset(times=1)
    with pytest.raises(httpx.ReadTimeout):
        await client.get(tenant.jwks_uri, timeout=httpx.Timeout(10, read=0.05))
    await client.get(tenant.jwks_uri)  # by now the tenant knows that the first one is gone
    hold.release()
    await client.get(tenant.jwks_uri)
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []


async def test_delayed_answer_comes_in_the_end(
    tenant: LocalTenant, client: httpx.AsyncClient
) -> None:
    loop = asyncio.get_running_loop()
    tenant.faults.delay(0.05)
    begin = loop.time()
    assert (await client.get(tenant.jwks_uri)).status_code == 200
    assert loop.time() - begin >= 0.05


async def test_dripping_answer_is_whole_in_the_end(
    tenant: LocalTenant, client: httpx.AsyncClient
) -> None:
    tenant.faults.drip(size=400, interval=0.001)
    response = await client.get(tenant.jwks_uri)
    assert response.json() == tenant.jwks()


async def test_truncated_answer_ends_before_its_content_length(
    tenant: LocalTenant, client: httpx.AsyncClient
) -> None:
    tenant.faults.truncated()
    with pytest.raises(httpx.RemoteProtocolError, match="complete message body"):
        await client.get(tenant.jwks_uri)


async def test_reset_connection_is_a_read_error(
    tenant: LocalTenant, client: httpx.AsyncClient
) -> None:
    tenant.faults.reset(times=1)
    with pytest.raises(httpx.ReadError):
        await client.get(tenant.jwks_uri)
    assert (await client.get(tenant.jwks_uri)).status_code == 200


async def test_rotation_whose_answer_is_lost_has_happened(
    tenant: LocalTenant, client: httpx.AsyncClient
) -> None:
    path = "/api/v2/keys/signing/rotate"
    scope = "create:signing_keys update:signing_keys"
    token = tenant.token(audience=tenant.management_audience, scope=scope)
    following = tenant.key("next").kid
    tenant.faults.reset(path=path)
    with pytest.raises(httpx.ReadError):
        await client.post(path, headers={"Authorization": f"Bearer {token}"})
    assert tenant.key("current").kid == following


@pytest.mark.parametrize("fault", [Faults.oversized, Faults.gzip_bomb])
async def test_padded_answer_is_good_apart_from_its_size(
    tenant: LocalTenant, client: httpx.AsyncClient, fault: Callable[..., None]
) -> None:
    good = await client.get(tenant.jwks_uri)
    fault(tenant.faults, size=1_000_000)
    response = await client.get(tenant.jwks_uri)
    assert len(response.content) == len(good.content) + 1_000_000
    assert response.json() == tenant.jwks()
    assert response.headers["Last-Modified"] == good.headers["Last-Modified"]


async def test_gzip_bomb_is_small_on_the_wire(
    tenant: LocalTenant, client: httpx.AsyncClient
) -> None:
    tenant.faults.gzip_bomb()
    async with client.stream("GET", tenant.jwks_uri) as response:
        raw = b"".join([chunk async for chunk in response.aiter_raw()])
    assert response.headers["Content-Encoding"] == "gzip"
    assert len(raw) < 20_000


async def test_faults_of_different_stages_meet_in_one_answer(
    tenant: LocalTenant, client: httpx.AsyncClient
) -> None:
    tenant.faults.garbage(b"0123456789")
    hold = tenant.faults.hold()
    tenant.faults.truncated()
    task = asyncio.create_task(client.get(tenant.jwks_uri))
    await hold.arrived.wait()
    hold.release()
    with pytest.raises(httpx.RemoteProtocolError, match="received 5 bytes, expected 10"):
        await task


async def test_faulty_requests_are_in_the_log_too(
    tenant: LocalTenant, client: httpx.AsyncClient
) -> None:
    tenant.faults.status(500, times=1)
    await client.get(tenant.jwks_uri)
    tenant.faults.reset(times=1)
    with suppress(httpx.ReadError):
        await client.get(tenant.jwks_uri)
    assert tenant.requests.count() == 2


async def test_tenant_stops_at_once_while_answers_are_held() -> None:
    async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
        async with LocalTenant(algorithm="ES256") as tenant:
            hold = tenant.faults.hold()
            tenant.faults.drip(interval=LONG)
            task = asyncio.create_task(client.get(tenant.jwks_uri))
            await hold.arrived.wait()
        assert (await task).status_code == 200
