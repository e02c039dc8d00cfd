"""What a real uvicorn writes to standard error, by default and as docs/logging.md sets it up."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from jwks_guard.testing import LocalTenant
from tests.process.programs import server

PAGE = (Path(__file__).parents[2] / "docs" / "logging.md").read_text()
(SETUP,) = re.findall(r"(?ms)^```python\n(.*?)^```$", PAGE)


def written(capfd: pytest.CaptureFixture[str], tenant: LocalTenant, **environment: str) -> str:
    """Standard error of a run with a refused token, an outage, and a key that is distrusted."""
    environment |= {"ISSUER": tenant.issuer, "AUDIENCE": tenant.audience}
    tenant.rotate()  # the first key, which is distrusted, is not the only one
    arguments = ("-m", "uvicorn", "tests.process.apps.logged:app")
    with server(*arguments, bind="--fd={}", **environment) as client:
        stale = tenant.token(claims={"exp": 1})
        assert client.get("/", headers={"Authorization": f"Bearer {stale}"}).status_code == 401
        for _ in range(2):
            tenant.faults.status(503)
            assert client.get("/public/refresh").text == "failed"
            assert client.get("/public/refresh").text == "failed"
            tenant.faults.clear()
            assert client.get("/public/refresh").text == "refreshed"
        kid = tenant.signing_keys[0].kid
        assert client.get(f"/public/distrust/{kid}").text == "done"
    return capfd.readouterr().err


def ours(kind: str, tenant: LocalTenant, rest: str) -> str:
    return f"{kind} issuer={tenant.issuer} {rest}"


@pytest.fixture
def tenant() -> Any:
    with LocalTenant(algorithm="ES256") as local:
        yield local


def loud(tenant: LocalTenant) -> list[str]:
    kid = tenant.signing_keys[0].kid
    return [
        ours("refresh_failed", tenant, "the server answered 503"),
        ours("refresh_recovered", tenant, "the keys are confirmed again"),
        ours("key_distrusted", tenant, f"kid='{kid}' leaked"),
        ours("key_reinstated", tenant, f"kid='{kid}' a rehearsal"),
    ]


def test_uvicorn_shows_outage_and_distrust_with_their_ends_by_default(
    capfd: pytest.CaptureFixture[str], tenant: LocalTenant
) -> None:
    lines = written(capfd, tenant).splitlines()
    assert [line for line in lines if not line.startswith("INFO:  ")] == loud(tenant)


def test_basic_config_adds_the_start_the_keys_and_the_summary(
    capfd: pytest.CaptureFixture[str], tenant: LocalTenant, tmp_path: Path
) -> None:
    setup = tmp_path / "setup.py"
    setup.write_text("import logging\n\nlogging.basicConfig(level='INFO')\n")
    lines = written(capfd, tenant, LOGGING=str(setup)).splitlines()
    said = [line.partition(":jwks_guard:")[2] for line in lines if ":jwks_guard:" in line]
    kids = sorted(key.kid for key in tenant.signing_keys)
    assert said[: len(kids)] == [f"key_added issuer={tenant.issuer} kid='{kid}'" for kid in kids]
    started, *others, summary = said[len(kids) :]
    assert started.startswith(ours("started", tenant, f"{len(kids)} keys: "))
    assert others == loud(tenant)
    assert re.fullmatch(
        re.escape(ours("refusal_summary", tenant, "refused 1 token in the last "))
        + r"\d+ s: token_expired 1",
        summary,
    )
    assert sum(line.startswith("INFO:httpx:") for line in lines) >= 1, "the page says so"


def test_json_lines_of_the_page_carry_the_fields(
    capfd: pytest.CaptureFixture[str], tenant: LocalTenant, tmp_path: Path
) -> None:
    setup = tmp_path / "setup.py"
    setup.write_text(SETUP)
    lines = written(capfd, tenant, LOGGING=str(setup)).splitlines()
    records = [json.loads(line) for line in lines if line.startswith("{")]
    by_kind = {record["kind"]: record for record in records if record["logger"] == "jwks_guard"}
    (shown,) = re.findall(r"(?ms)^```json\n(.*?)^```$", PAGE)
    shown = shown.replace("https://acme.eu.auth0.com/", tenant.issuer)
    assert by_kind["refresh_failed"] == json.loads(shown)
    kids = {key.kid for key in tenant.signing_keys}
    started = by_kind["started"]
    assert (set(started["kids"]), started["keys"]) == (kids, len(kids))
    assert (started["trust_bound"], started["detection_bound"]) >= (3600.0, 90.0)
    assert by_kind["refusal_summary"]["codes"] == {"token_expired": 1}
    assert by_kind["key_distrusted"]["kid"] == tenant.signing_keys[0].kid
    assert None not in [value for record in records for value in record.values()]
