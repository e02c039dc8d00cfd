"""`jwks-guard console` in a process of its own, with the fleet in a real Redis."""

from __future__ import annotations

import os
import re
import signal
import ssl
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from jwks_guard.cli.console.login import new_login
from jwks_guard.testing import LocalTenant
from tests.admin.official import self_signed
from tests.cli.fleet_running import ShownFleet, state
from tests.cli.keys_running import PROGRAM, environment, of_tenant, run, started
from tests.cli.test_without_extra import run_without
from tests.process.programs import wait_until
from tests.redis_server import RedisServer
from tests.support import PATIENCE

CONSOLE = (*PROGRAM, "console")
ISSUER = "https://acme.eu.auth0.com/"
OPERATOR = "operator-secret-of-the-tests"
VIEWER = "viewer-secret-of-the-tests"


@dataclass(frozen=True, slots=True)
class Running:
    """A console that is served: where, and what it has said."""

    process: subprocess.Popen[str]
    url: str
    said: str

    @property
    def printed_secret(self) -> str:
        found = re.search(r"(?m)^    (?:operator secret  )?([\w-]{20,})$", self.said)
        assert found, self.said
        return found[1]

    def end(self, number: int = signal.SIGINT) -> tuple[int, str]:
        """Send the signal; gives the exit status and what was written to standard error."""
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, errors


@contextmanager
def served(environ: Mapping[str, str], *options: str) -> Iterator[Running]:
    with started(environ, "--port=0", *options, command=CONSOLE) as process:
        said = ""
        assert process.stdout is not None
        for line in process.stdout:
            said += line
            if line.startswith("Ctrl-C"):
                break
        url = re.search(r"https?://127\.0\.0\.1:\d+(/console)?/$", said, re.MULTILINE)
        assert url, said + (process.stderr.read() if process.stderr else "")
        yield Running(process, url[0], said)


def browser(running: Running, **options: object) -> httpx.Client:
    url = httpx.URL(running.url)
    origin = f"{url.scheme}://{url.netloc.decode()}"
    headers = {"Origin": origin, "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "navigate"}
    return httpx.Client(
        base_url=running.url,
        headers=headers,
        trust_env=False,
        timeout=PATIENCE,
        **options,  # type: ignore[arg-type]
    )


def log_in(client: httpx.Client, secret: str) -> httpx.Response:
    return client.post("login", data={"name": "Ada", "secret": secret})


@pytest.fixture
def environ(redis: RedisServer, tmp_path: Path) -> dict[str, str]:
    """Of people without access to the Management API."""
    return environment(tmp_path, JWKS_GUARD_FLEET=redis.url, JWKS_GUARD_ISSUER=ISSUER)


def test_secret_is_made_and_printed_and_opens_the_console(
    fleet: ShownFleet, environ: dict[str, str]
) -> None:
    fleet.show(state(ISSUER, "key-of-the-fleet"))
    with served(environ) as running, browser(running) as client:
        assert "Management API is not configured" in running.said
        assert client.get("keys").status_code == 303
        assert log_in(client, "wrong-secret-wrong").status_code != 303
        assert log_in(client, running.printed_secret).status_code == 303
        wait_until(lambda: "key-of-the-fleet" in client.get("keys").text)
        status, errors = running.end()
    assert status == 0
    assert running.printed_secret not in errors
    assert "Traceback" not in errors
    assert "console_login" in errors  # who did what


def test_each_run_makes_another_secret() -> None:
    assert len({new_login()[1] for _ in range(100)}) == 100


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_it_while_a_page_is_open(environ: dict[str, str], number: int) -> None:
    with served(environ) as running, browser(running) as client:
        log_in(client, running.printed_secret)
        with client.stream("GET", "keys/live") as stream:
            lines = stream.iter_lines()
            assert next(lines)
            status, errors = running.end(number)
            with suppress(httpx.HTTPError):
                list(lines)
    assert (status, "Traceback" in errors, "ERROR" in errors) == (0, False, False), errors


def test_configured_secrets_are_not_printed_and_give_their_roles(
    environ: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "operator").write_text(f"{OPERATOR}\nthe-next-operator-secret\n")
    environ |= {
        "JWKS_GUARD_CONSOLE_OPERATOR_SECRET_FILE": str(tmp_path / "operator"),
        "JWKS_GUARD_CONSOLE_VIEWER_SECRET": VIEWER,
    }
    with served(environ) as running:
        assert OPERATOR not in running.said
        assert VIEWER not in running.said
        for secret, role in (
            (OPERATOR, "operator"),
            ("the-next-operator-secret", "operator"),
            (VIEWER, "viewer"),
        ):
            with browser(running) as client:
                log_in(client, secret)
                assert f'<span class="role">{role}</span>' in client.get("keys").text
        assert running.end()[0] == 0


def test_tenant_of_the_settings_is_shown_and_recorded_in_the_journal(
    redis: RedisServer, tmp_path: Path
) -> None:
    with LocalTenant(algorithm="ES256") as tenant:
        environ = environment(tmp_path, JWKS_GUARD_FLEET=redis.url, **of_tenant(tenant))
        journal = tmp_path / "journal.jsonl"
        with served(environ, f"--journal={journal}") as running, browser(running) as client:
            log_in(client, running.printed_secret)
            wait_until(lambda: tenant.key("next").kid in client.get("keys").text)
            assert "Rotate" in client.get("keys").text
            assert journal.exists()
            assert running.end()[0] == 0


def test_https_by_a_certificate(environ: dict[str, str], tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    both.write_bytes(self_signed("127.0.0.1"))
    trust = ssl.create_default_context(cafile=both)
    options = (f"--tls-certificate={both}", f"--tls-key={both}")
    with served(environ, *options) as running, browser(running, verify=trust) as client:
        assert running.url.startswith("https://")
        answer = log_in(client, running.printed_secret)
        assert "Secure" in answer.headers["set-cookie"]
        assert client.get("keys").status_code == 200
        assert running.end()[0] == 0


def test_only_a_named_proxy_says_that_a_request_came_by_https(environ: dict[str, str]) -> None:
    environ["JWKS_GUARD_CONSOLE_OPERATOR_SECRET"] = OPERATOR
    forwarded = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "192.0.2.7"}
    for options, trusted in ((("--proxy=127.0.0.1",), True), ((), False)):
        with served(environ, *options) as running, browser(running) as client:
            origin = running.url.rstrip("/").replace("http:", "https:" if trusted else "http:")
            client.headers.update({**forwarded, "Origin": origin})
            cookie = log_in(client, OPERATOR).headers["set-cookie"]
            assert ("Secure" in cookie) is trusted
            _, errors = running.end()
        assert ("peer=192.0.2.7" in errors) is trusted


def test_links_lie_below_the_path_of_the_proxy(environ: dict[str, str]) -> None:
    with served(environ, "--root-path=/console") as running:
        assert running.url.endswith("/console/")
        bare = httpx.URL(running.url).copy_with(path="/keys")  # as the proxy passes it on
        answer = httpx.get(bare, trust_env=False, timeout=PATIENCE)
        assert answer.headers["location"].startswith("/console/login")
        assert running.end()[0] == 0


REFUSALS = {
    "others would reach it, and nobody has to log in": (
        ("--host=0.0.0.0", "--proxy=10.0.0.7"),
        {},
        "no log-in is configured",
    ),
    "a proxy carries in what comes from others": (
        ("--proxy=127.0.0.1",),
        {},
        "JWKS_GUARD_CONSOLE_OPERATOR_SECRET_FILE",
    ),
    "secrets would cross the network in the clear": (
        ("--host=0.0.0.0",),
        {"OPERATOR_SECRET": OPERATOR},
        "--tls-certificate",
    ),
    "everybody could forge addresses": (("--proxy=*",), {}, "--proxy must be"),
    "as wide as everybody": (("--proxy=0.0.0.0/0",), {}, "--proxy must be"),
    "half a pair": (("--tls-certificate=x.pem",), {}, "--tls-key"),
    "no such files": (("--tls-certificate=/no/x", "--tls-key=/no/y"), {}, "can't be read"),
    "a path without a slash": (("--root-path=console",), {}, "--root-path"),
    "a short secret": ((), {"OPERATOR_SECRET": "short"}, "CONSOLE_OPERATOR_SECRET: secret must be"),
    "one secret for both": (
        (),
        {"OPERATOR_SECRET": OPERATOR, "VIEWER_SECRET": OPERATOR},
        "different secrets",
    ),
    "a viewer alone": ((), {"VIEWER_SECRET": VIEWER}, "CONSOLE_OPERATOR_SECRET"),
    "a secret and a file": (
        (),
        {"OPERATOR_SECRET": OPERATOR, "OPERATOR_SECRET_FILE": "/run/secret"},
        "contradict each other",
    ),
    "a misspelt name": ((), {"OPERATR_SECRET": OPERATOR}, "did you mean"),
    "half a provider": ((), {"ISSUER": ISSUER}, "JWKS_GUARD_CONSOLE_CLIENT_ID and"),
    "a provider without its issuer": ((), {"CLIENT_ID": "x"}, "without JWKS_GUARD_CONSOLE_ISSUER"),
    "roles of no claim": ((), {"OPERATORS": "sre"}, "CONSOLE_OPERATORS must be"),
    "a provider and a viewer secret": (
        (),
        {"ISSUER": ISSUER, "CLIENT_ID": "x", "OPERATORS": "groups=sre", "VIEWER_SECRET": VIEWER},
        "contradict each other",
    ),
    "a provider that is no address": (
        (),
        {"ISSUER": "acme", "CLIENT_ID": "x", "OPERATORS": "groups=sre"},
        "JWKS_GUARD_CONSOLE_ISSUER",
    ),
}


@pytest.mark.parametrize(("options", "settings", "said"), REFUSALS.values(), ids=REFUSALS)
def test_it_does_not_start_where_the_log_in_would_be_unsafe_or_is_not_clear(
    environ: dict[str, str], options: tuple[str, ...], settings: dict[str, str], said: str
) -> None:
    variables = {f"JWKS_GUARD_CONSOLE_{name}": value for name, value in settings.items()}
    done = run({**environ, **variables}, "--port=0", *options, command=CONSOLE)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in " ".join(done.stderr.split())
    assert not any(secret in done.stderr for secret in (OPERATOR, VIEWER))


def test_fleet_that_is_not_configured_is_named(tmp_path: Path) -> None:
    done = run(environment(tmp_path, JWKS_GUARD_ISSUER=ISSUER), command=CONSOLE)
    assert done.returncode == 2
    assert "JWKS_GUARD_FLEET" in done.stderr


def test_port_that_is_taken_is_named(environ: dict[str, str]) -> None:
    with served(environ) as running:
        port = httpx.URL(running.url).port
        done = run(environ, f"--port={port}", command=CONSOLE)
        assert done.returncode == 2
        assert "Name another port by --port." in done.stderr


@pytest.mark.parametrize("missing", ["jinja2", "itsdangerous"])
def test_missing_extra_is_named_with_its_install_command(missing: str) -> None:
    then = "from jwks_guard.cli import main; sys.argv = ['jwks-guard', 'console']; main()"
    done = run_without((missing,), then)
    assert done.returncode == 2
    assert "pip install 'jwks-guard[cli,console]'" in done.stderr


@pytest.mark.parametrize(
    ("number", "options", "opens"),
    [(signal.SIGINT, (), True), (signal.SIGKILL, ("--no-browser",), False)],
)
def test_demo_shows_a_fleet_with_traffic_and_leaves_no_process(
    tmp_path: Path, number: int, options: tuple[str, ...], opens: bool
) -> None:
    visited = tmp_path / "visited"
    (tmp_path / "browser").write_text(f'#!/bin/sh\necho "$1" > {visited}\n')
    (tmp_path / "browser").chmod(0o755)
    desktop = {"DISPLAY": ":0", "BROWSER": f"{tmp_path}/browser %s"}
    elsewhere = {"JWKS_GUARD_ISSUER": "https://not-meant.test/", "TMPDIR": str(tmp_path)}
    environ = environment(tmp_path, **desktop, **elsewhere)
    with served(environ, "--demo", *options) as running, browser(running) as client:
        log_in(client, running.printed_secret)
        wait_until(lambda: client.get("keys").text.count("2 of 2") == 3)
        instances = children_of(running.process.pid)
        assert len(instances) == 2
        if opens:
            wait_until(lambda: visited.exists() and visited.read_text() == f"{running.url}\n")
        status, errors = running.end(number)
    assert status in (0, -signal.SIGKILL)
    assert "Traceback" not in errors
    assert visited.exists() is opens
    assert number == signal.SIGKILL or not [*tmp_path.glob("jwks-guard-demo-*")]
    wait_until(lambda: not any(map(is_running, instances)))


def children_of(pid: int) -> list[int]:
    listed = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=True
    )
    return [int(each) for each in listed.stdout.split()]


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().split()[2]
