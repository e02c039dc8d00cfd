"""docs/configuration.md names every setting and every argument, with its type and its default."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import re
import time
from pathlib import Path
from typing import get_type_hints

import httpx
import pytest

from jwks_guard import TokenVerifier
from jwks_guard.base.settings import NAMES, Settings
from jwks_guard.jose.algorithms import ALGORITHMS
from jwks_guard.testing import LocalTenant

DOCUMENT = (Path(__file__).parent.parent / "docs" / "configuration.md").read_text()
ROWS = {
    row[0].strip("`"): row[1:]
    for line in re.findall(r"(?m)^\|( `.+ )\|$", DOCUMENT)
    for row in [[cell.strip() for cell in line.split("|")]]
}
"""Variable, TOML type, default and meaning by name."""
PARAMETERS = inspect.signature(TokenVerifier).parameters
KINDS = {
    str: "string",
    Path: "string",
    float: "number",
    int: "integer",
    bool: "boolean",
    list[str]: "list of strings",
}


def default_in(cell: str) -> object:
    """The value in the first code of the cell."""
    code = re.match(r"`([^`]*)`", cell)
    assert code
    return ast.literal_eval(code[1])


def test_every_argument_and_every_setting_has_its_row_and_nothing_else_has_one() -> None:
    assert set(ROWS) == {*NAMES, *PARAMETERS}
    for name, row in ROWS.items():
        assert len(row) == 4, name


@pytest.mark.parametrize("name", NAMES)
def test_row_of_a_setting_has_its_variable_and_its_type(name: str) -> None:
    variable, kind, *_ = ROWS[name]
    assert variable == f"`JWKS_GUARD_{name.upper()}`"
    if name != "token":  # only in the environment
        assert kind == KINDS[get_type_hints(Settings)[name]]


@pytest.mark.parametrize("name", sorted(set(PARAMETERS) - set(NAMES)))
def test_argument_without_a_variable_is_said_to_be_given_in_code(name: str) -> None:
    assert ROWS[name][:2] == ["in code", ""]


@pytest.mark.parametrize("name", PARAMETERS)
def test_default_of_an_argument_is_that_of_the_signature(name: str) -> None:
    default, cell = PARAMETERS[name].default, ROWS[name][2]
    if name in ("issuer", "audience"):
        assert (default, cell) == (inspect.Parameter.empty, "")
    elif name == "algorithms":
        assert (default, cell) == (ALGORITHMS, "all")
        assert set(re.findall(r"`(\w+)`", ROWS[name][3])) == ALGORITHMS
    elif name == "clock":
        assert (default, cell) == (time, "`time`")
    else:
        assert default_in(cell) == default
        assert type(default_in(cell)) is type(default)


def test_default_that_is_a_number_has_its_unit() -> None:
    for name, parameter in PARAMETERS.items():
        if type(parameter.default) in (int, float):
            unit = "s" if isinstance(parameter.default, float) else "(bytes|results)"
            assert re.fullmatch(rf"`[\d_.]+` {unit}", ROWS[name][2]), name


async def test_example_runs_with_two_variables(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    code = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)[0]
    (tmp_path / "api.py").write_text(code)
    async with LocalTenant(algorithm="ES256") as tenant:
        monkeypatch.setenv("JWKS_GUARD_ISSUER", tenant.issuer)
        monkeypatch.setenv("JWKS_GUARD_AUDIENCE", tenant.audience)
        spec = importlib.util.spec_from_file_location("api", tmp_path / "api.py")
        assert spec is not None
        assert spec.loader is not None
        api = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(api)
        transport = httpx.ASGITransport(api.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://api.test") as client:
            headers = {"Authorization": f"Bearer {tenant.token(sub='auth0|bob')}"}
            assert (await client.get("/me")).status_code == 401
            assert (await client.get("/me", headers=headers)).json() == {"sub": "auth0|bob"}
        await api.verifier.aclose()
