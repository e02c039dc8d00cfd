"""The compose file's own commands on this machine: nginx, Redis, two guarded APIs, the console."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import jwt
import pytest

from jwks_guard.asgi import StaticSecrets
from tests.console.visiting import Browser, dialog, ending
from tests.package.composed import COMPOSE, SERVICES, Composed, client, command_of, ports_of
from tests.process.programs import PROJECT, require_program, run_to_end, wait_until
from tests.support import PATIENCE

pytestmark = pytest.mark.outside

INSTANCES = ("api-1", "api-2")


@pytest.fixture(scope="module")
def composed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Composed]:
    composed = Composed(tmp_path_factory.mktemp("composed"))
    with closing(composed), composed.all_running("nginx", "prometheus"):
        yield composed


def token(composed: Composed) -> str:
    """One of the local tenant, as the walk-through gets it."""
    program = command_of(SERVICES["tenant"])[0]
    words = [program, "tenant", "token", "--url", "http://tenant:8765/"]
    got = run_to_end(composed.command("tenant", words))
    assert got.returncode == 0
    return got.stdout.strip()


def got(url: str | httpx.URL, headers: dict[str, str]) -> httpx.Response:
    return httpx.get(url, headers=headers, trust_env=False, timeout=PATIENCE)


def statuses(composed: Composed, token: str | None) -> list[int]:
    """What both instances answer, and nginx."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    urls = [composed.url(name) for name in (*INSTANCES, "nginx")]
    return [got(f"{url}/things", headers).status_code for url in urls]


def kid_of(compact: str) -> str:
    kid: str = jwt.get_unverified_header(compact)["kid"]
    return kid


def operated(composed: Composed, name: str) -> httpx.Client:
    secret = composed.secret("ops")
    return client(f"{composed.url(name)}/ops/", Authorization=f"Bearer {secret}")


def test_every_service_answers_its_health_check(composed: Composed) -> None:
    running = [name for name in SERVICES if name != "grafana"]  # it is in no package here
    for name in running:
        wait_until(lambda name=name: composed.is_healthy(name))  # type: ignore[misc]


def test_token_of_the_tenant_is_accepted_through_nginx_and_others_are_refused(
    composed: Composed,
) -> None:
    assert statuses(composed, token(composed)) == [200, 200, 200]
    assert statuses(composed, None) == [401, 401, 401]
    assert statuses(composed, "bad") == [401, 401, 401]


def test_websocket_reaches_an_instance_through_nginx_and_a_request_is_not_taken_for_one(
    composed: Composed,
) -> None:
    """There is no WebSocket at this path, which is said otherwise than to a request."""
    bearer = {"Authorization": f"Bearer {token(composed)}"}
    handshake = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    }
    things = f"{composed.url('nginx')}/things"
    assert got(things, bearer).status_code == 200
    assert got(things, bearer | handshake).status_code == 403
    assert got(things, handshake).status_code == 401


@pytest.mark.parametrize(
    "path",
    ["/ops/state", "//ops/state", "/ops", "/x/../ops/readyz", "/%6fps/readyz", "/ops%2freadyz"],
)
def test_operations_routes_are_not_reached_through_nginx(composed: Composed, path: str) -> None:
    headers = {"Authorization": f"Bearer {composed.secret('ops')}"}
    url = httpx.URL(composed.url("nginx")).copy_with(raw_path=path.encode())
    assert got(url, headers).status_code == 404


def test_key_distrusted_at_one_instance_is_refused_by_both(composed: Composed) -> None:
    held = token(composed)
    kid = kid_of(held)
    with operated(composed, "api-1") as ops:
        body = {"kid": kid, "reason": "leaked", "force": True}
        assert ops.post("distrust", json=body).status_code == 200
        wait_until(lambda: statuses(composed, held) == [401, 401, 401])
        assert ops.post("reinstate", json={"kid": kid, "reason": "a test"}).status_code == 200
    wait_until(lambda: statuses(composed, held) == [200, 200, 200])


async def test_key_distrusted_in_the_console_is_refused_by_both(composed: Composed) -> None:
    held = token(composed)
    kid = kid_of(held)
    assert statuses(composed, held) == [200, 200, 200]
    origin = composed.url("nginx")
    async with httpx.AsyncClient(
        base_url=f"{origin}/console", trust_env=False, timeout=PATIENCE
    ) as http:
        browser = Browser(http, origin)
        assert (await browser.log_in(composed.secret("console"))).status_code == 303
        fields = {"reason": "leaked", "ending": ending(kid), "how": "planned"}
        await browser.submit(dialog(kid, "distrust"), **fields)
        wait_until(lambda: statuses(composed, held) == [401, 401, 401])
        await browser.submit(dialog(kid, "reinstate"), **fields)
    wait_until(lambda: statuses(composed, held) == [200, 200, 200])


def test_prometheus_scrapes_both_instances_and_has_the_alert_rules(composed: Composed) -> None:
    with client(composed.url("prometheus")) as prometheus:

        def up() -> list[str]:
            query = {"query": 'jwks_guard_status{status="ok"} == 1'}
            found = prometheus.get("/api/v1/query", params=query).json()["data"]["result"]
            return sorted(each["metric"]["instance"] for each in found)

        addresses = [composed.url(name).removeprefix("http://") for name in INSTANCES]
        wait_until(lambda: up() == sorted(addresses))
        groups = prometheus.get("/api/v1/rules").json()["data"]["groups"]
        assert {rule["health"] for group in groups for rule in group["rules"]} <= {"ok", "unknown"}
        assert "JWKSGuardTrustEndsSoon" in {rule["name"] for g in groups for rule in g["rules"]}


def test_commands_of_the_page_do_what_it_says(composed: Composed, tmp_path: Path) -> None:
    """A program of the test's own stands in for docker: it runs what `exec` names, and no more."""
    for program, install in (("curl", "curl"), ("openssl", "openssl")):
        require_program(program, f"apt-get install -y {install}")
    page = (PROJECT / "docs" / "container.md").read_text()
    blocks = re.findall(r"(?ms)^```sh\n(.*?)^```$", page)
    (port,) = ports_of(SERVICES["nginx"])
    script = "set -euo pipefail\n" + "".join(blocks)
    script = script.replace(f"localhost:{port}", composed.url("nginx").removeprefix("http://"))
    (tmp_path / "examples" / "operations").mkdir(parents=True)
    docker = tmp_path / "docker"
    docker.write_text(stand_in(composed))
    docker.chmod(0o700)
    environ = {name: text for name, text in os.environ.items() if "JWKS_GUARD_" not in name}
    environ["PATH"] = f"{tmp_path}:{Path(sys.executable).parent}:{environ['PATH']}"
    bash = ["bash", "-c", composed.translated(script, "tenant")]
    done = run_to_end(bash, cwd=tmp_path, env=environ, timeout=5 * PATIENCE)
    assert done.returncode == 0
    assert re.search(r'(?m)^\{"owner":"auth0\|alice","things":\[\]\}401$', done.stdout)
    assert "refused by 2 instances" in done.stdout
    assert re.findall(r"(?m)^(200|401)$", done.stdout) == ["401", "200"]
    made = tmp_path / "examples" / "operations" / "secrets"
    assert {each.name for each in made.iterdir()} == {*COMPOSE["secrets"]}
    for each in made.iterdir():
        assert StaticSecrets.from_file(each)


def stand_in(composed: Composed) -> str:
    """A program that does `docker compose exec -T SERVICE ...`, and nothing for other words."""
    lines = ["#!/bin/sh", '[ "$2" = exec ] || exit 0', 'case "$4" in']
    for name in SERVICES:
        exports = [
            f"export {variable}={shlex.quote(text)}"
            for variable, text in composed.environment(name).items()
        ]
        lines.append(f"{name}) {'; '.join(exports) or ':'};;")
    return "\n".join([*lines, "esac", "shift 4", 'exec "$@"', ""])


def test_secrets_are_in_no_log(composed: Composed) -> None:
    logs: list[Path] = sorted((composed.folder / "logs").iterdir())
    assert len(logs) == len(SERVICES) - 1
    for log in logs:
        for name in ("fleet", "ops", "console"):
            assert composed.secret(name) not in log.read_text()
