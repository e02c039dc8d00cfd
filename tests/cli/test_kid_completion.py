"""What the shells offer where a command takes a kid."""

from __future__ import annotations

import logging
import re
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from jwks_guard.cli import completion
from jwks_guard.testing import LocalTenant
from tests.cli.fleet_running import ShownFleet, state
from tests.cli.instances_running import SECRET, over_http
from tests.cli.keys_running import PROGRAM, environment, of_tenant, run
from tests.process.programs import PROJECT, run_to_end
from tests.redis_server import RedisServer
from tests.support import PATIENCE

COMMAND = "from jwks_guard.cli import main; import sys; sys.argv[0] = 'jwks-guard'; main()"
PATIENT = f"""
from jwks_guard.cli import completion
from tests import bounds
bounds.lengthen()
completion.LONGEST_SECONDS = {PATIENCE}
{COMMAND}
"""
"""On a busy machine nobody answers within a second."""
UNRESOLVED = f"import socket, time; socket.getaddrinfo = lambda *_, **__: time.sleep(30); {COMMAND}"
BOUND = 25.0
"""Seconds for a completion in which something hangs for 30 s: it takes about two otherwise."""
ISSUER = "https://acme.eu.auth0.com/"


@pytest.fixture(scope="module")
def tenant() -> Iterator[LocalTenant]:
    """Its keys: next, current, previously used, revoked."""
    with LocalTenant(algorithm="ES256") as tenant:
        tenant.rotate()
        tenant.revoke(tenant.key("previous").kid)
        tenant.rotate()
        yield tenant


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """On a busy machine nobody answers within a second; logging is as it was in the end."""
    monkeypatch.setattr(completion, "LONGEST_SECONDS", PATIENCE)
    monkeypatch.setattr(completion, "CALL_SECONDS", PATIENCE)
    yield
    logging.disable(logging.NOTSET)


def kids(tenant: LocalTenant) -> dict[str, str]:
    states = ("next", "current", "previous", "revoked")
    return {state: tenant.key(state).kid for state in states}


def offered(
    environ: dict[str, str], line: str, shell: str = "fish", program: str | None = None
) -> dict[str, str]:
    """What is offered for the last word of `line`, and the help beside it.

    It is asked for in this process, or in one of its own that runs `program`.
    """
    words = ["jwks-guard", *line.split(" ")]
    variables = {
        **environ,
        "_JWKS_GUARD_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": "\n".join(words),
        "COMP_CWORD": str(len(words) - 1),
        "_TYPER_COMPLETE_ARGS": " ".join(words),
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    if program is None:
        done = run(variables, command=PROGRAM)
    else:
        done = run_to_end([sys.executable, "-c", program], env=variables)
    assert (done.returncode, done.stderr) == (0, "")
    if shell == "zsh":
        return dict(re.findall(r'"([^"]*)":"([^"]*)"', done.stdout))
    lines = (line.partition("\t") for line in done.stdout.splitlines() if line)
    return {value: text for value, _, text in lines}


@pytest.fixture
def of_fleet(redis: RedisServer, tmp_path: Path) -> dict[str, str]:
    """Of people without access to the Management API."""
    return environment(tmp_path, JWKS_GUARD_FLEET=redis.url, JWKS_GUARD_ISSUER=ISSUER)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_offers_the_kids_of_the_tenant_with_their_states(
    tenant: LocalTenant, tmp_path: Path, shell: str
) -> None:
    environ, known = environment(tmp_path, **of_tenant(tenant)), kids(tenant)
    found = offered(environ, "keys show ", shell)
    assert set(found) == {"current", "next", "previous", *known.values()}
    if shell != "bash":  # which shows no help
        assert found["previous"] == f"{known['previous']}, previously used"
        texts = {state: found[kid] for state, kid in known.items()}
        assert texts == {
            "next": "next",
            "current": "current",
            "previous": "previously used",
            "revoked": "revoked",
        }


@pytest.mark.parametrize(
    ("command", "states"),
    [
        ("keys show", {"next", "current", "previous", "revoked"}),
        ("keys revoke", {"previous"}),
        ("keys rotate-and-revoke", {"current", "previous"}),
        ("incident", {"current", "previous"}),
        ("can-revoke", {"previous"}),
        ("distrust", {"next", "current", "previous"}),
        ("reinstate", set()),
        ("watch", set()),
    ],
)
def test_a_command_offers_the_keys_that_it_can_be_about(
    tenant: LocalTenant, tmp_path: Path, command: str, states: set[str]
) -> None:
    environ, known = environment(tmp_path, **of_tenant(tenant)), kids(tenant)
    found = offered(environ, f"{command} ")
    assert set(found) & set(known.values()) == {known[state] for state in states}


def test_only_what_begins_like_the_word_is_offered(tenant: LocalTenant, tmp_path: Path) -> None:
    environ, kid = environment(tmp_path, **of_tenant(tenant)), tenant.key("previous").kid
    assert offered(environ, f"keys show {kid[:6]}") == {kid: "previously used"}
    assert set(offered(environ, "keys show pre")) == {"previous"}


def test_kids_of_a_fleet_need_no_access_to_the_management_api(
    fleet: ShownFleet, of_fleet: dict[str, str]
) -> None:
    now = time.time()
    fleet.show(
        state(ISSUER, "good", "leaked", refused={"leaked": now}),
        state(ISSUER, "good", "leaked", instance="b" * 32),
    )
    assert offered(of_fleet, "distrust ") == {"good": "trusted by 2 instances"}
    refused = "trusted by 1 instance, refused by 1 instance"
    assert offered(of_fleet, "reinstate ") == {"leaked": refused}
    assert set(offered(of_fleet, "watch ")) == {"good", "leaked"}


def test_tenant_and_fleet_are_put_together(
    tenant: LocalTenant, fleet: ShownFleet, redis: RedisServer, tmp_path: Path
) -> None:
    environ = environment(tmp_path, JWKS_GUARD_FLEET=redis.url, **of_tenant(tenant))
    kid = tenant.key("previous").kid
    fleet.show(state(tenant.issuer, kid))
    assert offered(environ, "can-revoke ")[kid] == "previously used, trusted by 1 instance"


def test_config_on_the_line_is_used(fleet: ShownFleet, redis: RedisServer, tmp_path: Path) -> None:
    fleet.show(state(ISSUER, "good"))
    (tmp_path / "guard.toml").write_text(f'issuer = "{ISSUER}"\nfleet = "{redis.url}"\n')
    environ = environment(tmp_path)
    assert set(offered(environ, f"distrust --config {tmp_path}/guard.toml ")) == {"good"}


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"JWKS_GUARD_DOMAN": "misspelt"},
        {"JWKS_GUARD_CONFIG": "/nowhere/at/all.toml"},
        {"JWKS_GUARD_DOMAIN": "acme.eu.auth0.com", "JWKS_GUARD_CLIENT_ID": "without-a-secret"},
        {"JWKS_GUARD_ISSUER": ISSUER, "JWKS_GUARD_FLEET": "redis://127.0.0.1:1/0"},
        {"JWKS_GUARD_DOMAIN": "http://127.0.0.1:1/", "JWKS_GUARD_TOKEN": "opaque"},
    ],
)
def test_nothing_is_offered_said_or_asked_where_nothing_can_be_known(
    tmp_path: Path, variables: dict[str, str]
) -> None:
    assert offered(environment(tmp_path, **variables), "distrust ") == {}


def test_a_tenant_that_refuses_or_hangs_leaves_the_kids_of_the_fleet(
    tenant: LocalTenant,
    fleet: ShownFleet,
    redis: RedisServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    environ = environment(tmp_path, JWKS_GUARD_FLEET=redis.url, **of_tenant(tenant))
    fleet.show(state(tenant.issuer, "good"))
    environ["JWKS_GUARD_CLIENT_SECRET"] = "wrong"
    assert set(offered(environ, "distrust ")) == {"good"}
    monkeypatch.setattr(completion, "LONGEST_SECONDS", 10.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        environ |= {"JWKS_GUARD_DOMAIN": address, "JWKS_GUARD_ISSUER": tenant.issuer}
        begin = time.monotonic()
        assert set(offered(environ, "distrust ")) == {"good"}
        assert time.monotonic() - begin < BOUND


def test_an_instance_that_hangs_hides_no_other_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completion, "CALL_SECONDS", 2.0)
    monkeypatch.setattr(completion, "LONGEST_SECONDS", 5.0)
    (tmp_path / "secret").write_text(SECRET)
    with (
        LocalTenant(in_process=True, algorithm="ES256") as tenant,
        over_http(tenant) as instance,
        socket.create_server(("127.0.0.1", 0)) as silent,
    ):
        environ = environment(
            tmp_path,
            JWKS_GUARD_FLEET=f"{instance.url} http://127.0.0.1:{silent.getsockname()[1]}/ops",
            JWKS_GUARD_FLEET_SECRET_FILE=str(tmp_path / "secret"),
            JWKS_GUARD_ISSUER=tenant.issuer,
        )
        assert tenant.key().kid in offered(environ, "distrust ")


def test_name_that_nobody_resolves_does_not_keep_the_shell(tmp_path: Path) -> None:
    environ = environment(
        tmp_path, JWKS_GUARD_ISSUER=ISSUER, JWKS_GUARD_FLEET="redis://redis.internal:6379/0"
    )
    begin = time.monotonic()
    assert offered(environ, "distrust ", program=UNRESOLVED) == {}
    assert time.monotonic() - begin < BOUND


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_kid_that_a_shell_would_read_as_more_than_a_word_is_left_out(
    fleet: ShownFleet, of_fleet: dict[str, str], shell: str
) -> None:
    hostile = ("*", "$(id)", "`id`", '";id;"', "x;id", "a b", "-rf", "~root", "caf\u00e9", "x'y")
    fleet.show(state(ISSUER, "good", *hostile))
    assert set(offered(of_fleet, "watch ", shell)) == {"good"}


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_kid_that_a_shell_would_evaluate_is_not_in_the_help_beside_a_word_either(
    tmp_path: Path, shell: str
) -> None:
    """zsh evaluates the help too, and a backslash before the `$` undoes how that is escaped."""
    file = tmp_path / "tenant.json"
    with LocalTenant(algorithm="ES256", state=file) as tenant:
        kid = tenant.key().kid
    file.write_text(file.read_text().replace(kid, r"\\$(id)"))
    with LocalTenant(algorithm="ES256", state=file) as tenant:
        assert tenant.key().kid == r"\$(id)"
        environ = environment(tmp_path, **of_tenant(tenant))
        assert set(offered(environ, "keys show ", shell)) == {"next", tenant.key("next").kid}


def test_bash_expands_no_kid(fleet: ShownFleet, of_fleet: dict[str, str], tmp_path: Path) -> None:
    """The script that `--show-completion` prints replaces a `*` by the names of files."""
    fleet.show(state(ISSUER, "good", "*"))
    (tmp_path / "a-file").touch()
    command = tmp_path / "jwks-guard"
    command.write_text(f"#!{sys.executable}\n{PATIENT}")
    command.chmod(0o755)
    environ = {**of_fleet, "PATH": f"{tmp_path}:{of_fleet['PATH']}", "PYTHONPATH": str(PROJECT)}
    script = (
        'eval "$(jwks-guard --show-completion bash)"; COMP_WORDS=(jwks-guard watch ""); '
        "COMP_CWORD=2; _jwks_guard_completion jwks-guard; printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    environ["_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION"] = "1"
    done = run_to_end(["bash", "-c", script], env=environ, cwd=tmp_path)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "good\n")
