"""Verifiers of the environment and of a file: as those made in code, or an error that names why."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from jwks_guard import (
    ConfigurationError,
    EnvironmentVariableError,
    KeyStore,
    SyncTokenVerifier,
    TokenVerifier,
)
from jwks_guard.base.settings import VerifierSettings
from jwks_guard.fleet import HTTPFleet, RedisFleet
from jwks_guard.testing import LocalTenant
from tests.fleet.instances import eventually, fleet_of, instance
from tests.process.programs import run_to_end
from tests.redis_server import RedisServer
from tests.redis_server import redis as redis
from tests.redis_server import running_redis as running_redis

ISSUER, AUDIENCE = "https://issuer.test/", "https://api.test"
ENOUGH = {"JWKS_GUARD_ISSUER": ISSUER, "JWKS_GUARD_AUDIENCE": AUDIENCE}
SECRET = "s3cret-of-16-chars-and-more"
WITHOUT_REDIS = """
import sys
sys.modules["redis"] = None
from jwks_guard import ConfigurationError, TokenVerifier
names = {"ISSUER": "https://a.test/", "AUDIENCE": "api", "FLEET": "redis://10.0.0.1"}
try:
    TokenVerifier.from_env({f"JWKS_GUARD_{name}": text for name, text in names.items()})
except ConfigurationError as error:
    print(error)
"""
Make = Callable[..., TokenVerifier | SyncTokenVerifier]
VALUES: dict[str, tuple[str, object]] = {
    "audience": ("https://a.test https://b.test", ["https://a.test", "https://b.test"]),
    "client_ids": ("app-1 app-2", ["app-1", "app-2"]),
    "jwks_uri": ("https://keys.test/jwks", "https://keys.test/jwks"),
    "allow_http": ("keycloak", ["keycloak"]),
    "algorithms": ("RS256 ES256", ["RS256", "ES256"]),
    "leeway": ("0", 0.0),
    "required_claims": ("exp sub", ["exp", "sub"]),
    "max_token_age": ("3600", 3600.0),
    "token_types": ("at+jwt", ["at+jwt"]),
    "bindings": ("checked upstream", "checked upstream"),
    "refresh_interval": ("7.5", 7.5),
    "max_stale": ("600", 600.0),
    "max_upstream_age": ("0", 0.0),
    "fetch_timeout": ("10", 10.0),
    "max_wait": ("0.5", 0.5),
    "token_cache_size": ("0", 0),
    "token_cache_bytes": ("1000000", 1_000_000),
    "max_token_bytes": ("4096", 4096),
    "max_jwks_bytes": ("100000", 100_000),
    "snapshot_path": ("/var/keys.json", Path("/var/keys.json")),
    "background": ("false", False),
    "fast_rsa": ("false", False),
}
"""For each setting a text of the environment, and the value that it is in code."""


def variable(name: str) -> str:
    return f"JWKS_GUARD_{name.upper()}"


def written(folder: Path, *, mode: int = 0o600, **settings: object) -> Path:
    """A TOML file of these settings; strings, numbers, flags and lists are written as in JSON."""
    path = folder / "jwks-guard.toml"
    lines = (f"{name} = {json.dumps(value)}\n" for name, value in settings.items())
    path.write_text("".join(lines))
    path.chmod(mode)
    return path


def same(one: TokenVerifier | SyncTokenVerifier, other: TokenVerifier) -> bool:
    inner = one._verifier if isinstance(one, SyncTokenVerifier) else one
    return inner.has_arguments_of(other)


def refusal(make: Callable[..., object], *arguments: Any, **options: Any) -> str:
    with pytest.raises(ConfigurationError) as refused:
        make(*arguments, **options)
    assert "s3cret" not in str(refused.value)
    return str(refused.value)


# --- the same verifier as in code ---


@pytest.mark.parametrize("name", VALUES)
def test_variable_is_the_argument_of_its_name(name: str) -> None:
    text, value = VALUES[name]
    verifier = TokenVerifier.from_env({**ENOUGH, variable(name): text})
    arguments: dict[str, Any] = {"issuer": ISSUER, "audience": [AUDIENCE], name: value}
    assert verifier.has_arguments_of(TokenVerifier(**arguments))


@pytest.mark.parametrize("name", VALUES)
def test_name_in_a_file_is_the_argument_of_its_name(name: str, tmp_path: Path) -> None:
    _, value = VALUES[name]
    arguments: dict[str, Any] = {"issuer": ISSUER, "audience": [AUDIENCE], name: value}
    file = written(
        tmp_path, **{**arguments, name: str(value) if isinstance(value, Path) else value}
    )
    made = TokenVerifier(**arguments)
    assert TokenVerifier.from_file(file, {}).has_arguments_of(made)


def test_every_argument_that_is_a_value_can_be_set() -> None:
    assert {*VALUES} == {*VerifierSettings.__annotations__, "jwks_uri"}


@pytest.mark.parametrize("make", [TokenVerifier.from_env, SyncTokenVerifier.from_env])
def test_domain_is_that_of_for_auth0(make: Make) -> None:
    auth0 = TokenVerifier.for_auth0("acme.eu.auth0.com", audience=[AUDIENCE])
    environ = {"JWKS_GUARD_DOMAIN": "acme.eu.auth0.com", "JWKS_GUARD_AUDIENCE": AUDIENCE}
    assert same(make(environ), auth0)
    custom = {**environ, "JWKS_GUARD_ISSUER": ISSUER}  # of a custom domain, as for the command
    assert same(make(custom), TokenVerifier(ISSUER, [AUDIENCE]))


@pytest.mark.parametrize("text", ["true", "1", "false", "0"])
def test_flags_are_written_in_four_ways(text: str) -> None:
    verifier = TokenVerifier.from_env({**ENOUGH, "JWKS_GUARD_BACKGROUND": text})
    background = text in ("true", "1")
    assert verifier.has_arguments_of(TokenVerifier(ISSUER, [AUDIENCE], background=background))


def test_environment_of_the_process_is_read_where_none_is_given(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, text in ENOUGH.items():
        monkeypatch.setenv(name, text)
    made = TokenVerifier(ISSUER, [AUDIENCE])
    for verifier in (TokenVerifier.from_env(), SyncTokenVerifier.from_env()):
        assert same(verifier, made)
    file = written(tmp_path, leeway=1)
    for verifier in (TokenVerifier.from_file(file), SyncTokenVerifier.from_file(file)):
        assert same(verifier, TokenVerifier(ISSUER, [AUDIENCE], leeway=1.0))


# --- what wins ---


def test_keyword_wins_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    file = written(tmp_path, issuer="https://file.test/", audience=AUDIENCE, leeway=1, max_wait=1)
    environ = {"JWKS_GUARD_ISSUER": ISSUER, "JWKS_GUARD_LEEWAY": "2", "JWKS_GUARD_MAX_WAIT": ""}
    made = TokenVerifier.from_file(file, environ, leeway=3.0)
    expected = TokenVerifier(ISSUER, [AUDIENCE], leeway=3.0, max_wait=1.0)
    assert made.has_arguments_of(expected)
    by_variable = {**environ, "JWKS_GUARD_CONFIG": str(file)}
    assert TokenVerifier.from_env(by_variable, leeway=3.0).has_arguments_of(expected)
    elsewhere = {**environ, "JWKS_GUARD_CONFIG": "/nowhere"}
    assert TokenVerifier.from_file(file, elsewhere, leeway=3.0).has_arguments_of(expected)


def test_what_is_no_value_is_given_in_code() -> None:
    client, listener = httpx.AsyncClient(), print
    made = TokenVerifier.from_env(ENOUGH, http_client=client, on_event=listener)
    expected = TokenVerifier(ISSUER, [AUDIENCE], http_client=client, on_event=listener)
    assert made.has_arguments_of(expected)
    store = KeyStore(ISSUER)
    assert TokenVerifier.from_env(ENOUGH, keys=store).keys is store
    interval = {**ENOUGH, "JWKS_GUARD_REFRESH_INTERVAL": "30"}
    why = refusal(TokenVerifier.from_env, interval, keys=store)
    assert why.startswith("JWKS_GUARD_REFRESH_INTERVAL must be given to the KeyStore")


def test_issuer_without_aud_in_its_tokens_is_accepted_only_where_the_code_says_so() -> None:
    environ = {"JWKS_GUARD_ISSUER": ISSUER, "JWKS_GUARD_CLIENT_IDS": "app-1"}
    assert "JWKS_GUARD_AUDIENCE" in refusal(TokenVerifier.from_env, environ)
    expected = TokenVerifier(ISSUER, None, client_ids=["app-1"])
    assert TokenVerifier.from_env(environ, audience=None).has_arguments_of(expected)


def test_error_about_a_keyword_names_no_variable() -> None:
    environ = {**ENOUGH, "JWKS_GUARD_LEEWAY": "1"}
    assert refusal(TokenVerifier.from_env, environ, leeway=-1).startswith("leeway must be")


def test_relative_path_starts_from_the_file_and_that_of_a_variable_from_here(
    tmp_path: Path,
) -> None:
    file = written(tmp_path, snapshot_path="keys.json")
    made = TokenVerifier.from_file(file, ENOUGH)
    in_folder = tmp_path / "keys.json"
    assert made.has_arguments_of(TokenVerifier(ISSUER, [AUDIENCE], snapshot_path=in_folder))
    environ = {**ENOUGH, "JWKS_GUARD_SNAPSHOT_PATH": "keys.json"}
    here = Path("keys.json")
    made = TokenVerifier.from_env(environ)
    assert made.has_arguments_of(TokenVerifier(ISSUER, [AUDIENCE], snapshot_path=here))


# --- what can't be used ---


@pytest.mark.parametrize(
    ("name", "must_be", "texts"),
    [
        *(
            (name, "a number of seconds of at least 0", ["abc", "nan", "inf", "-1", " ", " 5"])
            for name in ("leeway", "max_upstream_age")
        ),
        *(
            (name, "a number of seconds above 0", ["abc", "nan", "1e11", "-1", "0", "null"])
            for name in ("max_token_age", "refresh_interval", "max_stale", "max_wait")
        ),
        ("token_cache_size", "an integer of at least 0", ["-1", "1.5", "many", "9" * 5000]),
        *(
            (name, "an integer of at least 1", ["0", "1.5", "1_000", "true"])
            for name in ("token_cache_bytes", "max_token_bytes", "max_jwks_bytes")
        ),
        ("background", "true or false", ["yes", "off", "2", " ", "\udcff"]),
        *(
            (
                name,
                "one or more texts with spaces and no commas",
                [" ", "\t", "\n", "a, b", "a ,b", "a,b", ",a", "a,", ","],
            )
            for name in ("audience", "client_ids", "allow_http", "required_claims", "token_types")
        ),
        ("algorithms", "one or more of ES256 ES384 ", ["s3cret", "HS256", "none", "RS256,ES256"]),
        *(
            (name, "one or more claims of ID tokens as name=value", ["a", "a=b, c=d", "a=b ,c=d"])
            for name in ("console_operators", "console_viewers")
        ),
        ("bindings", "'refuse' or 'checked upstream'", ["s3cret", "accept"]),
        ("issuer", "a string, exactly as in the tokens' `iss`", ["https://a.test/\n"]),
        ("issuer", "a non-empty string", ["\udcff"]),
        ("snapshot_path", "the path of a file", ["\udcff"]),
        ("fleet", "the URL of a Redis (redis://", ["s3cret", "http:/s3cret", " "]),
    ],
)
def test_variable_that_can_not_be_used_is_named_with_what_it_must_be(
    name: str, must_be: str, texts: list[str]
) -> None:
    for text in texts:
        for make in (TokenVerifier.from_env, SyncTokenVerifier.from_env):
            why = refusal(make, {**ENOUGH, variable(name): text})
            assert why.startswith(f"{variable(name)} must be {must_be}")


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("issuer", "http://s3cret.test/", "can't be used for discovery"),
        ("jwks_uri", "https://u:s3cret@a.test/", "can't be used"),
        ("allow_http", "s3cret:80", "must be a list of host names"),
        ("max_stale", "1", "must be at least refresh_interval"),
    ],
)
def test_error_of_the_argument_names_the_variable(name: str, text: str, why: str) -> None:
    assert refusal(TokenVerifier.from_env, {**ENOUGH, variable(name): text}).startswith(
        f"{variable(name)} {why}"
    )


def test_variable_of_http_clients_that_can_not_be_used_keeps_its_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/ca.pem")
    with pytest.raises(EnvironmentVariableError, match="SSL_CERT_FILE"):
        TokenVerifier.from_env(ENOUGH)


def test_domain_that_is_none_is_named() -> None:
    environ = {"JWKS_GUARD_DOMAIN": "s3cret", "JWKS_GUARD_AUDIENCE": AUDIENCE}
    why = refusal(TokenVerifier.from_env, environ)
    assert why.startswith("JWKS_GUARD_DOMAIN must be the tenant's or custom domain's host name")


@pytest.mark.parametrize(
    ("line", "must_be"),
    [
        ("leeway = '5'", "a number of seconds of at least 0."),
        ("leeway = true", "a number of seconds of at least 0."),
        ("max_wait = 0", "a number of seconds above 0."),
        ("token_cache_size = 1.5", "an integer of at least 0."),
        ("background = 1", "true or false."),
        ("background = 'true'", "true or false."),
        ("algorithms = ['RS256', 7]", "one or more of "),
        ("algorithms = {RS256 = 1}", "one or more of "),
        ("required_claims = []", "one or more texts"),
        ("client_ids = ['app-1', '']", "one or more texts"),
        ("audience = [[]]", "one or more texts"),
        ("issuer = ['s3cret']", "a non-empty string."),
        ("snapshot_path = ''", "the path of a file."),
        ('snapshot_path = "a\\u0000b"', "the path of a file."),
        ("snapshot_path = 7", "the path of a file."),
    ],
)
def test_value_in_a_file_that_can_not_be_used_is_named_with_what_it_must_be(
    tmp_path: Path, line: str, must_be: str
) -> None:
    file = tmp_path / "jwks-guard.toml"
    file.write_text(line)
    name = line.partition(" ")[0]
    why = refusal(TokenVerifier.from_file, file, ENOUGH)
    assert why.startswith(f"{name} in {file} must be {must_be}")


def test_list_in_a_file_may_be_a_string_as_in_the_environment(tmp_path: Path) -> None:
    file = written(tmp_path, issuer=ISSUER, audience="https://a.test https://b.test")
    expected = TokenVerifier(ISSUER, ["https://a.test", "https://b.test"])
    assert TokenVerifier.from_file(file, {}).has_arguments_of(expected)


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({}, "set JWKS_GUARD_ISSUER (or JWKS_GUARD_DOMAIN) and JWKS_GUARD_AUDIENCE,"),
        ({"JWKS_GUARD_ISSUER": ISSUER}, "set JWKS_GUARD_AUDIENCE,"),
        ({"JWKS_GUARD_ISSUER": ISSUER, "JWKS_GUARD_AUDIENCE": ""}, "set JWKS_GUARD_AUDIENCE,"),
        ({"JWKS_GUARD_AUDIENCE": AUDIENCE}, "set JWKS_GUARD_ISSUER (or JWKS_GUARD_DOMAIN),"),
    ],
)
def test_what_is_missing_is_named(environ: dict[str, str], named: str) -> None:
    for make in (TokenVerifier.from_env, SyncTokenVerifier.from_env):
        said = refusal(make, environ)
        assert said.startswith(f"Not configured: {named}")
        assert ("without `aud`" in said) is ("_AUDIENCE," in named)


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("AUDIANCE", "did you mean JWKS_GUARD_AUDIENCE?"),
        ("MAX_STALENESS", "did you mean JWKS_GUARD_MAX_STALE?"),
        ("audience", "did you mean JWKS_GUARD_AUDIENCE?"),
        ("ALGORITHM", "did you mean JWKS_GUARD_ALGORITHMS?"),
        ("ZZZ", "correct its name, or remove it."),
    ],
)
def test_variable_of_an_unknown_name_is_refused_with_the_nearest_one(
    name: str, instead: str
) -> None:
    why = refusal(TokenVerifier.from_env, {**ENOUGH, f"JWKS_GUARD_{name}": "s3cret"})
    assert why == f"JWKS_GUARD_{name} is no setting: {instead}"
    assert TokenVerifier.from_env({**ENOUGH, f"JWKS_GUARD_{name}": ""}).issuer == ISSUER


def test_variables_that_kubernetes_makes_of_a_service_are_no_settings() -> None:
    made = {
        "JWKS_GUARD_SERVICE_HOST": "10.0.0.1",
        "JWKS_GUARD_SERVICE_PORT": "443",
        "JWKS_GUARD_SERVICE_PORT_HTTPS": "443",
        "JWKS_GUARD_PORT": "tcp://10.0.0.1:443",
        "JWKS_GUARD_PORT_443_TCP": "tcp://10.0.0.1:443",
        "JWKS_GUARD_PORT_443_TCP_ADDR": "10.0.0.1",
        "JWKS_GUARD_CONSOLE_SERVICE_HOST": "10.0.0.2",
        "JWKS_GUARD_CONSOLE_PORT": "tcp://10.0.0.2:443",
    }
    assert TokenVerifier.from_env({**ENOUGH, **made}).issuer == ISSUER


@pytest.mark.parametrize(
    ("name", "near"), [("audiance", "audience"), ("LEEWAY", None), ("token", "token_file")]
)
def test_name_in_a_file_that_is_unknown_is_refused_with_the_nearest_one(
    tmp_path: Path, name: str, near: str | None
) -> None:
    file = tmp_path / "jwks-guard.toml"
    file.write_text(f'{name} = "s3cret"')
    why = refusal(TokenVerifier.from_file, file, ENOUGH)
    assert why.startswith(f"{name} in {file} is no setting: ")
    assert why.endswith(f"did you mean {near}?") is (near is not None)


def test_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    assert f"{nowhere} can't be read" in refusal(TokenVerifier.from_file, nowhere, ENOUGH)
    environ = {**ENOUGH, "JWKS_GUARD_CONFIG": str(nowhere)}
    assert f"{nowhere} can't be read" in refusal(SyncTokenVerifier.from_env, environ)


# --- one file for the command and the server ---


def test_command_and_server_share_one_file(tmp_path: Path) -> None:
    from jwks_guard.cli.configuration import configured

    file = written(
        tmp_path,
        domain="acme.eu.auth0.com",
        audience=[AUDIENCE],
        leeway=2,
        client_id="id",
        client_secret=SECRET,
        management_audience="https://acme.eu.auth0.com/api/v2/",
    )
    made = TokenVerifier.from_file(file, {})
    expected = TokenVerifier.for_auth0("acme.eu.auth0.com", audience=[AUDIENCE], leeway=2.0)
    assert made.has_arguments_of(expected)
    auth: Any = configured({}, {}, file, None).auth
    assert auth.audience == "https://acme.eu.auth0.com/api/v2/"


def test_secret_in_a_file_that_others_can_read_is_refused_by_the_server_too(
    tmp_path: Path,
) -> None:
    file = written(tmp_path, mode=0o644, client_secret=SECRET)
    assert refusal(TokenVerifier.from_file, file, ENOUGH).endswith(f"chmod 600 {file}")


def test_command_refuses_a_variable_of_an_unknown_name_as_well() -> None:
    from jwks_guard.cli.configuration import configured_fleet

    environ = {"JWKS_GUARD_ISSUER": ISSUER, "JWKS_GUARD_FLEAT": "redis://h"}
    assert "did you mean JWKS_GUARD_FLEET?" in refusal(configured_fleet, {}, environ, None)


# --- the fleet ---


async def test_verifier_of_the_environment_shares_decisions_through_redis(
    redis: RedisServer, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    with LocalTenant(in_process=True, algorithm="ES256") as tenant:
        tenant.rotate()
        environ = {
            "JWKS_GUARD_ISSUER": tenant.issuer,
            "JWKS_GUARD_AUDIENCE": tenant.audience,
            "JWKS_GUARD_FLEET": redis.url,
            "JWKS_GUARD_FLEET_SECRET_FILE": str(tmp_path / "secret"),
            "JWKS_GUARD_FLEET_PREFIX": "acme",
        }
        client = httpx.AsyncClient(transport=tenant.transport)
        kid = tenant.key("previous").kid
        other = fleet_of(redis, secret=SECRET, prefix="acme")
        async with (
            instance(tenant, other) as elsewhere,
            TokenVerifier.from_env(environ, http_client=client) as verifier,
        ):
            await elsewhere.distrust(kid, reason="leaked")
            await eventually(lambda: kid in verifier.distrusted)
            await elsewhere.reinstate(kid, reason="false alarm")
            await eventually(lambda: kid not in verifier.distrusted)


def fleet(environ: Mapping[str, str], **options: Any) -> object:
    return TokenVerifier.from_env({**ENOUGH, **environ}, **options).keys.fleet


def test_urls_of_instances_are_a_fleet_over_http(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    urls = {"JWKS_GUARD_FLEET": "https://10.0.0.1/ops https://10.0.0.2/ops"}
    why = refusal(fleet, urls)
    assert why == "A fleet over HTTP needs JWKS_GUARD_FLEET_SECRET_FILE."
    environ = {**urls, "JWKS_GUARD_FLEET_SECRET_FILE": str(tmp_path / "secret")}
    assert isinstance(fleet(environ), HTTPFleet)


def test_secret_without_its_fleet_is_refused(tmp_path: Path) -> None:
    environ = {"JWKS_GUARD_FLEET": "", "JWKS_GUARD_FLEET_SECRET_FILE": str(tmp_path / "secret")}
    why = refusal(fleet, environ)
    assert why.startswith("JWKS_GUARD_FLEET_SECRET_FILE is set without JWKS_GUARD_FLEET")
    given = RedisFleet("redis://10.0.0.1")
    assert fleet(environ, fleet=given) is given


def test_fleet_over_redis_without_its_extra_says_what_to_install() -> None:
    done = run_to_end([sys.executable, "-c", WITHOUT_REDIS])
    assert done.stdout == "A fleet over Redis needs redis-py: pip install 'jwks-guard[redis]'.\n"


def test_fleet_in_code_wins_and_none_is_none() -> None:
    environ = {"JWKS_GUARD_FLEET": "redis://10.0.0.1"}
    assert isinstance(fleet(environ), RedisFleet)
    given = RedisFleet("redis://10.0.0.2")
    assert fleet(environ, fleet=given) is given
    assert fleet(environ, fleet=None) is None
    assert fleet({}) is None


@pytest.mark.parametrize(
    ("url", "secret", "why"),
    [
        ("redis://u:s3cret@h:port", None, "JWKS_GUARD_FLEET must be a Redis URL"),
        ("redis://h?s3cret=1", None, "JWKS_GUARD_FLEET has an option that is not allowed"),
        ("http://s3cret.test", SECRET, "JWKS_GUARD_FLEET holds one that can't be used"),
        ("https://h/ops", "s3cret", "JWKS_GUARD_FLEET_SECRET_FILE must be a string of 16 "),
        ("redis://h", "s3cret", "JWKS_GUARD_FLEET_SECRET_FILE must be a string of 16 "),
        ("redis://h", "\xff", "JWKS_GUARD_FLEET_SECRET_FILE: "),
    ],
)
def test_fleet_that_can_not_be_used_is_named(
    tmp_path: Path, url: str, secret: str | None, why: str
) -> None:
    environ = {"JWKS_GUARD_FLEET": url}
    if secret is not None:
        (tmp_path / "file").write_text(secret)
        environ["JWKS_GUARD_FLEET_SECRET_FILE"] = str(tmp_path / "file")
    assert refusal(fleet, environ).startswith(why)


def test_fleet_of_a_file_is_named_once(tmp_path: Path) -> None:
    file = written(tmp_path, fleet="redis://h?other=1")
    why = refusal(TokenVerifier.from_file, file, ENOUGH)
    assert why.startswith(f"fleet in {file} has an option that is not allowed")


def test_password_in_the_fleet_of_a_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    file = written(tmp_path, mode=0o640, fleet="redis://u:s3cret@h")
    assert refusal(TokenVerifier.from_file, file, ENOUGH).endswith(f"chmod 600 {file}")
