"""CONTRIBUTING.md and SECURITY.md name what is there."""

from __future__ import annotations

import re
import tomllib

import jwks_guard
from tests.process.programs import PROJECT

CONTRIBUTING = (PROJECT / "CONTRIBUTING.md").read_text()
SECURITY = (PROJECT / "SECURITY.md").read_text()
PYPROJECT = tomllib.loads((PROJECT / "pyproject.toml").read_text())


def test_targets_that_are_named_are_in_the_makefile() -> None:
    targets = re.findall(r"(?m)^([a-z-]+):.* ## ", (PROJECT / "Makefile").read_text())
    named = set(re.findall(r"`make ([a-z-]+)`", CONTRIBUTING))
    assert named
    assert named <= set(targets)


def test_files_that_are_named_are_there() -> None:
    text = CONTRIBUTING + SECURITY
    paths = re.findall(r"`((?:jwks_guard|tests|docs|examples)/[\w./*-]+)`", text)
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert [each for each in (*paths, *links) if not [*PROJECT.glob(each)]] == []
    for name, path in (
        ("_SCHEMES", "jose/jws.py"),
        ("ALGORITHMS_BY_KEY_TYPE", "jose/algorithms.py"),
    ):
        assert name in (PROJECT / "jwks_guard" / path).read_text()


def test_table_of_layers_is_that_of_the_import_contracts() -> None:
    rows = re.findall(r"(?m)^\| ((?:`\w+`(?:, )?)+) \|", CONTRIBUTING)
    shown = [re.findall(r"\w+", row) for row in rows]
    contract = PYPROJECT["tool"]["importlinter"]["contracts"][0]["layers"]
    assert shown == [re.findall(r"\w+", layer) for layer in reversed(contract)]


def test_coverage_and_version_are_the_ones_in_force() -> None:
    least = PYPROJECT["tool"]["coverage"]["report"]["fail_under"]
    assert f"has to be {least} %" in CONTRIBUTING
    minor = ".".join(jwks_guard.__version__.split(".")[:2])
    assert re.findall(r"(?m)^\| (\S+) \| yes \|$", SECURITY) == [minor]


def test_no_address_is_invented() -> None:
    assert not re.search(r"https?://|[\w.]+@\w+\.\w+", SECURITY + CONTRIBUTING)
