"""A command whose environment keeps it from asking ends with status 3 and names the variable."""

from __future__ import annotations

from pathlib import Path

import pytest

from jwks_guard.cli.configuration import configured_fleet
from jwks_guard.fleet import RedisFleet
from tests.cli.keys_running import PROGRAM, environment, run

TOKEN = {"JWKS_GUARD_DOMAIN": "tenant.test", "JWKS_GUARD_TOKEN": "token"}
REDIS = {"JWKS_GUARD_FLEET": "rediss://10.0.0.1", "JWKS_GUARD_ISSUER": "https://tenant.test/"}
INSPECT = ("--issuer", "https://tenant.test/", "--audience", "api", "e30.e30.e30")


@pytest.mark.parametrize(
    ("command", "settings"),
    [
        (("keys", "list"), TOKEN),
        (("keys", "rotate", "--yes"), TOKEN),
        (("can-revoke", "kid"), TOKEN),
        (("watch", "--once"), REDIS),
        (("inspect", *INSPECT), {}),
    ],
    ids=lambda each: each[0] if isinstance(each, tuple) else "",
)
def test_variable_that_can_not_be_used_ends_with_status_3_and_its_name(
    tmp_path: Path, command: tuple[str, ...], settings: dict[str, str]
) -> None:
    environ = environment(tmp_path, **settings, SSL_CERT_FILE="/nowhere/ca.pem")
    done = run(environ, *command, command=PROGRAM)
    told = done.stdout + done.stderr
    assert done.returncode == 3
    assert "SSL_CERT_FILE" in told
    assert "/nowhere/ca.pem" in told
    assert "Traceback" not in told


def test_fleet_file_that_is_missing_is_a_wrong_setting(tmp_path: Path) -> None:
    url = "rediss://10.0.0.1?ssl_ca_certs=/nowhere/ca.pem"
    environ = environment(tmp_path, **{**REDIS, "JWKS_GUARD_FLEET": url})
    done = run(environ, "--once", command=(*PROGRAM, "watch"))
    assert done.returncode == 2
    assert "ssl_ca_certs" in done.stderr


@pytest.mark.parametrize(
    "url", ["redis+sentinel://10.0.0.1,10.0.0.2:26380/mymaster/0", "redis://10.0.0.1,10.0.0.2"]
)
def test_sentinels_and_lists_of_nodes_are_taken_as_a_fleet(tmp_path: Path, url: str) -> None:
    environ = environment(tmp_path, **{**REDIS, "JWKS_GUARD_FLEET": url})
    fleet = configured_fleet({}, environ, None)
    assert isinstance(fleet, RedisFleet)
