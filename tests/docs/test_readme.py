"""The README is a front door: short, and what it shows is what happens."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest

from jwks_guard.cli.tenant.serve import DEFAULT_PORT
from jwks_guard.testing import LocalTenant
from jwks_guard.testing.profile import DEFAULT_AUDIENCE
from tests.docs.pages import DOCS, PROJECT, blocks, name_of
from tests.test_examples import snippet

README = PROJECT / "README.md"
TEXT = README.read_text()


def test_readme_has_at_most_150_lines() -> None:
    assert TEXT.count("\n") <= 150


def test_readme_has_a_place_for_its_figures_and_names_their_commands_after_it() -> None:
    ((figures, after),) = re.findall(
        r"<!-- figures -->\n(.*?)<!-- /figures -->\n\n(.*?)\n\n", TEXT, re.DOTALL
    )
    assert re.search(r"\d", figures)
    assert {"make bench", "make bench-fleet", "make bench-revocation"} <= {
        *re.findall(r"`(make [\w-]+)`", after)
    }


async def test_refusals_are_those_of_the_example() -> None:
    async with LocalTenant(algorithm="ES256") as tenant:
        names = snippet("fastapi", tenant, "README.md")
        app, verifier = names["app"], names["guard"].verifier
        good = tenant.token(scope="read:things")
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            bearer = {"Authorization": f"Bearer {good}"}
            assert (await client.get("/things", headers=bearer)).status_code == 200
            await verifier.distrust(tenant.key().kid, reason="leaked")
            answers = [await client.get("/things"), await client.get("/things", headers=bearer)]
        await verifier.aclose()
    (shown,) = blocks(README, "console")
    parts = re.split(r"(?m)^\$ curl .*\n", shown)[1:]
    for part, answer in zip(parts, answers, strict=True):
        head, _, body = part.partition("\n\n")
        status, *fields = head.splitlines()
        assert status == f"HTTP/1.1 {answer.status_code} {answer.reason_phrase}"
        for field in fields:
            name, _, value = field.partition(": ")
            assert answer.headers[name] == value
        assert body.strip() == answer.text


@pytest.mark.parametrize("page", [README, DOCS / "local-tenant.md"], ids=name_of)
def test_app_is_set_to_what_the_local_tenant_is_by_default(page: Path) -> None:
    text = page.read_text()
    assert f'"http://127.0.0.1:{DEFAULT_PORT}/"' in text
    assert f'"{DEFAULT_AUDIENCE}"' in text
    for line in ("jwks-guard tenant", "uvicorn main:app", "curl -i http://127.0.0.1:8000/things"):
        assert re.search(rf"(?m)^{line}\b", text)


def test_extras_of_the_readme_exist() -> None:
    project = (PROJECT / "pyproject.toml").read_text()
    installed = re.findall(r"'\.\[([\w,]+)\]'", TEXT)
    assert "fastapi,cli" in installed
    for extra in ",".join(installed).split(","):
        assert re.search(rf"(?m)^{extra} = \[", project), extra
    named = re.findall(r"with a framework: ([\w, ]+)", TEXT)[0].split(", ")
    for extra in named:
        assert re.search(rf"(?m)^{extra} = \[", project), extra
