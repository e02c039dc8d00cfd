from __future__ import annotations

import json
import queue
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import httpx
import jwt
import pytest

from jwks_guard import TokenVerifier, cli
from tests.process.programs import run_to_end
from tests.support import PATIENCE

GRANTED = ("client_id", "client_secret", "audience")


@contextmanager
def command(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], queue.Queue[str]]]:
    """`jwks-guard tenant` in a process of its own, and the lines of its output as they come.

    On a free port, unless the arguments name one.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "jwks_guard", "tenant", "--port=0", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    lines: queue.Queue[str] = queue.Queue()
    reader = threading.Thread(target=pump, args=(process.stdout, lines))
    reader.start()
    try:
        yield process, lines
    finally:
        process.kill()
        process.wait(PATIENCE)
        reader.join(PATIENCE)
        process.stdout.close()
        assert process.stderr is not None
        process.stderr.close()


def pump(stream: IO[str], lines: queue.Queue[str]) -> None:
    for line in stream:
        lines.put(line)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_tenant_prints_one_line_of_json_and_serves_until_it_is_told_to_stop(
    number: signal.Signals,
) -> None:
    with command("--json") as (process, lines):
        facts = json.loads(lines.get(timeout=PATIENCE))
        assert list(facts) == [
            "issuer",
            "jwks_uri",
            "audience",
            "management_audience",
            "client_id",
            "client_secret",
            "audiences",
        ]
        keys = httpx.get(facts["jwks_uri"], trust_env=False).json()["keys"]
        assert len(keys) == 2
        grant = httpx.post(
            facts["issuer"] + "oauth/token",
            data={
                "grant_type": "client_credentials",
                "client_id": facts["client_id"],
                "client_secret": facts["client_secret"],
                "audience": facts["audience"],
            },
            trust_env=False,
        )
        assert grant.json()["token_type"] == "Bearer"
        process.send_signal(number)
        assert process.wait(PATIENCE) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert lines.empty()


def test_tenant_without_json_introduces_itself_to_a_person() -> None:
    with command() as (process, lines):
        shown = ""
        while "Ctrl-C" not in shown:
            shown += lines.get(timeout=PATIENCE)
        assert "http://127.0.0.1:" in shown
        assert "grant_type=client_credentials" in shown
        assert "export JWKS_GUARD_TOKEN_LIFETIME_SECONDS=86400\n" in shown
        exported = dict(re.findall(r"(?m)^export (JWKS_GUARD_\w+)=(\S+)$", shown))
        verifier = TokenVerifier.from_env(exported)
        expected = TokenVerifier(exported["JWKS_GUARD_DOMAIN"], ["https://api.local.test"])
        assert verifier.has_arguments_of(expected)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0


@pytest.mark.parametrize(
    ("arguments", "host"),
    [
        (["--issuer=http://tenant.test:8765/"], "tenant.test"),
        (["--host=0.0.0.0"], "0.0.0.0"),
    ],
)
def test_lines_to_copy_are_accepted_where_the_issuer_is_plain_http_on_a_network(
    arguments: list[str], host: str
) -> None:
    with command(*arguments) as (process, lines):
        shown = ""
        while "Ctrl-C" not in shown:
            shown += lines.get(timeout=PATIENCE)
        assert stopped(process) == ""
    exported = dict(re.findall(r"(?m)^export (JWKS_GUARD_\w+)=(\S+)$", shown))
    expected = TokenVerifier(
        exported["JWKS_GUARD_ISSUER"], ["https://api.local.test"], allow_http=[host]
    )
    assert TokenVerifier.from_env(exported).has_arguments_of(expected)
    assert "JWKS_GUARD_DOMAIN" not in exported  # no client of the Management API takes plain http
    assert ("set --issuer to the URL" in shown) == (host == "0.0.0.0")


def test_lifetime_of_tokens_is_as_told_so_that_a_revocation_can_be_seen_to_become_ready() -> None:
    with command("--json", "--token-lifetime", "30") as (_, lines):
        facts = json.loads(lines.get(timeout=PATIENCE))
        grant = httpx.post(
            facts["issuer"] + "oauth/token",
            data={"grant_type": "client_credentials", **{n: facts[n] for n in GRANTED}},
            trust_env=False,
        ).json()
        claims = jwt.decode(grant["access_token"], options={"verify_signature": False})
        assert (grant["expires_in"], claims["exp"] - claims["iat"]) == (30, 30)
    with command("--token-lifetime", "0") as (process, _):
        assert process.wait(PATIENCE) == 2


def test_port_that_is_taken_is_a_usage_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with command("--port", str(port)) as (process, _):
            assert process.wait(PATIENCE) == 2
            assert process.stderr is not None
            assert process.stderr.read().startswith(f"Can't listen on 127.0.0.1:{port}: ")


def facts_of(lines: queue.Queue[str]) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(lines.get(timeout=PATIENCE))
    return facts


def stopped(process: subprocess.Popen[str]) -> str:
    """What it says at its end, which is asked for."""
    process.send_signal(signal.SIGTERM)
    return ended(process, 0)


def ended(process: subprocess.Popen[str], status: int) -> str:
    assert process.wait(PATIENCE) == status
    assert process.stderr is not None
    return process.stderr.read()


def test_tenant_keeps_its_state_and_its_authority_for_the_next_start(tmp_path: Path) -> None:
    kept = ("--json", "--tls", f"--state={tmp_path}/tenant.json", f"--ca-file={tmp_path}/ca.pem")
    seen = []
    for _ in range(2):
        with command(*kept) as (process, lines):
            facts = facts_of(lines)
            assert facts["ca_file"] == str(tmp_path / "ca.pem")
            context = ssl.create_default_context(cafile=facts["ca_file"])
            keys = httpx.get(facts["jwks_uri"], verify=context, trust_env=False).json()
            authority = (tmp_path / "ca.pem").read_bytes()
            seen.append((keys, authority, facts["client_id"], facts["client_secret"]))
            assert stopped(process) == ""
    assert seen[0] == seen[1]
    assert (tmp_path / "tenant.json").stat().st_mode & 0o777 == 0o600


def test_issuer_and_audiences_are_as_told() -> None:
    told = (
        "--issuer=http://tenant.test/",
        "--audience=https://a.test",
        "--audience=https://b.test",
    )
    with command("--json", *told) as (_, lines):
        facts = facts_of(lines)
    assert (facts["issuer"], facts["audience"]) == ("http://tenant.test/", "https://a.test")
    assert facts["audiences"] == ["https://a.test", "https://b.test"]
    assert facts["jwks_uri"] == "http://tenant.test/.well-known/jwks.json"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["--issuer=tenant.test"],
            "URL that ends in a slash, not 'tenant.test'",
        ),
        (["--state={0}/foreign"], "foreign is not the state of a local tenant"),
        (["--state={0}/none/state"], "No such file or directory"),
        (["--tls", "--ca-file={0}/foreign"], "foreign is no certificate. It was left as it is."),
        (["--tls", "--ca-file={0}/none/ca.pem"], "--ca-file: "),
    ],
)
def test_what_cannot_be_used_is_a_usage_error_without_a_traceback(
    tmp_path: Path, arguments: list[str], said: str
) -> None:
    foreign = tmp_path / "foreign"
    foreign.write_text("notes")
    foreign.chmod(0o600)
    with command(*(each.format(tmp_path) for each in arguments)) as (process, _):
        message = ended(process, 2)
    assert said in message
    assert "Traceback" not in message
    assert foreign.read_text() == "notes"


def test_tenant_with_tls_prints_the_lines_for_python_and_node(tmp_path: Path) -> None:
    path = tmp_path / "a name" / "ca.pem"
    path.parent.mkdir()
    with command("--tls", f"--ca-file={path}", "--host=0.0.0.0") as (process, lines):
        shown = ""
        while "Ctrl-C" not in shown:
            shown += lines.get(timeout=PATIENCE)
        assert f"export SSL_CERT_FILE='{path}'\n" in shown
        assert f"export NODE_EXTRA_CA_CERTS='{path}'\n" in shown
        assert f"--cacert '{path}'" in shown
        assert "It listens on 0.0.0.0: who reaches that gets a token" in shown
        assert path.stat().st_mode & 0o777 == 0o644
        assert stopped(process) == ""


@pytest.mark.parametrize("missing", ["typer", "rich", "uvicorn"])
def test_command_without_its_extra_prints_the_install_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], missing: str
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)  # as if it were not installed
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    assert exit_.value.code == 2
    assert "pip install 'jwks-guard[cli]'" in capsys.readouterr().err


def test_command_without_arguments_lists_what_there_is() -> None:
    run = run_to_end([sys.executable, "-m", "jwks_guard"])
    assert run.returncode == 2
    assert "tenant" in run.stdout + run.stderr
