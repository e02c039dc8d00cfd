"""Decisions and keys are there again when a process was killed and another one takes its place."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Queue
from typing import Any

import pytest

from jwks_guard.testing import LocalTenant
from tests.process.programs import program, wait_until
from tests.support import PATIENCE


class Service:
    """A process that verifies; see `tests.process.apps.verifying` for what it can be told."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        self._process, self._mouth = process, process.stdin
        self._said: Queue[str] = Queue()
        self._listening = threading.Thread(target=self._listen)
        self._listening.start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._said.put(line)

    def tell(self, *order: str) -> None:
        self._mouth.write(json.dumps(order) + "\n")
        self._mouth.flush()

    def hear(self) -> Any:
        return json.loads(self._said.get(timeout=PATIENCE))

    def ask(self, *order: str) -> Any:
        self.tell(*order)
        return self.hear()

    def kill(self) -> None:
        """End it as `kill -9` does: nothing is tidied up."""
        self._process.kill()
        self._listening.join(PATIENCE)


@contextmanager
def serving(tenant: LocalTenant, snapshot: Path, **options: Any) -> Iterator[Service]:
    arguments = {
        "issuer": tenant.issuer,
        "audience": tenant.audience,
        "jwks_uri": tenant.jwks_uri,
        "algorithms": ["ES256"],
        "snapshot_path": str(snapshot),
    }
    with program("-m", "tests.process.apps.verifying", json.dumps(arguments | options)) as process:
        service = Service(process)
        yield service
        service.kill()


@pytest.fixture
def tenant() -> Iterator[LocalTenant]:
    with LocalTenant(algorithm="ES256") as tenant:
        yield tenant


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def test_a_decision_survives_a_kill_right_after_it_and_a_tenant_that_serves_the_old_set(
    tenant: LocalTenant, snapshot: Path
) -> None:
    leaked, token = tenant.key().kid, tenant.token()
    tenant.rotate()
    with serving(tenant, snapshot) as service:
        assert service.ask("verify", token) == leaked
        service.ask("distrust", leaked)
        service.kill()
    tenant.revoke(leaked)
    tenant.faults.rollback(age=None)
    with serving(tenant, snapshot) as service:
        assert service.ask("verify", token) == "revoked_key"
        assert service.ask("verify", tenant.token()) == tenant.key().kid
        assert service.ask("distrusted") == [leaked]


def test_saved_keys_verify_while_the_tenant_is_down_but_not_the_distrusted_one(
    tenant: LocalTenant, snapshot: Path
) -> None:
    leaked, token = tenant.key().kid, tenant.token()
    tenant.rotate()
    with serving(tenant, snapshot) as service:
        assert service.ask("verify", token) == leaked
        wait_until(snapshot.exists)  # keys are saved in the background: nobody waits for a disk
        service.ask("distrust", leaked)
        service.kill()
    tenant.stop()
    with serving(tenant, snapshot) as service:
        assert service.ask("verify", tenant.token()) == tenant.key().kid
        assert service.ask("verify", token) == "revoked_key"
        assert service.ask("health") == "degraded"
    with serving(tenant, snapshot, refresh_interval=0.01, max_stale=0.01) as service:
        assert service.ask("verify", tenant.token()) == "keys_unavailable"
        assert service.ask("verify", token) == "revoked_key"


def test_processes_that_share_a_snapshot_lose_none_of_each_others_decisions(
    tenant: LocalTenant, snapshot: Path
) -> None:
    kids = [f"{number:02}" for number in range(40)]
    with serving(tenant, snapshot) as one, serving(tenant, snapshot) as other:
        for first, second in zip(kids[::2], kids[1::2], strict=True):
            one.tell("distrust", first)
            other.tell("distrust", second)
        for service in (one, other):
            for _ in kids[::2]:
                assert service.hear() is None
            service.kill()
    with serving(tenant, snapshot) as service:
        assert service.ask("distrusted") == kids
