"""The directory in which workers meet: what it may hold, and what goes wrong with it."""

from __future__ import annotations

import gc
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx
import msgspec
import pytest
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.routing import Mount

from jwks_guard import ConfigurationError
from jwks_guard.asgi import operations
from jwks_guard.base.files import held_open, write_atomically
from jwks_guard.base.histogram import BOUNDS, Durations
from jwks_guard.observability import VerifierCollector
from jwks_guard.observability.joining import joined, kept
from jwks_guard.observability.reading import Reading, Shown, shown
from jwks_guard.observability.workers import workers_of
from jwks_guard.readiness.usage import KeyUsage
from jwks_guard.testing import LocalTenant
from tests.observability.samples import registry_of
from tests.support import HandClock, verifier_of

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
VERIFICATIONS = "jwks_guard_verifications_total"
SECRET = "correct-horse-battery"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    return tmp_path


# --- what several processes show, taken together ---


@pytest.fixture
async def reading(tenant: LocalTenant, clock: HandClock) -> Reading:
    """Of a process that has accepted one token."""
    async with verifier_of(tenant, clock) as verifier:
        await verifier.verify(tenant.token())
        (reading,) = shown([verifier.keys]).issuers
        return reading


def test_gauges_show_the_worst_and_counters_the_sum(reading: Reading) -> None:
    (kid,) = [kid for kid, usage in reading.usage.items() if usage.accepted]
    assert reading.confirmed_at is not None
    worse = replace(
        reading,
        status="degraded",
        confirmed_at=reading.confirmed_at - 60,
        detection_bound=reading.detection_bound + 60,
        distrusted=1,
        trusted={**reading.trusted, kid: False},
    )
    (both,) = joined([Shown((reading,)), Shown((worse,))], Shown()).issuers
    assert both.process == "all"
    assert (both.status, both.confirmed_at) == ("degraded", worse.confirmed_at)
    assert (both.detection_bound, both.distrusted) == (worse.detection_bound, 1)
    assert both.trusted[kid] is False
    assert both.outcomes["accepted"] == both.usage[kid].accepted == both.misses == 2
    assert sum(both.fetch_durations.counts) == both.fetches["confirmed"] == 2
    assert sum(both.verification_durations.counts) == 2


def test_worker_without_keys_has_no_time_to_show(reading: Reading) -> None:
    empty = replace(reading, status="unavailable", confirmed_at=None, trusted_until=None)
    (both,) = joined([Shown((reading,)), Shown((empty,))], Shown()).issuers
    assert (both.status, both.confirmed_at, both.trusted_until) == ("unavailable", None, None)


def test_of_ended_workers_only_the_counts_are_shown(reading: Reading) -> None:
    (kid,) = [kid for kid, usage in reading.usage.items() if usage.accepted]
    gone = replace(reading, status="unavailable", usage={**reading.usage, "old": KeyUsage(7)})
    ended = kept([Shown((gone,)), Shown((gone,))])
    (sum_,) = joined([Shown((reading,))], ended).issuers
    assert sum_.status == "ok"
    assert sum_.outcomes["accepted"] == sum_.usage[kid].accepted == 3
    assert set(sum_.usage) == set(reading.trusted)
    assert joined([], ended).issuers == ()


def test_durations_are_counted_in_buckets_whose_bound_they_do_not_exceed() -> None:
    durations = Durations()
    for seconds in (0.0, BOUNDS[0], BOUNDS[0] + 0.001, BOUNDS[-1] + 1):
        durations = durations.with_one(seconds)
    assert (durations.counts[:2], durations.counts[-1]) == ((2, 1), 1)
    assert durations.seconds == pytest.approx(sum((0.005, 0.006, BOUNDS[-1] + 1)))


# --- in one process ---


async def test_collectors_that_are_made_for_each_scrape_count_a_verifier_once(
    tenant: LocalTenant, clock: HandClock, folder: Path
) -> None:
    async with verifier_of(tenant, clock) as verifier:
        await verifier.verify(tenant.token())
        for _ in range(3):
            registry = registry_of(verifier)
            assert registry.value(VERIFICATIONS, outcome="accepted") == 1


async def test_files_are_private_and_hold_no_token(
    tenant: LocalTenant, clock: HandClock, folder: Path
) -> None:
    async with verifier_of(tenant, clock) as verifier:
        token = tenant.token(sub="somebody", claims={"azp": "a-shop", "org_id": "org_acme"})
        await verifier.verify(token)
        assert registry_of(verifier).value(VERIFICATIONS, outcome="accepted") == 1
        files = [*folder.iterdir()]  # noqa: ASYNC240
        assert files
        for file in files:
            assert file.stat().st_mode & 0o077 == 0
            content = file.read_text()
            assert token not in content
            assert not any(name in content for name in ("somebody", "a-shop", "org_acme"))


# --- what goes wrong ---


@pytest.mark.parametrize("name", ["missing", "file"])
def test_directory_that_can_not_be_used_is_a_configuration_error(
    tenant: LocalTenant,
    clock: HandClock,
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv(VARIABLE, str(tmp_path / name))
    verifier = verifier_of(tenant, clock)
    with pytest.raises(ConfigurationError, match=rf"{VARIABLE} is not a directory .* mkdir -p"):
        VerifierCollector(verifier)
    with pytest.raises(ConfigurationError, match=VARIABLE):
        operations(verifier, operations_auth=SECRET)


async def test_directory_that_is_emptied_is_written_to_again(
    tenant: LocalTenant, clock: HandClock, folder: Path
) -> None:
    async with verifier_of(tenant, clock) as verifier:
        registry = registry_of(verifier)
        await verifier.verify(tenant.token())
        for _ in range(2):
            assert registry.value(VERIFICATIONS, outcome="accepted") == 1
            written = [*folder.glob("jwks_guard-*")]  # noqa: ASYNC240
            assert sorted(path.suffix for path in written) == [".json", ".lock"]
            for path in folder.iterdir():  # noqa: ASYNC240
                path.unlink()


async def test_file_of_another_version_is_left_out_and_named_in_the_log(
    tenant: LocalTenant, clock: HandClock, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    foreign = folder / "jwks_guard-0123456789abcdef.json"
    foreign.write_text('{"later": true, "issuers": 5}')
    foreign.chmod(0o600)
    async with verifier_of(tenant, clock) as verifier:
        with caplog.at_level(logging.WARNING, "jwks_guard"):
            assert registry_of(verifier).value(VERIFICATIONS, outcome="accepted") == 0
    assert f"{foreign} is of another version" in caplog.text


async def test_scrape_fails_and_says_why_when_the_sum_would_be_wrong(
    tenant: LocalTenant, clock: HandClock, folder: Path
) -> None:
    open_to_all = folder / "jwks_guard-0123456789abcdef.json"
    open_to_all.write_text("{}")
    open_to_all.chmod(0o666)
    async with verifier_of(tenant, clock) as verifier:
        app = Starlette(routes=[Mount("/ops", operations(verifier, operations_auth=SECRET))])
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://api.test") as client:
            answer = await client.get("/ops/metrics", headers={"Authorization": f"Bearer {SECRET}"})
        assert answer.status_code == 503
        assert answer.json()["error"] == "metrics_unavailable"
        assert "others may read or write it" in answer.json()["error_description"]
        registry = CollectorRegistry()
        registry.register(VerifierCollector(verifier))
        with pytest.raises(OSError, match="others may read or write it"):
            [*registry.collect()]


async def test_verifier_that_is_gone_is_shown_no_more(
    tenant: LocalTenant, clock: HandClock, folder: Path
) -> None:
    async with verifier_of(tenant, clock) as verifier:
        await verifier.verify(tenant.token())
        registry_of(verifier)
    del verifier
    gc.collect()
    async with verifier_of(tenant, clock) as another:
        assert registry_of(another).value(VERIFICATIONS, outcome="accepted") == 0


async def test_counts_of_a_process_whose_verifiers_are_gone_before_it_ends_are_not_taken_back(
    tenant: LocalTenant, clock: HandClock, folder: Path
) -> None:
    async with verifier_of(tenant, clock) as verifier:
        workers = workers_of(verifier)
        assert workers is not None
        await verifier.verify(tenant.token())
        workers.write()
        (file,) = folder.glob("jwks_guard-*.json")  # noqa: ASYNC240
        written = file.read_bytes()
    del verifier
    gc.collect()
    workers.write()  # as at the end of the process, with verifiers that `main` had
    assert file.read_bytes() == written


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"status":"ok"', b'"status":"fine"'),
        (b'"counts":[', b'"counts":[0,'),
        (b'"bounds":[0.005', b'"bounds":[0.004'),
    ],
)
async def test_file_that_can_not_be_added_up_is_left_out(
    tenant: LocalTenant, clock: HandClock, folder: Path, old: bytes, new: bytes
) -> None:
    async with verifier_of(tenant, clock) as verifier:
        workers = workers_of(verifier)
        assert workers is not None
        await verifier.verify(tenant.token())
        workers.read()
        (file,) = folder.glob("jwks_guard-*.json")  # noqa: ASYNC240
        content = file.read_bytes()
        assert old in content
        foreign = folder / "jwks_guard-0123456789abcdef.json"
        foreign.write_bytes(content.replace(old, new))
        foreign.chmod(0o600)
        assert registry_of(verifier).value(VERIFICATIONS, outcome="accepted") == 1


async def test_what_a_worker_writes_as_its_last_is_counted_however_a_scrape_meets_its_end(
    reading: Reading, tenant: LocalTenant, clock: HandClock, folder: Path
) -> None:
    """A scrape that reads its file, and only then looks whether it runs, misses what came between.

    One in several hundred scrapes did, so many workers end here while they are scraped.
    """
    first = msgspec.json.encode(Shown((reading,)))
    last = msgspec.json.encode(Shown((replace(reading, outcomes={"accepted": 2}),)))
    async with verifier_of(tenant, clock) as verifier:
        workers = workers_of(verifier)
        assert workers is not None
        for number in range(1, 400):
            path = folder / f"jwks_guard-{number:016x}"
            held = held_open(path.with_suffix(".lock"))
            write_atomically(path.with_suffix(".json"), first, durable=False)
            with ThreadPoolExecutor(1) as pool:
                scraping = pool.submit(workers.read)
                write_atomically(path.with_suffix(".json"), last, durable=False)
                os.close(held)
                scraping.result()
            (sum_,) = workers.read().issuers
            assert sum_.outcomes["accepted"] == 2 * number
