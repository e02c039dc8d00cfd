from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jwks_guard.readiness.usage import RECENT
from tests.cli.fleet_running import ShownFleet, state, used
from tests.cli.keys_running import PROGRAM, environment, run, run_process, terminal
from tests.redis_server import RedisServer

COMMAND = (*PROGRAM, "watch")
ISSUER = "https://acme.eu.auth0.com/"
NARROW = {"NO_COLOR": "1", "COLUMNS": "80"}
ESCAPES = "\x1b\x9b\u202e\x07"
WITHOUT_REDIS = """
import sys
sys.modules["redis"] = None
from jwks_guard.cli import main
sys.argv = ["jwks-guard", *{!r}]
main()
"""


@pytest.fixture
def environ(redis: RedisServer, tmp_path: Path) -> dict[str, str]:
    variables = {"JWKS_GUARD_FLEET": redis.url, "JWKS_GUARD_DOMAIN": "acme.eu.auth0.com"}
    return environment(tmp_path, COLUMNS="200", **variables)


def rows(text: str) -> list[list[str]]:
    """The cells of the table; its headings first."""
    lines = text.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("instance"))
    return [re.split(r" {2,}", line.strip()) for line in lines[start:]]


def test_once_prints_each_kid_of_each_instance(fleet: ShownFleet, environ: dict[str, str]) -> None:
    now = time.time()
    usage = {"old": used(61.0, 132)}
    fleet.show(
        state(ISSUER, "new", "old", instance="a" * 32, usage=usage, confirmed_at=now - 61),
        state(ISSUER, "new", instance="b" * 32, host="web-2:18", refused={"old": now - 3720}),
        state(ISSUER, "new", instance="c" * 32, host="web-3:19", reported_at=now - 7260),
        state("https://other.test/", "theirs", instance="d" * 32),
    )
    fleet.show(state(ISSUER, "elsewhere", instance="e" * 32), prefix="other")
    done = run_process(environ, "--once", command=COMMAND)
    assert (done.returncode, done.stderr) == (0, "")
    heading, *table = rows(done.stdout)
    assert heading == [
        *("instance", "status", "confirmed"),
        *("kid", "state", f"in {RECENT}", "last accepted", "refused since"),
    ]
    assert table[0][:2] == ["web-1:17 (aaaaaaaa)", "ok"]
    assert table[0][2] == "1 min ago"
    assert table[0][3:] == ["new", "trusted", "0", "never"]
    assert table[1] == ["old", "trusted", "132", "1 min ago"]
    assert [row[-5:-1] for row in table[3:4]] == [["old", "refused", "0", "never"]]
    assert table[3][-1] == "1 h ago"
    assert table[4][0] == "web-3:19 (cccccccc)"
    assert table[4][1] == "silent, 2 h ago"
    assert len(table) == 5


def test_without_a_terminal_it_is_shown_once(fleet: ShownFleet, environ: dict[str, str]) -> None:
    fleet.show(state(ISSUER, "new"))
    done = run(environ, command=COMMAND)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{ISSUER}   ")
    assert len(rows(done.stdout)) == 2


def test_json_is_what_every_instance_shows(fleet: ShownFleet, environ: dict[str, str]) -> None:
    fleet.show(state(ISSUER, "new"))
    before = time.time()
    document = json.loads(run(environ, "--once", "--json", command=COMMAND).stdout)
    assert document["issuer"] == ISSUER
    assert before <= document["at"] <= time.time()
    assert document["instances"][0]["kids"] == ["new"]
    assert run(environ, "--json", command=COMMAND).returncode == 2


def test_fleet_of_which_nobody_reports_ends_with_status_1(environ: dict[str, str]) -> None:
    done = run(environ, "--once", command=COMMAND)
    assert (done.returncode, done.stderr) == (1, "")
    assert "No instance reports." in done.stdout


def test_kid_that_no_instance_knows_is_no_empty_table(
    fleet: ShownFleet, environ: dict[str, str]
) -> None:
    fleet.show(state(ISSUER, "new"))
    done = run(environ, "another", "--once", command=COMMAND)
    assert done.stdout.splitlines()[1:] == ["No instance knows the key another."]
    assert done.returncode == 1
    assert rows(run(environ, "new", "--once", command=COMMAND).stdout) != []


def test_terminal_shows_what_changes_until_ctrl_c(
    redis: RedisServer, fleet: ShownFleet, environ: dict[str, str]
) -> None:
    fleet.show(state(ISSUER, "new", "old"))
    with terminal(environ, command=COMMAND, stderr=subprocess.DEVNULL) as shown:
        shown.expect("web-1:17")
        fleet.show(state(ISSUER, "new", refused={"old": time.time()}))
        shown.expect("refused")
        redis.kill()
        shown.expect("can't be reached")
        redis.start()
        fleet.show(state(ISSUER, "new", host="web-2:18"))
        shown.expect("web-2:18")
        shown.process.send_signal(signal.SIGINT)
        assert shown.status() == 0
    assert "Traceback" not in shown.shown


def test_table_fits_a_narrow_terminal(fleet: ShownFleet, environ: dict[str, str]) -> None:
    fleet.show(state(ISSUER, "n" * 40, host="h" * 40))
    with terminal({**environ, **NARROW}, "--once", command=COMMAND) as shown:
        assert shown.status() == 0
    text = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", shown.shown)
    assert max(map(len, text.splitlines())) <= 80
    assert text.count("n") >= 40
    assert "\u2026" not in text  # a kid is never cut short


def test_narrow_terminal_shows_each_kid_of_auth0_in_one_line(
    fleet: ShownFleet, environ: dict[str, str]
) -> None:
    kids = ("n" * 21, "o" * 21)
    fleet.show(
        state(ISSUER, *kids, usage={kids[0]: used(61.0, 132)}),
        state(ISSUER, *kids, instance="b" * 32, refused={kids[1]: time.time()}),
    )
    with terminal({**environ, **NARROW}, "--once", command=COMMAND) as shown:
        assert shown.status() == 0
    lines = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", shown.shown).splitlines()
    assert max(map(len, lines)) <= 80
    instances = [line.split(",")[0] for line in lines if line.startswith("web-1")]
    assert instances == ["web-1:17 (a1b2c3d4)  ok", "web-1:17 (bbbbbbbb)  ok"]
    accepted = [line.split() for line in lines if line.startswith(f"  {kids[0]}")]
    assert [row[1:3] for row in accepted] == [["trusted", "132"], ["trusted", "0"]]
    assert sum(line.startswith(f"  {kids[1]}  refused") for line in lines) == 1


def test_what_the_fleet_says_steers_no_terminal(fleet: ShownFleet, environ: dict[str, str]) -> None:
    hostile = f"kid{ESCAPES}[red]"
    now = time.time()
    fleet.show(
        state(ISSUER, hostile, usage={hostile: used(1.0)}, refused={hostile: now}),
        state(ISSUER, hostile, instance="b" * 32, host=f"web{ESCAPES}"),
        state(ISSUER, hostile, instance=ESCAPES, host="\ufe0f\u0007"),
    )
    for arguments in (("--once",), ("--once", "--json")):
        done = run(environ, *arguments, command=COMMAND)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.isascii()
        assert not set(done.stdout) & set(ESCAPES)
    table = run(environ, "--once", command=COMMAND).stdout
    assert "kid\\x1b\\x9b\\u202e\\x07[red]" in table
    assert "unknown (bbbbbbbb)" in table  # its state can't be read
    assert len(rows(table)) == 3


def test_garbage_in_the_fleet_is_passed_over(
    redis: RedisServer, fleet: ShownFleet, environ: dict[str, str]
) -> None:
    fleet.show(state(ISSUER, "new"))
    with redis.client() as client:
        for number, garbage in enumerate((b"", b"[", b"{}", b"\xff" * 9, b"[" * 100_000)):
            client.set(f"g{number}", garbage)
            client.zadd("{jwks-guard}:instances", {f"g{number}": time.time()})
    done = run(environ, "--once", command=COMMAND)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(rows(done.stdout)) == 2


def test_of_many_refused_keys_the_latest_are_shown(
    fleet: ShownFleet, environ: dict[str, str]
) -> None:
    now = time.time()
    refused = {f"gone-{number}": now - number for number in range(500)}
    fleet.show(state(ISSUER, "new", refused=refused))
    done = run(environ, "--once", command=COMMAND)
    table = rows(done.stdout)[1:]
    assert [row[0] for row in table[1:6]] == [f"gone-{number}" for number in range(5)]
    assert "495 more" in done.stdout


def test_fleet_that_can_not_be_reached_ends_with_status_3_and_shows_no_password(
    redis: RedisServer, environ: dict[str, str]
) -> None:
    environ["JWKS_GUARD_FLEET"] = redis.url.replace("//", "//admin:s3cret@")
    refused = run(environ, "--once", command=COMMAND)
    redis.kill()
    gone = run(environ, "--once", command=COMMAND)
    for done, why in ((refused, "refuses the login"), (gone, "can't be reached")):
        assert (done.returncode, done.stdout) == (3, "")
        assert why in done.stderr
        assert "s3cret" not in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "variables",
    [
        {"JWKS_GUARD_FLEET": ""},
        {"JWKS_GUARD_DOMAIN": ""},
        {"JWKS_GUARD_FLEET": "postgres://u:s3cret@host"},
        {"JWKS_GUARD_FLEET": "redis://u:s3cret@host:port"},
        {"JWKS_GUARD_FLEET": "redis://a redis://b"},
        {"JWKS_GUARD_FLEET": "https://10.0.0.1/ops"},
        {"JWKS_GUARD_FLEET": "https://10.0.0.1/ops", "JWKS_GUARD_FLEET_SECRET_FILE": "/nowhere"},
        {"JWKS_GUARD_ISSUER": "two\nlines"},
        {"JWKS_GUARD_EXPECTED_INSTANCES": "many"},
        {"JWKS_GUARD_EXPECTED_INSTANCES": "0"},
        {"JWKS_GUARD_EXPECTED_INSTANCES": "9" * 5000},
        {"JWKS_GUARD_QUIET_PERIOD_SECONDS": "-1"},
    ],
    ids=lambda variables: "+".join(variables),
)
def test_what_can_not_be_configured_is_a_usage_error(
    environ: dict[str, str], variables: dict[str, str]
) -> None:
    done = run({**environ, **variables}, "--once", command=COMMAND)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
    assert "s3cret" not in done.stderr


def test_url_of_the_fleet_is_no_option(environ: dict[str, str]) -> None:
    for command in ("watch", "can-revoke", "keys"):
        url = ("--fleet", "redis://u:s3cret@host")
        assert run(environ, *url, command=(*PROGRAM, command)).returncode == 2


def test_fleet_over_redis_without_its_extra_says_what_to_install(environ: dict[str, str]) -> None:
    done = run_process(environ, command=(sys.executable, "-c", WITHOUT_REDIS.format(["watch"])))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith("pip install 'jwks-guard[redis]'.\n")


def test_instance_that_has_ended_is_dismissed_and_no_other(
    fleet: ShownFleet, environ: dict[str, str]
) -> None:
    now = time.time()
    fleet.show(
        state(ISSUER, "new", instance="a" * 32),
        state(ISSUER, "new", instance="b" * 32, host="gone", reported_at=now - 3_600),
    )
    reasons = {"a" * 32: "still reports", "b" * 7: "no single", "c" * 32: "no single"}
    for named, why in reasons.items():
        refused = run(environ, "--dismiss", named, command=COMMAND)
        assert (refused.returncode != 0, refused.stdout) == (True, "")
        assert why in refused.stderr
    done = run(environ, "--dismiss", "b" * 8, command=COMMAND)
    assert (done.returncode, done.stdout) == (0, "gone (bbbbbbbb) is forgotten.\n")
    assert len(rows(run(environ, "--once", command=COMMAND).stdout)) == 2
