"""Several workers behind one address: with PROMETHEUS_MULTIPROC_DIR a scrape shows all of them."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from jwks_guard.testing import LocalTenant
from tests.process.programs import server, wait_until

APP = "tests.process.apps.measured:app"
SECRET = "correct-horse-battery"
REQUESTS = 20
UVICORN = ("-m", "uvicorn", "--workers=2", "--log-level=warning", APP)
PRELOADED = ("-m", "gunicorn", "--no-control-socket", "--preload", "--workers=2", APP)


class Workers:
    """The workers of one server, which accept the tokens of `tenant`."""

    def __init__(self, client: httpx.Client, tenant: LocalTenant) -> None:
        self._client = client
        self._good = {"Authorization": f"Bearer {tenant.token()}"}

    def use(self, times: int = REQUESTS) -> set[int]:
        """Have so many requests let in; gives the processes that did it."""
        answers = [self._client.get("/", headers=self._good) for _ in range(times)]
        assert {answer.status_code for answer in answers} == {200}
        return {int(answer.headers["X-Worker"]) for answer in answers}

    def scrape(self) -> dict[tuple[str, ...], float]:
        """The samples of one scrape, by name, process and outcome or status."""
        headers = {"Authorization": f"Bearer {SECRET}"}
        answer = self._client.get("/ops/metrics", headers=headers)
        assert answer.status_code == 200, answer.text
        return {
            (
                sample.name,
                sample.labels.get("process", ""),
                sample.labels.get("outcome") or sample.labels.get("status", ""),
            ): sample.value
            for metric in text_string_to_metric_families(answer.text)
            for sample in metric.samples
        }

    def accepted(self) -> float:
        """How many tokens all of them have accepted, as one scrape says."""
        return self.scrape()["jwks_guard_verifications_total", "all", "accepted"]

    def add_up_to(self, total: int) -> None:
        """Return when a scrape shows `total`, if none before shows more, or less than an earlier.

        A worker that was not asked writes each second what it shows.
        """
        shown = [0.0]

        def complete() -> bool:
            shown.append(self.accepted())
            assert shown[-2] <= shown[-1] <= total
            return shown[-1] == total

        wait_until(complete)
        for _ in range(REQUESTS):  # whichever worker answers
            assert self.accepted() == total


@pytest.fixture(scope="module")
def tenant() -> Iterator[LocalTenant]:
    with LocalTenant(algorithm="ES256") as tenant:
        yield tenant


@contextmanager
def serving(
    tenant: LocalTenant, folder: Path | None, *command: str, bind: str = "--fd={}"
) -> Iterator[Workers]:
    shared = {} if folder is None else {"PROMETHEUS_MULTIPROC_DIR": str(folder)}
    environment = {"ISSUER": tenant.issuer, "AUDIENCE": tenant.audience, "SECRET": SECRET}
    with server(*(command or UVICORN), bind=bind, **environment, **shared) as client:
        yield Workers(client, tenant)


def test_each_scrape_shows_the_sum_of_all_workers_which_never_falls(
    tenant: LocalTenant, tmp_path: Path
) -> None:
    with serving(tenant, tmp_path) as workers:
        workers.use()
        workers.add_up_to(REQUESTS)
        workers.use()
        workers.add_up_to(2 * REQUESTS)
        wait_until(lambda: workers.scrape()["jwks_guard_fetches_total", "all", "confirmed"] >= 2)
        wait_until(lambda: workers.scrape()["jwks_guard_status", "all", "ok"] == 1)
        samples = workers.scrape()
        assert {process for _, process, _ in samples if process} == {"all"}
        fetches = samples["jwks_guard_fetches_total", "all", "confirmed"]
        assert samples["jwks_guard_fetch_duration_seconds_count", "all", ""] == fetches


def test_counts_of_a_worker_that_was_killed_stay_in_the_sum(
    tenant: LocalTenant, tmp_path: Path
) -> None:
    with serving(tenant, tmp_path) as workers:
        (killed, *_) = workers.use()
        workers.add_up_to(REQUESTS)
        left = {path: path.read_bytes() for path in tmp_path.glob("jwks_guard-*.json")}
        os.kill(killed, signal.SIGKILL)
        workers.add_up_to(REQUESTS)
        workers.use()
        workers.add_up_to(2 * REQUESTS)
        gone = [path for path in left if not path.exists()]
        assert len(gone) == 1
        gone[0].write_bytes(left[gone[0]])  # as a crash between adding and removing it leaves it
        gone[0].chmod(0o600)
        workers.add_up_to(2 * REQUESTS)
        assert not gone[0].exists()


def test_sum_goes_on_when_the_server_is_started_again(tenant: LocalTenant, tmp_path: Path) -> None:
    for total in (REQUESTS, 2 * REQUESTS):
        with serving(tenant, tmp_path) as workers:
            workers.use()
            workers.add_up_to(total)


@pytest.mark.outside
def test_process_that_only_forks_workers_does_not_count_as_one(
    tenant: LocalTenant, tmp_path: Path
) -> None:
    command = (*PRELOADED, "--worker-class=uvicorn.workers.UvicornWorker")
    with serving(tenant, tmp_path, *command, bind="--bind=fd://{}") as workers:
        workers.use()
        workers.add_up_to(REQUESTS)
        assert workers.scrape()["jwks_guard_status", "all", "unavailable"] == 0


def test_without_the_directory_each_worker_shows_itself_under_a_name_of_its_own(
    tenant: LocalTenant,
) -> None:
    with serving(tenant, None) as workers:
        workers.use()
        counts: dict[str, float] = {}

        def all_seen() -> bool:
            counts.update(
                (process, value)
                for (name, process, outcome), value in workers.scrape().items()
                if name == "jwks_guard_verifications_total" and outcome == "accepted"
            )
            return len(counts) == 2

        wait_until(all_seen)
        assert sum(counts.values()) == REQUESTS
