from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from jwks_guard.cli.configuration import configured_fleet
from jwks_guard.testing import LocalTenant
from tests.fleet.instances import eventually, fleet_of, instance
from tests.redis_server import RedisServer

SECRET, OLD = "a secret of the fleet", "the secret before that"


@pytest.fixture
def tenant() -> Iterator[LocalTenant]:
    with LocalTenant(in_process=True, algorithm="ES256") as tenant:
        tenant.rotate()
        yield tenant


@pytest.mark.parametrize("content", [SECRET, f"{SECRET}\n{OLD}\n"])
async def test_command_signs_what_it_decides_with_the_secrets_in_the_file(
    tenant: LocalTenant, redis: RedisServer, tmp_path: Path, content: str
) -> None:
    file = tmp_path / "secret"
    file.write_text(content)
    kid = tenant.key("previous").kid
    async with instance(tenant, fleet_of(redis, secret=SECRET)) as verifier:
        environ = {
            "JWKS_GUARD_ISSUER": tenant.issuer,
            "JWKS_GUARD_FLEET": redis.url,
            "JWKS_GUARD_FLEET_SECRET_FILE": str(file),
        }
        command = configured_fleet({}, environ, None)
        (refusal,) = await command.distrust(kid, reason="leaked")
        assert refusal.error is None
        assert kid in verifier.distrusted
        await command.reinstate(kid, reason="false alarm")
        await eventually(lambda: kid not in verifier.distrusted)
        await command.aclose()
