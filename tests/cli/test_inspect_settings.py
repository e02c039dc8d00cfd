"""`inspect` judges as an API with the same settings does."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jwks_guard import InvalidTokenError, SyncTokenVerifier
from jwks_guard.testing import LocalTenant
from tests.cli.instances_running import over_redis
from tests.cli.keys_running import PROGRAM, environment, run, run_process
from tests.redis_server import RedisServer

INSPECT = (*PROGRAM, "inspect")
ELSEWHERE = "http://127.0.0.1:1/"


@pytest.fixture(scope="module")
def tenant() -> Iterator[LocalTenant]:
    with LocalTenant(algorithm="ES256") as tenant:
        yield tenant


@pytest.fixture
def environ(tenant: LocalTenant, tmp_path: Path) -> dict[str, str]:
    return environment(
        tmp_path, JWKS_GUARD_ISSUER=tenant.issuer, JWKS_GUARD_AUDIENCE=tenant.audience
    )


def marks(shown: str) -> dict[str, str]:
    return {name: mark for mark, name in re.findall(r"(?m)^  (ok|NO|\?\?)  (\S+)", shown)}


def test_issuer_and_audience_of_the_environment_are_enough(
    tenant: LocalTenant, environ: dict[str, str]
) -> None:
    done = run(environ, tenant.token(), command=INSPECT)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1].startswith("Valid. ")


def test_file_of_the_api_is_enough(tenant: LocalTenant, tmp_path: Path) -> None:
    settings = tmp_path / "guard.toml"
    settings.write_text(
        f'issuer = "https://issuer.test"\njwks_uri = "{tenant.jwks_uri}"\n'
        f'audience = ["https://one.test", "https://two.test"]\nalgorithms = ["ES256"]\n'
    )
    token = tenant.token(claims={"iss": "https://issuer.test", "aud": "https://two.test"})
    for words in (("--config", str(settings)), ()):
        environ = environment(tmp_path, JWKS_GUARD_CONFIG="" if words else str(settings))
        assert run(environ, token, *words, command=INSPECT).returncode == 0


def test_options_win_over_the_environment(tenant: LocalTenant, environ: dict[str, str]) -> None:
    environ |= {"JWKS_GUARD_AUDIENCE": "https://other.test", "JWKS_GUARD_ALGORITHMS": "RS256"}
    assert marks(run(environ, tenant.token(), command=INSPECT).stdout)["aud"] == "NO"
    options = ("--audience", tenant.audience, "--algorithm", "ES256")
    assert run(environ, tenant.token(), *options, command=INSPECT).returncode == 0


def test_issuer_on_the_line_is_not_asked_at_the_key_set_of_another(
    tenant: LocalTenant, environ: dict[str, str]
) -> None:
    environ |= {"JWKS_GUARD_ISSUER": ELSEWHERE, "JWKS_GUARD_JWKS_URI": f"{ELSEWHERE}keys"}
    assert run(environ, tenant.token(), "--issuer", tenant.issuer, command=INSPECT).returncode == 0


@pytest.mark.parametrize(
    ("variables", "claims", "faulty"),
    [
        ({"LEEWAY": "0"}, {"nbf_ahead": 3}, {"nbf"}),
        ({"REQUIRED_CLAIMS": "exp email"}, {}, {"email"}),
        ({"REQUIRED_CLAIMS": "exp nbf azp"}, {"azp": "console", "nbf_ahead": -9}, set()),
        ({"MAX_TOKEN_AGE": "60"}, {"iat_ahead": -3600}, {"iat"}),
        ({"CLIENT_IDS": "console batch"}, {"azp": "console"}, set()),
        ({"CLIENT_IDS": "console batch"}, {"azp": "mallory", "client_id": "batch"}, {"azp"}),
        ({"CLIENT_IDS": "console"}, {"azp": None, "client_id": None}, {"client_id"}),
        ({"TOKEN_TYPES": "at+jwt"}, {}, {"typ"}),
        ({"MAX_TOKEN_BYTES": "100000"}, {"pad": "x" * 20_000}, set()),
        ({}, {"cnf": {"jkt": "thumbprint"}}, {"cnf"}),
        ({"BINDINGS": "checked upstream"}, {"cnf": {"jkt": "thumbprint"}}, set()),
    ],
)
def test_every_rule_of_the_settings_is_told_apart_and_the_api_agrees(
    tenant: LocalTenant,
    environ: dict[str, str],
    variables: dict[str, str],
    claims: dict[str, Any],
    faulty: set[str],
) -> None:
    environ |= {f"JWKS_GUARD_{name}": value for name, value in variables.items()}
    now = int(time.time())
    made = {
        name.removesuffix("_ahead"): now + value if name.endswith("_ahead") else value
        for name, value in claims.items()
    }
    token = tenant.token(claims=made)
    done = run(environ, token, command=INSPECT)
    assert {name for name, mark in marks(done.stdout).items() if mark == "NO"} == faulty
    assert done.returncode == (1 if faulty else 0)
    with SyncTokenVerifier.from_env(environ) as verifier:
        if faulty:
            with pytest.raises(InvalidTokenError) as refused:
                verifier.verify(token)
            assert done.stdout.splitlines()[-1] == (
                f"Not valid ({refused.value.code}): {refused.value}"
            )
        else:
            assert (verifier.verify(token)).kid == tenant.key().kid


def test_audience_that_is_not_set_is_named_and_the_content_shown(
    tenant: LocalTenant, environ: dict[str, str]
) -> None:
    environ["JWKS_GUARD_AUDIENCE"] = ""
    done = run(environ, tenant.token(), command=INSPECT)
    last = done.stdout.splitlines()[-1]
    assert done.returncode == 1
    assert last.startswith("Not verified: add --audience (or JWKS_GUARD_AUDIENCE) to check")


def test_misspelt_setting_is_an_error_as_for_every_command(
    tenant: LocalTenant, environ: dict[str, str]
) -> None:
    environ["JWKS_GUARD_AUDIENSE"] = "x"
    done = run(environ, tenant.token(), command=INSPECT)
    assert done.returncode == 2
    assert "JWKS_GUARD_AUDIENSE is no setting" in done.stderr


def test_key_that_the_fleet_distrusts_is_not_called_valid(
    redis: RedisServer, tenant: LocalTenant, environ: dict[str, str]
) -> None:
    environ["JWKS_GUARD_FLEET"] = redis.url
    with over_redis(tenant, redis) as instance:
        token = tenant.token()
        assert run_process(environ, token, command=INSPECT).returncode == 0
        instance.distrust(tenant.key().kid, reason="it has leaked", force=True)
        done = run_process(environ, token, command=INSPECT)
        assert (done.returncode, done.stderr) == (1, "")
        assert "distrusted" in done.stdout.splitlines()[-1]
        with redis.client() as client:
            assert client.zcard("{jwks-guard}:instances") == 1  # it took no part


def test_fleet_that_can_not_be_asked_leaves_the_verdict_open(
    tenant: LocalTenant, environ: dict[str, str]
) -> None:
    environ["JWKS_GUARD_FLEET"] = "redis://127.0.0.1:1/0"
    done = run(environ, tenant.token(), command=INSPECT)
    assert done.returncode == 3
    assert done.stdout.splitlines()[-1].startswith("Unknown (")
    assert marks(done.stdout)["signature"] == "ok"


def test_snapshot_of_the_api_is_left_alone(
    tenant: LocalTenant, environ: dict[str, str], tmp_path: Path
) -> None:
    environ["JWKS_GUARD_SNAPSHOT_PATH"] = str(tmp_path / "snapshot")
    assert run(environ, tenant.token(), command=INSPECT).returncode == 0
    assert not list(tmp_path.glob("snapshot*"))
