from __future__ import annotations

import asyncio
import json
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from jwks_guard import JWKSGuardError, errors
from jwks_guard.admin.journal import Intent, Journal
from jwks_guard.cli.app import app
from jwks_guard.cli.keys.session import errors_told
from jwks_guard.testing import LocalTenant
from jwks_guard.testing.settings import SIGNING_KEYS_PATH
from tests.cli.keys_running import (
    FORCED,
    environment,
    of_tenant,
    run,
    run_process,
    started,
    terminal,
)
from tests.support import PATIENCE

ROTATE_PATH = SIGNING_KEYS_PATH + "/rotate"
DANGEROUS = (("rotate",), ("revoke", "any"), ("rotate-and-revoke",))


@pytest.fixture
def tenant() -> Iterator[LocalTenant]:
    with LocalTenant(algorithm="ES256") as tenant:
        yield tenant


@pytest.fixture
def environ(tenant: LocalTenant, tmp_path: Path) -> dict[str, str]:
    return environment(tmp_path, **of_tenant(tenant))


def rotated(tenant: LocalTenant, *, revoked: bool = False) -> str:
    """The kid of a previously used key, with another that is revoked if that is asked for."""
    tenant.rotate()
    if revoked:
        tenant.revoke(tenant.key("previous").kid)
        tenant.rotate()
    return tenant.key("previous").kid


def changes(tenant: LocalTenant) -> list[tuple[str, str]]:
    """What the tenant was asked for beside tokens and reading."""
    sent = [each for each in tenant.requests if each[0] != "GET" and each[1] != "/oauth/token"]
    return [(method, path.removeprefix(SIGNING_KEYS_PATH)) for method, path in sent]


def journal(home: Path) -> list[dict[str, Any]]:
    path = home / ".local/state/jwks-guard/journal.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def words(text: str) -> str:
    """The text without the ends of its lines."""
    return " ".join(text.split())


def test_list_prints_every_key_in_the_order_of_the_dashboard(
    tenant: LocalTenant, environ: dict[str, str]
) -> None:
    rotated(tenant, revoked=True)
    done = run(environ, "list", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    listed = json.loads(done.stdout)
    order = [tenant.key(which) for which in ("next", "current", "previous", "revoked")]
    assert [key["kid"] for key in listed] == [key.kid for key in order]
    assert [key["fingerprint"] for key in listed] == [key.fingerprint for key in order]
    assert listed[1]["current"] is True
    assert listed[1]["previous"] is False


def test_list_has_one_line_for_each_key_where_that_fits(
    tenant: LocalTenant, environ: dict[str, str]
) -> None:
    rotated(tenant, revoked=True)
    lines = run({**environ, "COLUMNS": "140"}, "list").stdout.splitlines()
    assert lines[0].split("  ")[0] == "kid"
    assert [lines[1:3], lines[6:8]] == [["", "Valid keys"], ["", "Revoked keys"]]
    keys = [tenant.key(which) for which in ("next", "current", "previous", "revoked")]
    for line, key in zip([*lines[3:6], lines[8]], keys, strict=True):
        assert line.startswith(key.kid)
        assert key.fingerprint in line
    assert re.search(r" previously used .*(  \d{4}-\d\d-\d\d \d\d:\d\d){2}$", lines[5])


@pytest.mark.parametrize(("columns", "lines"), [(80, 2), (120, 2), (140, 1)])
def test_list_fits_the_terminal(
    tenant: LocalTenant, environ: dict[str, str], columns: int, lines: int
) -> None:
    kid = rotated(tenant)
    options = {"NO_COLOR": "1", "COLUMNS": str(columns)}
    with terminal({**environ, **options}, "list", stderr=subprocess.DEVNULL) as shown:
        assert shown.status() == 0
    text = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", shown.shown)
    assert max(map(len, text.splitlines())) <= columns
    place = text[text.index(kid) :].index(tenant.key(kid).fingerprint)
    assert text[text.index(kid) :][:place].count("\n") == lines - 1


def test_colours_are_left_out_where_nobody_wants_them(environ: dict[str, str]) -> None:
    with terminal(environ, "list") as coloured, terminal({**environ, "NO_COLOR": "1"}, "list") as n:
        assert (coloured.status(), n.status()) == (0, 0)
    assert "\x1b[32m" in coloured.shown
    assert not re.search(r"\x1b\[(\d;)?3\d", n.shown)


def test_show_prints_all_that_is_known_of_a_key(
    tenant: LocalTenant, environ: dict[str, str]
) -> None:
    key = tenant.key(rotated(tenant))
    done = run(environ, "show", key.kid)
    assert done.returncode == 0
    members = dict(
        line.split("  ", 1) for line in done.stdout.replace("  valid", "valid").splitlines()
    )
    assert {name: text.strip() for name, text in members.items()}.items() >= {
        ("kid", key.kid),
        ("state", "previously used"),
        ("fingerprint", key.fingerprint),
        ("thumbprint", key.thumbprint),
        ("certificate", "CN=127.0.0.1"),
    }
    for name in ("current_since", "current_until", "valid from", "valid until"):
        assert re.search(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC$", members[name])
    whole = json.loads(run(environ, "show", key.kid, "--json").stdout)
    assert whole["cert"] == key.cert
    pem = run(environ, "show", key.kid, "--pem")
    assert pem.stdout == key.cert.replace("\r\n", "\n")


def test_what_a_tenant_sends_steers_no_terminal(
    tenant: LocalTenant, environ: dict[str, str]
) -> None:
    kid = "\x1b[2Jkid"
    document = {"kid": kid, "cert": "\x1b]0;-----BEGIN", "color": "\x9b31m", "current_since": "?"}
    for path, body in ((SIGNING_KEYS_PATH, [document]), (f"{SIGNING_KEYS_PATH}/{kid}", document)):
        content = json.dumps(body).encode()
        tenant.faults.garbage(content, content_type="application/json", path=path)
    shown = run(environ, "show", kid)
    assert shown.returncode == 0
    assert "\\x1b[2Jkid" in shown.stdout
    assert re.search(r"^certificate +can't be read$", shown.stdout, re.MULTILINE)
    assert re.search(r'^color +"\\u009b31m"$', shown.stdout, re.MULTILINE)
    assert re.search(r'^current_since +"\?"$', shown.stdout, re.MULTILINE)
    pem = run(environ, "show", kid, "--pem")
    assert (pem.returncode, pem.stdout) == (1, "")
    assert "--json shows what it sent" in pem.stderr
    every = shown.stdout + pem.stderr + run(environ, "list").stdout
    assert not set(every) & {"\x1b", "\x9b"}


def test_certificate_and_json_at_once_is_a_usage_error(environ: dict[str, str]) -> None:
    assert run(environ, "show", "any", "--pem", "--json").returncode == 2


@pytest.mark.parametrize("arguments", [("show", "--", "-nope"), ("revoke", "--yes", "--", "-nope")])
def test_unknown_kid_is_told_and_ends_with_status_1(
    environ: dict[str, str], arguments: tuple[str, ...]
) -> None:
    done = run(environ, *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("The tenant has no such signing key")
    assert "Traceback" not in done.stderr


def test_rotate_rotates_once_and_prints_a_receipt(
    tenant: LocalTenant, environ: dict[str, str], tmp_path: Path
) -> None:
    before, following = tenant.key().kid, tenant.key("next").kid
    done = run_process(environ, "rotate", "--yes", "--json", "--reason", "every spring")
    assert (done.returncode, done.stderr) == (0, "")
    receipt = json.loads(done.stdout)
    assert (receipt["previous"], receipt["current"]) == (before, following)
    assert receipt["next"] == tenant.key("next").kid
    assert changes(tenant) == [("POST", "/rotate")]
    assert journal(tmp_path)[0]["reason"] == "every spring"
    assert [step["step"] for step in journal(tmp_path)][-1] == "finished"


def test_rotate_in_a_terminal_says_what_will_happen_and_does_it_only_on_a_yes(
    tenant: LocalTenant, environ: dict[str, str]
) -> None:
    with terminal(environ, "rotate") as asked:
        asked.expect("Rotate now? [y/N]")
        asked.type("\n")
        assert asked.status() == 1
    assert asked.shown.endswith("Nothing was done.\n")
    told = words(re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", asked.shown))
    assert f"{tenant.key().kid} current -> previously used" in told
    assert f"{tenant.key('next').kid} next -> current" in told
    assert "SAML and WS-Fed parties" in told
    assert f"{tenant.issuer}samlp/metadata/{{clientId}}" in told
    assert changes(tenant) == []
    with terminal(environ, "rotate") as agreed:
        agreed.expect("Rotate now? [y/N]")
        agreed.type("y\n")
        assert agreed.status() == 0
    assert "Rotated at " in agreed.shown
    assert changes(tenant) == [("POST", "/rotate")]


def test_rotate_asked_while_somebody_else_rotates_does_nothing(
    tenant: LocalTenant, environ: dict[str, str]
) -> None:
    with terminal(environ, "rotate") as asked:
        asked.expect("[y/N]")
        tenant.rotate()
        asked.type("y\n")
        assert asked.status() == 1
    assert "The keys have changed meanwhile" in words(asked.shown)
    assert changes(tenant) == []


@pytest.mark.parametrize("arguments", DANGEROUS, ids=" ".join)
def test_without_a_terminal_and_without_yes_nothing_is_asked_of_the_tenant(
    tenant: LocalTenant, environ: dict[str, str], arguments: tuple[str, ...]
) -> None:
    done = run(environ, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "add --yes" in done.stderr
    assert "--dry-run" in done.stderr
    assert len(tenant.requests) == 0


@pytest.mark.parametrize("command", ["rotate", "revoke", "rotate-and-revoke"])
def test_dry_run_shows_the_plan_and_only_reads(
    tenant: LocalTenant, environ: dict[str, str], tmp_path: Path, command: str
) -> None:
    kid = rotated(tenant)
    arguments = (command, kid) if command == "revoke" else (command,)
    printed = run(environ, *arguments, "--dry-run")
    assert (printed.returncode, printed.stderr) == (0, "")
    document = json.loads(run(environ, *arguments, "--dry-run", "--json").stdout)
    moved = document["moves"][0]
    assert moved["kid"] == (kid if command == "revoke" else tenant.key().kid)
    for consequence in document["consequences"]:
        assert words(consequence) in words(printed.stdout)
    if command != "rotate":
        assert moved["after"] == "revoked"
        assert "can't be undone" in printed.stdout
        assert "No fleet is configured" in printed.stdout
    assert changes(tenant) == []
    assert not (tmp_path / ".local").exists()


@pytest.mark.parametrize("which", ["current", "next"])
def test_revoking_a_key_that_is_needed_is_refused_before_anybody_is_asked(
    tenant: LocalTenant, environ: dict[str, str], which: str
) -> None:
    with terminal(environ, "revoke", tenant.key(which).kid) as refused:
        assert refused.status() == 1
    assert "Rotate first" in words(refused.shown)
    assert "[y/N]" not in refused.shown
    assert changes(tenant) == []


def test_revoke_withdraws_a_previously_used_key(
    tenant: LocalTenant, environ: dict[str, str]
) -> None:
    kid = rotated(tenant)
    done = run(environ, "revoke", kid, "--yes", *FORCED)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{kid}  previously used  ->  revoked" in done.stdout
    assert f"{kid} is revoked, and the JWKS no longer lists it." in done.stdout
    assert tenant.key("revoked").kid == kid
    again = run(environ, "revoke", kid, "--yes", "--json")
    assert (again.returncode, json.loads(again.stdout)["complete"]) == (0, True)
    assert changes(tenant) == [("PUT", f"/{kid}/revoke")]


def test_without_a_fleet_nothing_planned_is_revoked_unless_it_is_forced(
    tenant: LocalTenant, environ: dict[str, str]
) -> None:
    kid = rotated(tenant)
    refused = run(environ, "revoke", kid, "--yes")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith(f"{kid} is not ready to be revoked.")
    assert "No fleet is configured" in refused.stderr
    assert changes(tenant) == []


def test_revoke_of_a_revoked_key_asks_nobody(tenant: LocalTenant, environ: dict[str, str]) -> None:
    rotated(tenant, revoked=True)
    with terminal(environ, "revoke", tenant.key("revoked").kid) as looked:
        assert looked.status() == 0
    assert "is revoked already" in words(looked.shown)
    assert changes(tenant) == []


def test_revocation_that_the_jwks_does_not_show_is_not_complete(
    tenant: LocalTenant, environ: dict[str, str]
) -> None:
    kid = rotated(tenant)
    tenant.faults.rollback(0)
    done = run(environ, "revoke", kid, "--yes", "--json", "--confirm-within", "0.1", *FORCED)
    assert (done.returncode, done.stderr) == (1, "")
    assert json.loads(done.stdout)["complete"] is False
    again = run(environ, "revoke", kid, "--yes", "--confirm-within", "0.1")
    assert again.returncode == 1
    assert "until that changes: call `distrust` on them" in words(again.stdout)
    assert f"`jwks-guard keys revoke -- {kid}`" in words(again.stdout)


def test_rotate_and_revoke_repeated_for_a_key_never_rotates_twice(
    tenant: LocalTenant, environ: dict[str, str]
) -> None:
    leaked = tenant.key().kid
    done = run(environ, "rotate-and-revoke", "--yes", "--json", "--reason", "found on a disk")
    assert (done.returncode, done.stderr) == (0, "")
    receipt = json.loads(done.stdout)
    assert (receipt["kid"], receipt["complete"]) == (leaked, True)
    assert receipt["reason"] == "found on a disk"
    assert receipt["rotation"]["current"] == tenant.key().kid
    assert run(environ, "rotate-and-revoke", leaked, "--yes").returncode == 0
    assert changes(tenant) == [("POST", "/rotate"), ("PUT", f"/{leaked}/revoke")]


def test_rotate_and_revoke_of_a_previously_used_key_only_revokes(
    tenant: LocalTenant, environ: dict[str, str]
) -> None:
    kid = rotated(tenant)
    done = run(environ, "rotate-and-revoke", kid, "--yes")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{kid}  previously used  ->  revoked" in done.stdout
    assert changes(tenant) == [("PUT", f"/{kid}/revoke")]


def test_rotate_and_revoke_that_was_cut_off_is_finished_by_the_next_one(
    tenant: LocalTenant, environ: dict[str, str]
) -> None:
    leaked = tenant.key().kid
    held = tenant.faults.hold(path=ROTATE_PATH)
    with started(environ, "rotate-and-revoke", "--yes") as process:
        held.arrived.wait_blocking(PATIENCE)
        process.kill()
    tenant.faults.clear()
    done = run(environ, "rotate-and-revoke", "--yes")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"is finished: to rotate and revoke {leaked}." in words(done.stdout)
    assert f"{leaked} is revoked" in done.stdout
    assert changes(tenant) == [("POST", "/rotate"), ("PUT", f"/{leaked}/revoke")]


def test_lost_answer_is_told_where_the_keys_show_that_it_is_done(
    tenant: LocalTenant, environ: dict[str, str]
) -> None:
    tenant.faults.reset(path=ROTATE_PATH)
    done = run(environ, "rotate", "--yes")
    assert (done.returncode, done.stderr) == (0, "")
    assert "read from the tenant's list of keys" in done.stdout
    assert changes(tenant) == [("POST", "/rotate")]


def test_progress_is_shown_to_a_person_who_waits(
    tenant: LocalTenant, environ: dict[str, str]
) -> None:
    kid = rotated(tenant)
    tenant.faults.status(503, retry_after=1, times=1, path=SIGNING_KEYS_PATH)
    tenant.faults.rollback(0, times=1)
    with terminal(environ, "revoke", kid, *FORCED) as waiting:
        waiting.expect("Asking the tenant...")
        waiting.expect("No clear answer; looking again in ")
        waiting.expect("[y/N]")
        waiting.type("y\n")
        waiting.expect("waiting until it has left the JWKS...")
        assert waiting.status() == 0


def test_json_in_a_terminal_is_one_document_on_standard_output(
    tenant: LocalTenant, environ: dict[str, str]
) -> None:
    kid = rotated(tenant)
    pipe = subprocess.PIPE
    with terminal(environ, "revoke", kid, "--json", *FORCED, stdout=pipe) as asked:
        asked.expect("Revoke it now? [y/N]")
        asked.type("y\n")
        assert asked.status() == 0
        assert asked.process.stdout is not None
        with asked.process.stdout as out:
            assert json.loads(out.read())["kid"] == kid
    assert "Asking the tenant" not in asked.shown


def test_ctrl_c_after_something_was_sent_says_that_it_is_not_known_what_happened(
    tenant: LocalTenant, environ: dict[str, str]
) -> None:
    held = tenant.faults.hold(path=ROTATE_PATH)
    with started(environ, "rotate", "--yes") as process:
        held.arrived.wait_blocking(PATIENCE)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert "It is not known what the tenant has done" in err
    assert "jwks-guard keys list" in err
    assert "Traceback" not in err


def test_ctrl_c_at_the_prompt_or_while_reading_changes_nothing(
    tenant: LocalTenant, environ: dict[str, str]
) -> None:
    with terminal(environ, "rotate") as asked:
        asked.expect("[y/N]")
        assert asked.interrupted() == 1
    held = tenant.faults.hold(path=SIGNING_KEYS_PATH)
    with started(environ, "list") as process:
        held.arrived.wait_blocking(PATIENCE)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode != 0
    assert "Traceback" not in asked.shown + out + err
    assert changes(tenant) == []


def test_tenant_that_can_not_be_reached_or_has_no_room_ends_with_status_3(
    tenant: LocalTenant, environ: dict[str, str]
) -> None:
    tenant.faults.status(429, retry_after=3600, path=SIGNING_KEYS_PATH)
    limited = run(environ, "list")
    tenant.stop()
    gone = run(environ, "list", "--json")
    for done, why in ((limited, "Try again at "), (gone, "can't be reached")):
        assert (done.returncode, done.stdout) == (3, "")
        assert why in done.stderr
        assert "Traceback" not in done.stderr


def test_what_is_to_be_done_next_is_told_beside_the_error(
    tenant: LocalTenant, environ: dict[str, str]
) -> None:
    kid = rotated(tenant)
    path = f"{SIGNING_KEYS_PATH}/{kid}/revoke"
    tenant.faults.status(429, retry_after=3600, path=path)
    done = run(environ, "revoke", kid, "--yes", "--json", *FORCED)
    assert (done.returncode, done.stdout) == (3, "")
    notes = done.stderr.splitlines()[1:]
    assert "It is not known to be revoked at the tenant" in notes[0]
    again = f"jwks-guard keys revoke {shlex.join(FORCED)} -- {kid}"
    assert notes[1].endswith(f"It is safe to repeat this: `{again}`.")


def test_token_without_the_scope_is_told_which_one_to_ask_for(
    tenant: LocalTenant, environ: dict[str, str], tmp_path: Path
) -> None:
    token = tenant.token(audience=tenant.management_audience, scope="read:signing_keys")
    del environ["JWKS_GUARD_CLIENT_SECRET"]
    environ["JWKS_GUARD_TOKEN"] = token
    assert run(environ, "list").returncode == 0
    done = run(environ, "rotate", "--yes")
    assert done.returncode == 1
    assert "create:signing_keys" in done.stderr
    assert token not in done.stdout + done.stderr + json.dumps(journal(tmp_path))


def test_wrong_secret_ends_with_status_1_and_is_not_repeated(environ: dict[str, str]) -> None:
    environ["JWKS_GUARD_CLIENT_SECRET"] = "wr0ng-s3cret"
    done = run(environ, "list")
    assert (done.returncode, done.stdout) == (1, "")
    assert "rejects the client" in done.stderr
    assert "wr0ng" not in done.stderr


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.ConfigurationError("?"), 2),
        (errors.UnavailableError("?"), 3),
        (errors.RateLimitedError("?"), 3),
        (errors.DistrustNotSharedError("?"), 3),
        (errors.UnauthorizedError("?"), 1),
        (errors.ForbiddenError("?"), 1),
        (errors.NotFoundError("?"), 1),
        (errors.ManagementAPIError("?", status=400), 1),
        (errors.RotationRefusedError("?"), 1),
        (errors.RotationUncertainError("?"), 1),
        (errors.RevocationRefusedError("?"), 1),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_each_error_has_its_exit_status(
    error: JWKSGuardError, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    error.add_note("And then?\x1b")
    with pytest.raises(BaseException) as ended, errors_told():  # noqa: PT011 - typer's own Exit
        raise error
    assert getattr(ended.value, "exit_code", None) == status
    assert capsys.readouterr().err == "?\nAnd then?\\x1b\n"


def test_journal_that_can_not_be_written_stops_all_but_an_emergency(
    tenant: LocalTenant, environ: dict[str, str], tmp_path: Path
) -> None:
    kid = rotated(tenant)
    nowhere = ("--journal", str(tmp_path / "missing" / "journal"))
    planned = run(environ, "revoke", kid, "--yes", *nowhere)
    assert planned.returncode == 2
    assert "can't be written" in planned.stderr
    assert changes(tenant) == []
    emergency = run(environ, "revoke", kid, "--yes", "--emergency", *nowhere)
    assert emergency.returncode == 0
    assert "recorded nowhere" in emergency.stderr
    assert tenant.key("revoked").kid == kid


def test_journal_is_private_and_where_it_was_asked_for(
    tenant: LocalTenant, environ: dict[str, str], tmp_path: Path
) -> None:
    assert (
        run({**environ, "XDG_STATE_HOME": str(tmp_path / "s")}, "rotate", "--yes").returncode == 0
    )
    folder = tmp_path / "s" / "jwks-guard"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "journal.jsonl").stat().st_mode & 0o777 == 0o600
    named = str(tmp_path / "named")
    assert run({**environ, "JWKS_GUARD_JOURNAL": named}, "rotate", "--yes").returncode == 0
    assert run(environ, "rotate", "--yes", "--journal", named).returncode == 0
    assert Path(named).read_text().count('"finished"') == 2
    assert len((folder / "journal.jsonl").read_text().splitlines()) > 0
    assert not (tmp_path / ".local").exists()


def test_secret_is_seen_nowhere(
    tenant: LocalTenant, environ: dict[str, str], tmp_path: Path
) -> None:
    held = tenant.faults.hold(path=ROTATE_PATH)
    with started(environ, "rotate-and-revoke", "--yes") as process:
        held.arrived.wait_blocking(PATIENCE)
        arguments = Path(f"/proc/{process.pid}/cmdline")
        shown_by_ps = arguments.read_bytes().decode() if arguments.exists() else ""
        held.release()
        out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    seen = shown_by_ps + out + err + json.dumps(journal(tmp_path))
    assert tenant.client_secret not in seen
    assert "eyJ" not in seen  # how every token begins
    assert run(environ, "list", "--client-secret", "x").returncode == 2


def test_keys_work_on_the_tenant_command_as_it_says(tmp_path: Path) -> None:
    served = subprocess.Popen(
        [sys.executable, "-m", "jwks_guard", "tenant", "--port=0"],
        env=environment(tmp_path, PYTHONUNBUFFERED="1"),
        stdout=subprocess.PIPE,
        text=True,
    )
    with served:
        assert served.stdout is not None
        environ = environment(tmp_path)
        for line in served.stdout:
            if line.startswith("export "):
                name, _, value = shlex.split(line)[1].partition("=")
                environ[name] = value
            if line.startswith("Ctrl-C"):
                break
        try:
            first = json.loads(run(environ, "list", "--json").stdout)[1]["kid"]
            assert run_process(environ, "rotate", "--yes").returncode == 0
            assert run(environ, "revoke", first, "--yes", *FORCED).returncode == 0
            assert run(environ, "rotate-and-revoke", "--yes").returncode == 0
            listed = json.loads(run(environ, "list", "--json").stdout)
            assert [key["revoked"] for key in listed] == [False, False, True, True]
        finally:
            served.send_signal(signal.SIGTERM)


def test_help_of_every_command_can_be_read() -> None:
    runner = CliRunner()
    group = runner.invoke(app, ["keys", "--help"])
    for command in ("list", "show", "rotate", "revoke", "rotate-and-revoke"):
        assert command in group.stdout
        done = runner.invoke(app, ["keys", command, "--help"])
        assert (done.exit_code, done.stderr) == (0, "")
        assert "JWKS_GUARD_DOMAIN" in done.stdout
    assert "Exit status" in group.stdout


def test_what_another_process_is_doing_is_not_called_cut_off(
    tenant: LocalTenant, environ: dict[str, str], tmp_path: Path
) -> None:
    leaked = rotated(tenant)
    path = tmp_path / "journal"
    begun = Intent(
        action="revoke", tenant=tenant.issuer, actor="ada", kid=leaked, reason="x", emergency=True
    )

    async def in_another_process() -> subprocess.CompletedProcess[str]:
        here = Journal(path, None, time)
        async with here.under_way.operation():
            await here.begin(begun)
            return await asyncio.to_thread(run, environ, *asked)

    asked = ("rotate", "--dry-run", "--journal", str(path))
    assert "earlier run" not in words(asyncio.run(in_another_process()).stdout)
    assert f"earlier run began is finished: to revoke {leaked}" in words(
        run(environ, *asked).stdout
    )
