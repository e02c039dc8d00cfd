"""The incident command as the person on call uses it: real instances, a real tenant, one key."""

from __future__ import annotations

import json
import re
import stat
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import pytest

from jwks_guard import SyncTokenVerifier
from jwks_guard.admin import Incident
from jwks_guard.cli.incident.timeline import opened_timeline
from jwks_guard.fleet import commands
from jwks_guard.jose.compact import b64url_decode
from jwks_guard.testing import LocalTenant
from tests.bounds import defaults_of
from tests.cli.fleet_running import ShownFleet, instance, state, used
from tests.cli.instances_running import SECRET, answer, over_http, over_redis
from tests.cli.keys_running import PROGRAM, environment, of_tenant, run, run_process, terminal
from tests.process.programs import wait_until
from tests.redis_server import RedisServer

INCIDENT = (*PROGRAM, "incident")
ROTATE = "/api/v2/keys/signing/rotate"
LISTED = "/api/v2/keys/signing"
LEAKED = ("--reason", "found in a public repository", "--yes")


@pytest.fixture
def tenant() -> Iterator[LocalTenant]:
    with LocalTenant(algorithm="ES256") as tenant:
        tenant.rotate()
        yield tenant


@pytest.fixture
def instances(tenant: LocalTenant, redis: RedisServer) -> Iterator[list[SyncTokenVerifier]]:
    with ExitStack() as running:
        yield [running.enter_context(over_redis(tenant, redis)) for _ in range(2)]


@pytest.fixture
def people(tenant: LocalTenant, redis: RedisServer, tmp_path: Path) -> dict[str, str]:
    """Without access to the Management API."""
    return environment(tmp_path, JWKS_GUARD_FLEET=redis.url, JWKS_GUARD_ISSUER=tenant.issuer)


@pytest.fixture
def admins(people: dict[str, str], tenant: LocalTenant) -> dict[str, str]:
    """With access to it."""
    return {**people, **of_tenant(tenant)}


def answers(instances: list[SyncTokenVerifier], token: str) -> set[str]:
    return {answer(each, token) for each in instances}


def used_by_all(instances: list[SyncTokenVerifier], token: str, redis: RedisServer) -> None:
    """Use the token once at each instance, and return when Redis shows whose it is."""
    client = msgspec.json.decode(b64url_decode(token.split(".")[1].encode()))["azp"]
    assert len(answers(instances, token)) == 1

    def shows(value: bytes) -> bool:
        usages = json.loads(value)["usage"].values()  # none, if nobody has looked yet
        return client in {each["client"] for usage in usages for each in usage["clients"]}

    def all_show() -> bool:
        with redis.client() as client:
            names = client.keys("{jwks-guard}:state:*")
            return sum(map(shows, client.mget(names))) == len(instances)

    wait_until(all_show)


def words(text: str) -> str:
    return " ".join(text.split())


def steps(text: str) -> dict[str, str]:
    """The mark of each step."""
    names = "blast radius|tenant|rotate|refuse|acknowledge|revoke|key set"
    found = re.findall(rf"^(ok|\?\?|NO|--)  ({names}) ", text, re.MULTILINE)
    return {name: mark for mark, name in found}


ALL = ("blast radius", "tenant", "rotate", "refuse", "acknowledge", "revoke", "key set")


def test_current_key_is_rotated_refused_by_every_instance_and_revoked(
    tenant: LocalTenant,
    instances: list[SyncTokenVerifier],
    redis: RedisServer,
    admins: dict[str, str],
    tmp_path: Path,
) -> None:
    kid = tenant.key().kid
    token = tenant.token(claims={"azp": "shop", "org_id": "org_acme"})
    used_by_all(instances, token, redis)
    file = tmp_path / "timeline.md"
    done = run(admins, kid, *LEAKED, "--timeline", str(file), command=INCIDENT)
    assert (done.returncode, done.stderr) == (0, "")
    assert steps(done.stdout) == dict.fromkeys(ALL, "ok")
    assert max(map(len, done.stdout.splitlines()[:-1])) <= 80
    assert re.search(r"2  shop +org_acme", done.stdout), "each instance has accepted one"
    assert "2 of 2 instances refuse it" in done.stdout
    for each in instances:
        assert each.keys.register.instance[:8] in done.stdout
    conclusion = f"{kid} is refused everywhere, revoked, and gone from the key set."
    assert conclusion in words(done.stdout)
    assert answers(instances, token) == {"revoked_key"}
    assert answers(instances, tenant.token()) == {tenant.key().kid}
    assert tenant.key("revoked").kid == kid

    text = file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "- reason: found in a public repository" in text
    assert "- result: complete" in text
    assert "| 2 | shop | org_acme |" in text
    assert text.count("| ok |") == len(ALL)


def test_journal_has_each_step_with_the_actor(
    tenant: LocalTenant, instances: list[SyncTokenVerifier], admins: dict[str, str], tmp_path: Path
) -> None:
    kid = tenant.key().kid
    run(admins, kid, *LEAKED, command=INCIDENT)
    journal = tmp_path / ".local/state/jwks-guard/journal.jsonl"
    told = [json.loads(line) for line in journal.read_text().splitlines()]
    assert [each["step"] for each in told] == [
        *("intended", "blast_radius", "warned", "rotated", "refused_by", "refused_by"),
        *("acknowledged", "left_jwks", "finished"),
    ]
    assert {each["kid"] for each in told} == {kid}
    assert all("@" in each["actor"] for each in told)
    (timeline,) = (tmp_path / ".local/state/jwks-guard/incidents").iterdir()
    assert kid[:12].replace("_", "-") in timeline.name


def test_without_the_management_api_every_instance_refuses_it_and_the_plan_warns(
    tenant: LocalTenant, instances: list[SyncTokenVerifier], people: dict[str, str]
) -> None:
    kid, token = tenant.key().kid, tenant.token()
    assert answers(instances, token) == {kid}
    with terminal(people, kid[:6], command=INCIDENT) as screen:
        screen.expect("type the last 4 characters of its kid")
        assert "No access to the Management API is configured" in words(screen.shown)
        assert "no valid token is left" in words(screen.shown)
        screen.type(f"{kid[-4:]}\n")
        assert screen.status() == 0
    assert "At the tenant nothing was changed: rotate and revoke it there." in words(screen.shown)
    assert answers(instances, token) == {"revoked_key"}
    assert tenant.key().kid == kid


def test_consent_that_does_not_end_as_the_kid_changes_nothing(
    tenant: LocalTenant, instances: list[SyncTokenVerifier], admins: dict[str, str], tmp_path: Path
) -> None:
    kid, token = tenant.key().kid, tenant.token()
    with terminal(admins, command=INCIDENT) as screen:  # without a KID: the current key
        screen.expect("type the last 4 characters of its kid")
        assert kid in screen.shown
        assert "Rotate the signing keys and revoke the current one" in screen.shown
        assert "It became the current key only" in screen.shown  # the leaked one may be before it
        screen.type("y\n")
        assert screen.status() == 1
    assert "Nothing was done." in screen.shown
    assert (answers(instances, token), tenant.key().kid) == ({kid}, kid)
    assert not (tmp_path / ".local/state/jwks-guard/incidents").exists()


def test_terminal_shows_one_screen_that_fits_it(
    tenant: LocalTenant, instances: list[SyncTokenVerifier], admins: dict[str, str]
) -> None:
    kid = tenant.key("previous").kid
    answers(instances, tenant.token(key="previous"))
    with terminal(admins, "previous", command=INCIDENT) as screen:
        screen.expect("type the last 4 characters of its kid")
        screen.type(f"{kid[-4:]}\n")
        assert screen.status() == 0
    assert "is refused everywhere, revoked, and gone from the key set." in words(screen.shown)
    assert "The timeline is in " in screen.shown
    assert tenant.key("revoked").kid == kid


def test_key_that_is_revoked_already_is_refused_once_more_and_nothing_is_rotated(
    tenant: LocalTenant, instances: list[SyncTokenVerifier], admins: dict[str, str]
) -> None:
    kid, token = tenant.key("previous").kid, tenant.token(key="previous")
    assert answers(instances, token) == {kid}
    tenant.revoke(kid)
    current = tenant.key().kid
    done = run(admins, kid, *LEAKED, command=INCIDENT)
    assert done.returncode == 0
    assert "The tenant has revoked it already." in words(done.stdout)
    assert answers(instances, token) == {"revoked_key"}
    assert tenant.key().kid == current


def test_fleet_that_is_down_keeps_the_tenant_from_nothing(
    tenant: LocalTenant, admins: dict[str, str]
) -> None:
    kid = tenant.key().kid
    admins["JWKS_GUARD_FLEET"] = "redis://127.0.0.1:1"
    done = run(admins, kid, *LEAKED, command=INCIDENT)
    assert done.returncode == 1
    marks = steps(done.stdout)
    assert (marks["refuse"], marks["acknowledge"]) == ("NO", "NO")
    assert (marks["rotate"], marks["revoke"], marks["key set"]) == ("ok", "ok", "ok")
    assert "Not everything is done or known." in done.stdout
    assert f"  jwks-guard incident -- {kid}\n" in done.stdout
    assert tenant.key("revoked").kid == kid


def test_fleet_that_is_down_without_the_management_api_is_unreachable(
    people: dict[str, str],
) -> None:
    people["JWKS_GUARD_FLEET"] = "redis://127.0.0.1:1"
    done = run(people, "a-leaked-key", *LEAKED, command=INCIDENT)
    assert done.returncode == 3
    assert "Nothing was done." in done.stdout


def test_command_to_run_again_is_about_the_same_fleet(
    people: dict[str, str], tmp_path: Path
) -> None:
    config = tmp_path / "prod fleet.toml"
    config.write_text('fleet = "redis://127.0.0.1:1"\nissuer = "https://prod.test/"\n')
    environ = {name: v for name, v in people.items() if not name.startswith("JWKS_GUARD_")}
    arguments = ("a-leaked-key", *LEAKED, "--refuse-first", "--config", str(config))
    done = run(environ, *arguments, command=INCIDENT)
    assert (
        f"  jwks-guard incident --config '{config}' --refuse-first -- a-leaked-key\n" in done.stdout
    )


def test_tenant_that_is_down_is_said_before_the_consent_and_the_key_is_refused(
    tenant: LocalTenant, instances: list[SyncTokenVerifier], admins: dict[str, str]
) -> None:
    kid, token = tenant.key().kid, tenant.token()
    assert answers(instances, token) == {kid}
    tenant.faults.status(503, path=LISTED)
    with terminal(admins, kid, command=INCIDENT) as screen:
        screen.expect("type the last 4 characters of its kid")
        assert "The tenant can't be asked" in words(screen.shown)
        screen.type(f"{kid[-4:]}\n")
        assert screen.status() == 1
    assert answers(instances, token) == {"revoked_key"}


def test_rotation_that_fails_leaves_the_current_key_accepted(
    tenant: LocalTenant, instances: list[SyncTokenVerifier], admins: dict[str, str]
) -> None:
    kid, token = tenant.key().kid, tenant.token()
    tenant.faults.status(403, path=ROTATE)
    done = run(admins, kid, *LEAKED, command=INCIDENT)
    assert (done.returncode, steps(done.stdout)["refuse"]) == (1, "NO")
    assert answers(instances, token) == {kid}
    done = run(admins, kid, *LEAKED, "--refuse-first", command=INCIDENT)
    assert (done.returncode, steps(done.stdout)["refuse"]) == (1, "ok")
    assert answers(instances, token) == {"revoked_key"}


def test_without_a_fleet_it_is_not_said_that_the_key_is_refused(
    tenant: LocalTenant, admins: dict[str, str]
) -> None:
    kid = tenant.key().kid
    del admins["JWKS_GUARD_FLEET"]
    done = run(admins, kid, *LEAKED, command=INCIDENT)
    assert done.returncode == 0
    assert f"{kid} is revoked, and gone from the key set." in words(done.stdout)
    assert "refused everywhere" not in done.stdout
    assert "No fleet is given" in words(done.stdout)


def test_instance_that_is_silent_is_named(
    tenant: LocalTenant,
    fleet: ShownFleet,
    people: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(commands, "ACKNOWLEDGE_SECONDS", 0.1)
    monkeypatch.setitem(defaults_of(Incident.__init__), "acknowledge_within", 0.5)
    fleet.show(state(tenant.issuer, "leaked-key", host="web-9:17", usage={"leaked-key": used(5)}))
    done = run(people, "leaked-key", *LEAKED, command=INCIDENT)
    assert done.returncode == 1
    assert steps(done.stdout)["acknowledge"] == "??"
    assert re.search(r"NOT KNOWN +web-9:17 \(a1b2c3d4\)", done.stdout)


def test_ctrl_c_in_the_middle_keeps_the_record_and_the_next_run_completes_it(
    tenant: LocalTenant, instances: list[SyncTokenVerifier], admins: dict[str, str], tmp_path: Path
) -> None:
    kid, token = tenant.key().kid, tenant.token()
    hanging = tenant.faults.hold(path=f"{LISTED}/{kid}/revoke")
    file = tmp_path / "timeline.md"
    arguments = (kid, "--yes", "--timeline", str(file))
    with terminal(admins, *arguments, command=INCIDENT) as screen:
        wait_until(lambda: hanging.arrived.is_set)
        assert screen.interrupted() == 1
    hanging.release()
    tenant.faults.clear()
    assert "Interrupted." in screen.shown
    assert re.search(r"\| revoke \| failed \| It was interrupted\. \|", file.read_text())
    assert answers(instances, token) == {"revoked_key"}
    current = tenant.key().kid
    done = run(admins, kid, *LEAKED, command=INCIDENT)
    assert done.returncode == 0
    assert (tenant.key().kid, tenant.key("revoked").kid) == (current, kid), "not rotated twice"


def test_json_is_the_report(
    tenant: LocalTenant, instances: list[SyncTokenVerifier], admins: dict[str, str], tmp_path: Path
) -> None:
    kid = tenant.key().kid
    file = tmp_path / "timeline.json"
    done = run(admins, kid, *LEAKED, "--json", "--timeline", str(file), command=INCIDENT)
    told = json.loads(done.stdout)
    assert (done.returncode, done.stderr, told["complete"]) == (0, "", True)
    assert told.pop("timeline") == str(file)
    assert json.loads(file.read_text()) == told
    assert [each["name"] for each in told["steps"]] == list(ALL)
    assert len(told["refusals"]) == 2


def test_incidents_that_begin_in_the_same_second_have_a_record_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    records = [opened_timeline(None, "leaked") for _ in range(3)]  # two of them, whatever the time
    for record in records:
        assert record is not None
        record.close()
    assert len(list((tmp_path / "jwks-guard/incidents").iterdir())) == 3


def test_timeline_never_replaces_a_file_and_nothing_is_done_then(
    tenant: LocalTenant, instances: list[SyncTokenVerifier], admins: dict[str, str], tmp_path: Path
) -> None:
    kid = tenant.key().kid
    there = tmp_path / "there.md"
    there.write_text("another record")
    link = tmp_path / "link.md"
    link.symlink_to(tmp_path / "elsewhere.md")
    for path in (there, link, tmp_path / "no folder" / "file.md"):
        done = run(admins, kid, *LEAKED, "--timeline", str(path), command=INCIDENT)
        assert (done.returncode, done.stdout) == (2, "")
        assert "Nothing was done" in done.stderr
    assert there.read_text() == "another record"
    assert not (tmp_path / "elsewhere.md").exists()
    assert tenant.key().kid == kid


def test_full_disk_keeps_no_step_from_its_part_and_is_said(
    tenant: LocalTenant, instances: list[SyncTokenVerifier], admins: dict[str, str], tmp_path: Path
) -> None:
    kid, token = tenant.key().kid, tenant.token()
    limited = ("bash", "-c", 'ulimit -f 0; exec "$0" "$@"', *INCIDENT)
    file = tmp_path / "timeline.md"
    done = run_process(admins, kid, *LEAKED, "--timeline", str(file), command=limited)
    assert done.returncode == 0
    assert steps(done.stdout) == dict.fromkeys(ALL, "ok")
    assert words(done.stderr).count(f"The timeline {file} can't be written") == 1
    assert "but its end could not be written" in words(done.stdout)
    assert answers(instances, token) == {"revoked_key"}
    assert tenant.key("revoked").kid == kid


def test_output_that_nobody_reads_keeps_no_step_from_its_part(
    tenant: LocalTenant, instances: list[SyncTokenVerifier], admins: dict[str, str]
) -> None:
    kid, token = tenant.key().kid, tenant.token()
    piped = ("bash", "-c", '"$0" "$@" | true; exit "${PIPESTATUS[0]}"', *INCIDENT)
    done = run_process(admins, kid, *LEAKED, command=piped)
    assert (done.returncode, done.stderr) == (0, "")
    assert answers(instances, token) == {"revoked_key"}
    assert tenant.key("revoked").kid == kid


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--yes"], "write the kid"),
        (["current", "--yes"], "write the kid"),
        (["some-key"], "add --yes"),
    ],
)
def test_what_can_not_be_meant_is_refused(
    admins: dict[str, str], arguments: list[str], says: str
) -> None:
    done = run(admins, *arguments, command=INCIDENT)
    assert done.returncode == 2
    assert says in words(done.stderr)


def test_kid_that_only_the_tenant_can_tell_needs_access_to_it(people: dict[str, str]) -> None:
    for arguments in ([], ["current"]):
        with terminal(people, *arguments, command=INCIDENT) as screen:
            assert screen.status() == 2
        assert "only the tenant can tell which key is current" in words(screen.shown)


def test_hostile_names_reach_neither_the_terminal_nor_the_record_as_they_are(
    tenant: LocalTenant,
    instances: list[SyncTokenVerifier],
    redis: RedisServer,
    admins: dict[str, str],
    tmp_path: Path,
) -> None:
    kid = tenant.key().kid
    used_by_all(instances, tenant.token(claims={"azp": "<b>`[x](y)|", "org_id": "\x1b[2Jé"}), redis)
    file = tmp_path / "timeline.md"
    done = run(admins, kid, *LEAKED, "--timeline", str(file), command=INCIDENT)
    assert done.returncode == 0
    for text in (done.stdout, file.read_text()):
        assert text.isascii()
        assert "\x1b" not in text
    assert "<b>" not in file.read_text()
    assert "&lt;b&gt;" in file.read_text()


def test_drill_measures_an_incident_and_touches_nothing_that_is_configured(
    tenant: LocalTenant, admins: dict[str, str], tmp_path: Path
) -> None:
    kid, file = tenant.key().kid, tmp_path / "evidence.md"
    done = run(admins, "--drill", "--timeline", str(file), command=INCIDENT)
    assert done.returncode == 0
    assert steps(done.stdout) == dict.fromkeys(ALL, "ok")
    assert re.search(r"ok  decision to the last acknowledgement +[\d.]+ s", done.stdout)
    assert re.search(r"ok  accepted once all had acknowledged +0 of [1-9]", done.stdout)
    assert re.search(r"ok  refused with a token of the new key +0 of [1-9]", done.stdout)
    assert "2 instances, each a process" in words(done.stdout)
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "## Evidence of the drill" in file.read_text()
    assert tenant.key().kid == kid


def test_drill_on_the_configured_tenant_rotates_it_and_measures_its_own_instances(
    tenant: LocalTenant, redis: RedisServer, admins: dict[str, str], tmp_path: Path
) -> None:
    kid = tenant.key().kid
    admins["JWKS_GUARD_AUDIENCE"] = tenant.audience
    host = urlsplit(tenant.issuer).netloc
    with instance(tenant, redis) as one, instance(tenant, redis) as other:
        probes = [argument for each in (one, other) for argument in ("--probe", str(each.base_url))]
        file = tmp_path / "evidence.json"
        arguments = ("--drill", "--staging", host, *probes, "--yes", "--timeline", str(file))
        done = run(admins, *arguments, command=INCIDENT)
    assert done.returncode == 0
    assert steps(done.stdout) == dict.fromkeys(ALL, "ok")
    assert tenant.key("revoked").kid == kid
    told = json.loads(file.read_text())
    assert told["held"] is True
    assert told["place"] == f"2 probes; tenant {tenant.issuer}"
    (late,) = [each for each in told["measures"] if each["name"].startswith("accepted once")]
    assert re.fullmatch("0 of [1-9][0-9]*", late["measured"])


def test_drill_on_a_tenant_needs_its_name_and_all_that_it_measures_with(
    tenant: LocalTenant, instances: list[SyncTokenVerifier], admins: dict[str, str]
) -> None:
    kid, host = tenant.key().kid, urlsplit(tenant.issuer).netloc
    probe = ("--probe", "http://127.0.0.1:1/")
    for arguments, says in (
        (("--drill", "--staging", "prod.eu.auth0.com", *probe), f"configured is the tenant {host}"),
        (("--drill", "--staging", host), "give --probe URL"),
        (("--drill", "--staging", host, "--probe", "http://api.test/"), "--probe http://api.test/"),
        (("--drill", "--staging", host, *probe, tenant.key("next").kid), "is not the current one"),
        (("--drill", "--staging", host, *probe), "set JWKS_GUARD_AUDIENCE"),
        (("--staging", host, *probe), "it takes --drill"),
    ):
        done = run(admins, *arguments, "--yes", command=INCIDENT)
        assert (done.returncode, done.stdout) == (2, "")
        assert says in words(done.stderr)
    assert tenant.key().kid == kid
    people = {name: v for name, v in admins.items() if "CLIENT" not in name}
    done = run(people, kid, "--drill", "--staging", host, *probe, "--yes", command=INCIDENT)
    assert done.returncode == 2
    assert "needs a fleet and access" in words(done.stderr)


@pytest.mark.parametrize("access", ["people", "admins"])
def test_kid_that_nobody_knows_is_refused_nowhere_without_being_asked(
    access: str,
    request: pytest.FixtureRequest,
    tenant: LocalTenant,
    instances: list[SyncTokenVerifier],
    redis: RedisServer,
    tmp_path: Path,
) -> None:
    environ: dict[str, str] = request.getfixturevalue(access)
    used_by_all(instances, tenant.token(claims={"azp": "shop"}), redis)  # so they report
    mistyped = tenant.key().kid[:-1] + "~"
    done = run(environ, mistyped, *LEAKED, command=INCIDENT)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{mistyped} is not known: " in words(done.stderr)
    assert ("the tenant does not list it" in words(done.stderr)) == (access == "admins")
    assert not (tmp_path / ".local/state/jwks-guard").exists()
    assert not any(each.distrusted for each in instances)


@pytest.mark.parametrize("stopped", [False, True])
def test_kid_that_a_silent_instance_may_trust_is_refused_without_being_asked(
    stopped: bool, tenant: LocalTenant, tmp_path: Path
) -> None:
    """The first trusts the leaked key and can't be reached; the second started later."""
    kid, token = tenant.key().kid, tenant.token()
    with ExitStack() as running:
        first = running.enter_context(over_http(tenant))
        tenant.rotate()
        tenant.revoke(kid)
        second = running.enter_context(over_http(tenant))
        assert answer(first.verifier, token) == kid
        if stopped:
            first.stop()
        secret = tmp_path / "secret"
        secret.write_text(SECRET)
        environ = environment(
            tmp_path,
            JWKS_GUARD_FLEET=f"{first.url} {second.url}",
            JWKS_GUARD_FLEET_SECRET_FILE=str(secret),
            JWKS_GUARD_ISSUER=tenant.issuer,
        )
        if not stopped:
            mistyped = run(environ, f"{kid}~", *LEAKED, command=INCIDENT)
            assert mistyped.returncode == 2
            assert "is not known: every instance answers" in words(mistyped.stderr)
        done = run(environ, kid, *LEAKED, command=INCIDENT)
        assert done.returncode == (1 if stopped else 0)
        assert kid in second.verifier.distrusted


def test_silent_instance_of_redis_may_know_a_kid_that_no_other_does(
    tenant: LocalTenant,
    redis: RedisServer,
    people: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(commands, "ACKNOWLEDGE_SECONDS", 0.1)
    monkeypatch.setitem(defaults_of(Incident.__init__), "acknowledge_within", 0.5)
    shown, now = ShownFleet(redis), time.time()
    shown.show(
        state(tenant.issuer, "k1", instance="a" * 32),
        state(tenant.issuer, instance="b" * 32, reported_at=now - 60.0),
    )
    with shown.reporting():
        done = run(people, "leaked-by-another", *LEAKED, command=INCIDENT)
    assert done.returncode == 1
    assert "is not known" not in words(done.stderr)


def test_missing_settings_are_named_before_consent_is_asked_for(tmp_path: Path) -> None:
    done = run(environment(tmp_path), "a-leaked-key", command=INCIDENT)
    assert done.returncode == 2
    assert "Not configured: set JWKS_GUARD_DOMAIN" in done.stderr
    assert "--yes" not in done.stderr
