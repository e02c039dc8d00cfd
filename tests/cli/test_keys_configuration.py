from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from jwks_guard import ConfigurationError
from jwks_guard.admin import ClientCredentials, StaticToken
from jwks_guard.cli.configuration import (
    Configuration,
    configured,
    configured_fleet,
    default_journal,
)
from jwks_guard.testing import LocalTenant
from tests.cli.keys_running import environment, of_tenant, run, terminal

TENANT = {"JWKS_GUARD_DOMAIN": "acme.eu.auth0.com", "JWKS_GUARD_CLIENT_ID": "id"}
COMPLETE = {**TENANT, "JWKS_GUARD_CLIENT_SECRET": "s3cret"}


@pytest.fixture
def tenant() -> Iterator[LocalTenant]:
    with LocalTenant(algorithm="ES256") as tenant:
        yield tenant


def read(
    environ: dict[str, str],
    file: Path | None = None,
    ask: Callable[[str], str] | None = None,
    **options: str | None,
) -> Configuration:
    return configured(options, environ, file, ask)


def refusal(environ: dict[str, str], file: Path | None = None) -> str:
    with pytest.raises(ConfigurationError) as refused:
        read(environ, file)
    assert "s3cret" not in str(refused.value)
    return str(refused.value)


def written(folder: Path, text: str, mode: int = 0o600) -> Path:
    path = folder / "jwks-guard.toml"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_environment_is_enough() -> None:
    assert read(COMPLETE) == Configuration(
        domain="acme.eu.auth0.com", auth=ClientCredentials("id", "s3cret")
    )


def test_file_is_enough(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        """
        domain = "login.acme.test"
        client_id = "id"
        client_secret = "s3cret"
        management_audience = "https://acme.eu.auth0.com/api/v2/"
        jwks_uri = "https://login.acme.test/keys.json"
        token_lifetime_seconds = 7200
        journal = "journal.jsonl"
        """,
    )
    assert read({}, file) == Configuration(
        domain="login.acme.test",
        auth=ClientCredentials("id", "s3cret", audience="https://acme.eu.auth0.com/api/v2/"),
        jwks_uri="https://login.acme.test/keys.json",
        token_lifetime=timedelta(hours=2),
        journal=tmp_path / "journal.jsonl",
    )


def test_options_win_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        'domain = "file.test"\nclient_id = "of-file"\nmanagement_audience = "a"\n'
        'client_secret_file = "none"',
    )
    environ = {
        **COMPLETE,
        "JWKS_GUARD_TOKEN_LIFETIME_SECONDS": "60",
        "JWKS_GUARD_MANAGEMENT_AUDIENCE": "",
    }
    configuration = read(environ, file, domain="option.test", client_id=None)
    assert configuration.domain == "option.test"
    assert configuration.auth == ClientCredentials("id", "s3cret", audience="a")
    assert configuration.token_lifetime == timedelta(minutes=1)


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_secret_in_a_file_loses_its_line_end(tmp_path: Path, end: str) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(f"s3cret{end}".encode())
    environ = {**TENANT, "JWKS_GUARD_CLIENT_SECRET_FILE": str(secret)}
    assert read(environ).auth == ClientCredentials("id", "s3cret")
    file = written(tmp_path, 'domain = "acme.eu.auth0.com"\ntoken_file = "secret"')
    assert read({}, file).auth == StaticToken("s3cret")


def test_ready_token_needs_no_client_id() -> None:
    environ = {"JWKS_GUARD_DOMAIN": "acme.eu.auth0.com", "JWKS_GUARD_TOKEN": "t0ken"}
    assert read(environ).auth == StaticToken("t0ken")


def test_two_ways_to_authenticate_contradict_each_other(tmp_path: Path) -> None:
    why = refusal({**COMPLETE, "JWKS_GUARD_TOKEN": "t"})
    assert "JWKS_GUARD_CLIENT_SECRET and JWKS_GUARD_TOKEN contradict" in why
    file = written(tmp_path, 'client_secret = "s3cret"\nprivate_key_file = "k"')
    assert f"client_secret in {file} and private_key_file in {file} " in refusal(TENANT, file)


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({}, ("DOMAIN", "CLIENT_ID", "CLIENT_SECRET")),
        ({"JWKS_GUARD_CLIENT_SECRET": "s3cret"}, ("DOMAIN", "CLIENT_ID")),
        ({"JWKS_GUARD_TOKEN": "t"}, ("DOMAIN",)),
        (TENANT, ("CLIENT_SECRET", "CLIENT_SECRET_FILE", "PRIVATE_KEY_FILE", "TOKEN_FILE")),
    ],
)
def test_what_is_missing_is_named_with_its_variable(
    environ: dict[str, str], named: tuple[str, ...]
) -> None:
    why = refusal(environ)
    for name in named:
        assert f"JWKS_GUARD_{name}" in why
    assert ("JWKS_GUARD_DOMAIN" in why) is ("DOMAIN" in named)


def test_unknown_names_in_the_file_are_refused_by_name(tmp_path: Path) -> None:
    file = written(tmp_path, 'domian = "s3cret"')
    assert refusal(COMPLETE, file) == f"domian in {file} is no setting: did you mean domain?"
    file = written(tmp_path, 'token = "s3cret"')
    assert refusal(COMPLETE, file) == f"token in {file} is no setting: did you mean token_file?"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_secret_that_others_can_read_is_refused_with_what_to_do(tmp_path: Path, mode: int) -> None:
    file = written(tmp_path, 'client_secret = "s3cret"', mode)
    assert refusal(COMPLETE, file).endswith(f"chmod 600 {file}")


def test_file_without_a_secret_may_be_read_by_others(tmp_path: Path) -> None:
    file = written(tmp_path, 'domain = "file.test"', 0o644)
    assert read({"JWKS_GUARD_TOKEN": "t"}, file).domain == "file.test"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"domain = ", "TOML"),
        (b"domain = 's3cret\xff'", "not UTF-8"),
        (b"domain = " + 5_000 * b"[", "TOML"),
        (b"domain = 7", "domain in"),
        (b"domain = ''", "domain in"),
        (b"token_lifetime_seconds = '1 day'", "token_lifetime_seconds in"),
        (b"token_lifetime_seconds = true", "token_lifetime_seconds in"),
        (b"token_lifetime_seconds = inf", "token_lifetime_seconds in"),
        (b"quiet_period_seconds = 0", "quiet_period_seconds in"),
        (b"expected_instances = 1.5", "expected_instances in"),
        (b"expected_instances = true", "expected_instances in"),
        (b"fleet = ['redis://h']", "fleet in"),
        (b"fleet = 's3cret'", "must be the URL of a Redis (redis://"),
        (b"fleet = 'https://a redis://b'", "must be the URL of a Redis (redis://"),
        (b"journal = ''", "journal in"),
        (b"journal = 7", "journal in"),
        (b"journal = 2027-01-15", "journal in"),
    ],
)
def test_file_that_can_not_be_used_says_why(tmp_path: Path, content: bytes, why: str) -> None:
    file = tmp_path / "file"
    file.write_bytes(content)
    assert why in refusal(COMPLETE, file)


@pytest.mark.parametrize(
    ("name", "value", "must_be"),
    [
        ("TOKEN_LIFETIME_SECONDS", "1 day", "a number of seconds above 0."),
        ("QUIET_PERIOD_SECONDS", "nan", "a number of seconds above 0."),
        ("EXPECTED_INSTANCES", "0", "an integer of at least 1."),
        ("FLEET", " ", "the URL of a Redis (redis://, rediss://, unix://, redis+sentinel"),
        (
            "FLEET",
            "http:/s3cret",
            "the URL of a Redis (redis://, rediss://, unix://, redis+sentinel",
        ),
    ],
)
def test_variable_that_can_not_be_used_is_named_with_what_to_write(
    name: str, value: str, must_be: str
) -> None:
    why = refusal({**COMPLETE, f"JWKS_GUARD_{name}": value})
    assert why.startswith(f"JWKS_GUARD_{name} must be {must_be}")


def test_files_that_are_not_there_are_named(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    assert f"{nowhere} can't be read: No such file" in refusal(COMPLETE, nowhere)
    environ = {**TENANT, "JWKS_GUARD_CLIENT_SECRET_FILE": str(nowhere)}
    variable = "JWKS_GUARD_CLIENT_SECRET_FILE"
    assert f"{variable}: {nowhere} can't be read: No such file" in refusal(environ)
    environ[variable] = "~no-such-user/secret"
    assert "~no-such-user/secret can't be read: No such file" in refusal(environ)
    environ[variable] = str(nowhere)
    nowhere.write_bytes(b"\xff")
    assert "not ASCII" in refusal(environ)


def test_secret_is_asked_for_only_where_it_is_all_that_is_missing() -> None:
    asked: list[str] = []

    def ask(client_id: str) -> str:
        asked.append(client_id)
        return "typed"

    assert read(TENANT, None, ask).auth == ClientCredentials("id", "typed")
    assert read(COMPLETE, None, ask).auth == ClientCredentials("id", "s3cret")
    with pytest.raises(ConfigurationError, match="CLIENT_ID"):
        read({"JWKS_GUARD_DOMAIN": "acme.eu.auth0.com"}, None, ask)
    assert asked == ["id"]


def test_fleet_is_configured_like_the_rest(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        """
        fleet = "rediss://acme:s3cret@redis.test/0"
        fleet_prefix = "acme"
        issuer = "https://login.acme.test/"
        expected_instances = 4
        quiet_period_seconds = 900
        """,
    )
    over_redis = read(COMPLETE, file)
    assert (over_redis.expected_instances, over_redis.quiet_period) == (4, timedelta(minutes=15))
    fleet = over_redis.fleet()
    assert fleet is not None
    assert (repr(fleet), fleet.issuer) == (
        "RedisFleet(prefix='{acme}')",
        "https://login.acme.test/",
    )
    assert "s3cret" not in repr(over_redis)
    environ = {
        "JWKS_GUARD_FLEET": "https://10.0.0.1/ops https://10.0.0.2/ops",
        "JWKS_GUARD_FLEET_SECRET_FILE": str(tmp_path / "secret"),
        "JWKS_GUARD_EXPECTED_INSTANCES": "2",
    }
    (tmp_path / "secret").write_text("s" * 32 + "\n")
    over_http = read({**COMPLETE, **environ}, file)
    assert over_http.expected_instances == 2
    assert repr(over_http.fleet()) == (
        "HTTPFleet(['https://10.0.0.1/ops', 'https://10.0.0.2/ops'])"
    )


def test_fleet_alone_needs_no_client_and_is_of_the_domain_unless_an_issuer_is_named() -> None:
    environ = {"JWKS_GUARD_FLEET": "redis://h", "JWKS_GUARD_DOMAIN": "acme.eu.auth0.com"}
    assert configured_fleet({}, environ, None).issuer == "https://acme.eu.auth0.com/"
    environ["JWKS_GUARD_ISSUER"] = "https://acme.test/"
    assert configured_fleet({"domain": None}, environ, None).issuer == "https://acme.test/"


@pytest.mark.parametrize("url", ["redis://u:p@h", "redis://:p@h", "unix://h?password=p"])
def test_password_of_the_fleet_that_others_can_read_is_refused(tmp_path: Path, url: str) -> None:
    file = written(tmp_path, f'fleet = "{url}"', 0o640)
    assert refusal(COMPLETE, file).endswith(f"chmod 600 {file}")
    assert url not in refusal(COMPLETE, file)
    assert read(COMPLETE, written(tmp_path, 'fleet = "redis://h"', 0o644)).fleet()


def test_journal_is_kept_in_the_state_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    at_home = tmp_path / ".local/state/jwks-guard/journal.jsonl"
    assert default_journal({}) == at_home
    assert default_journal({"XDG_STATE_HOME": "relative"}) == at_home
    named = default_journal({"XDG_STATE_HOME": "/var/state"})
    assert named == Path("/var/state/jwks-guard/journal.jsonl")


def test_command_reads_the_file_that_an_option_or_the_environment_names(
    tenant: LocalTenant, tmp_path: Path
) -> None:
    file = written(
        tmp_path,
        f'domain = "{tenant.issuer}"\nclient_id = "{tenant.client_id}"\n'
        f'client_secret = "{tenant.client_secret}"\njournal = "kept"',
    )
    assert run(environment(tmp_path), "list", "--config", str(file)).returncode == 0
    by_variable = environment(tmp_path, JWKS_GUARD_CONFIG=str(file))
    assert run(by_variable, "rotate", "--yes").returncode == 0
    assert (tmp_path / "kept").exists()
    readable = written(tmp_path, file.read_text(), 0o644)
    refused = run(by_variable, "list")
    assert refused.returncode == 2
    assert refused.stderr.endswith(f"chmod 600 {readable}\n")
    assert tenant.client_secret not in refused.stderr


def test_command_proves_itself_by_a_key_of_its_own(tmp_path: Path) -> None:
    key = rsa.generate_private_key(65_537, 2048)
    pem = tmp_path / "key.pem"
    pem.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    with LocalTenant(algorithm="ES256", client_public_key=public.decode()) as tenant:
        environ = environment(tmp_path, **of_tenant(tenant))
        del environ["JWKS_GUARD_CLIENT_SECRET"]
        environ["JWKS_GUARD_PRIVATE_KEY_FILE"] = str(pem)
        assert run(environ, "list").returncode == 0


def test_command_asks_for_the_secret_without_showing_it(
    tenant: LocalTenant, tmp_path: Path
) -> None:
    environ = environment(tmp_path)
    options = ("--domain", tenant.issuer, "--client-id", tenant.client_id)
    with terminal(environ, "list", "--json", *options) as asked:
        asked.expect(f"Client secret of {tenant.client_id}: ")
        asked.type(tenant.client_secret + "\n")
        assert asked.status() == 0
    assert tenant.client_secret not in asked.shown
    assert len(json.loads(asked.shown[asked.shown.index("[") :])) == 2


def test_command_without_a_terminal_asks_nothing(tenant: LocalTenant, tmp_path: Path) -> None:
    environ = environment(tmp_path, **of_tenant(tenant))
    del environ["JWKS_GUARD_CLIENT_SECRET"]
    done = run(environ, "list")
    assert (done.returncode, done.stdout) == (2, "")
    assert "set JWKS_GUARD_CLIENT_SECRET" in done.stderr


@pytest.mark.parametrize("domain", ["http://acme.eu.auth0.com", "acme.eu.auth0.com/api", "acme"])
def test_domain_that_can_not_be_one_is_a_usage_error(tmp_path: Path, domain: str) -> None:
    done = run(environment(tmp_path, **COMPLETE), "list", "--domain", domain)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("domain can't be used")
