"""Every Python block in docs/ runs as it stands, with the addresses of a local tenant in it."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from jwks_guard import InvalidClaimError, MissingClaimError
from jwks_guard.testing import LocalTenant

DOCS = Path(__file__).parent.parent / "docs"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@pytest.fixture
def tenant() -> Iterator[LocalTenant]:
    with LocalTenant(algorithm="ES256") as tenant:
        yield tenant


async def run_page(name: str, tenant: LocalTenant, **known: object) -> dict[str, Any]:
    """Run the page's Python blocks in one namespace, which is returned; they may use `await`.

    They find the names in `known`, as a program has them above the block.
    """
    text = (DOCS / name).read_text()
    text = text.replace("https://acme.eu.auth0.com/", tenant.issuer)
    text = text.replace("https://api.acme.com", tenant.audience)
    names: dict[str, Any] = {"__name__": name, **known}
    for block in BLOCK.finditer(text):
        lines_before = text.count("\n", 0, block.start(1))  # so that a traceback shows the page's
        code = compile(
            "\n" * lines_before + block[1],
            str(DOCS / name),
            "exec",
            flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
            dont_inherit=True,
        )
        running = eval(code, names)
        if inspect.iscoroutine(running):
            await running
    return names


async def test_claims_page_runs(tenant: LocalTenant) -> None:
    names = await run_page("claims.md", tenant)
    claims: dict[str, Any] = {"org_id": "org_a1b2c3", "https://acme.com/roles": ["editor"]}
    async with names["verifier"] as verifier, names["delegated"] as delegated:
        token = tenant.token(sub="auth0|bob", claims=claims)
        assert await names["show"](token) == "auth0|bob of org_a1b2c3: editor"
        assert await names["roles_of"](token) == ["editor"]
        subject = (await verifier.verify(token)).claims_as(names["Subject"])
        assert (subject.sub, subject.email) == ("auth0|bob", None)
        assert await names["both"].verify(token)
        with pytest.raises(InvalidClaimError):
            await verifier.verify(tenant.token(claims={**claims, "org_id": "org_other"}))
        with pytest.raises(MissingClaimError):
            await verifier.verify(tenant.token())
        acting = {"azp": "web", "client_id": "web", "jti": "1", "act": {"sub": "support-desk"}}
        header = {"typ": "at+jwt"}
        assert await delegated.verify(tenant.token(header=header, claims=acting))
    async with names["staff"] as staff:
        for email, accepted in {"bob@acme.com": True, "bob@example.com": False}.items():
            token = tenant.token(claims={"email": email, "email_verified": True})
            if accepted:
                assert (await staff.verify(token)).claims["email"] == email
            else:
                with pytest.raises(InvalidClaimError):
                    await staff.verify(token)


async def test_console_page_runs(tenant: LocalTenant, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FLEET_SECRET", "CONSOLE_SECRET", "CONSOLE_CLIENT_SECRET"):
        monkeypatch.setenv(name, "a-secret-of-16-characters")
    names = await run_page("console.md", tenant)
    assert names["login"].issuer == "https://login.acme.com/"
    transport = httpx.ASGITransport(names["app"])
    async with httpx.AsyncClient(transport=transport, base_url="https://ops.acme.com") as client:
        answer = await client.get("/keys")
        assert answer.headers["location"] == "/login?next=%2Fkeys"
