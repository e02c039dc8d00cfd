"""The package's surface: what it offers, what it costs to import, how its errors are told apart."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys
from importlib.metadata import version

import pytest

import jwks_guard
from jwks_guard import errors
from tests.process.programs import run_to_end

OPTIONAL = {
    "starlette",
    "rich",
    "uvicorn",
    "typer",
    "redis",
    "opentelemetry",
    "prometheus_client",
    "django",
    "fastapi",
    "fastmcp",
    "flask",
    "grpc",
    "jinja2",
    "litestar",
    "mcp",
    "pytest",
}


ERRORS: list[type[errors.JWKSGuardError]] = [
    each
    for each in vars(errors).values()
    if isinstance(each, type) and issubclass(each, errors.JWKSGuardError)
]


def modules() -> list[str]:
    found = pkgutil.walk_packages(jwks_guard.__path__, "jwks_guard.")
    return [module.name for module in found if not module.name.endswith("__main__")]


# --- names ---


def test_everything_in_all_is_there_once_and_in_order() -> None:
    assert jwks_guard.__all__ == sorted(set(jwks_guard.__all__))
    for name in jwks_guard.__all__:
        assert getattr(jwks_guard, name).__name__ == name


def test_nothing_public_is_left_out_of_all() -> None:
    public = {
        name
        for name, value in vars(jwks_guard).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert public == set(jwks_guard.__all__)


@pytest.mark.parametrize("name", modules())
def test_every_module_can_be_imported_and_has_what_its_all_names(name: str) -> None:
    module = importlib.import_module(name)
    for member in getattr(module, "__all__", []):
        assert hasattr(module, member)


@pytest.mark.parametrize("name", jwks_guard.__all__)
def test_everything_exported_says_what_it_is(name: str) -> None:
    documentation = inspect.getdoc(getattr(jwks_guard, name))
    assert documentation
    assert documentation.splitlines()[0].endswith((".", ","))


def test_installed_version_is_the_one_the_package_names() -> None:
    assert version("jwks-guard") == jwks_guard.__version__


# --- what importing it brings along ---


@pytest.mark.parametrize("name", ["jwks_guard", "jwks_guard.testing"])
def test_importing_the_library_imports_no_framework_and_no_tool(name: str) -> None:
    """httpx comes first: its own command line brings rich along, where that is installed."""
    script = (
        f"import httpx, sys; before = set(sys.modules); import {name}\n"
        "print(*{module.partition('.')[0] for module in set(sys.modules) - before})"
    )
    run = run_to_end([sys.executable, "-c", script])
    assert run.returncode == 0
    brought = set(run.stdout.split())
    assert "jwks_guard" in brought
    assert brought.isdisjoint(OPTIONAL)


# --- errors ---


def test_every_error_of_the_library_is_exported() -> None:
    assert {each.__name__ for each in ERRORS} <= {*jwks_guard.__all__}


def test_errors_are_told_apart_by_their_code() -> None:
    codes = [vars(each).get("code") for each in ERRORS]
    assert None not in codes
    assert len(set(codes)) == len(codes)


@pytest.mark.parametrize("error", ERRORS)
def test_error_has_the_status_that_its_branch_of_the_tree_says(
    error: type[errors.JWKSGuardError],
) -> None:
    branches = {
        errors.LookUpThrottledError: 429,
        errors.InvalidTokenError: 401,
        errors.InvalidRequestError: 400,
        errors.InsufficientScopeError: 403,
        errors.KeysUnavailableError: 503,
    }
    assert errors.LookUpThrottledError.http_status == 429
    for branch, status in branches.items():
        if issubclass(error, branch) and error is not errors.LookUpThrottledError:
            assert error.http_status == status
            return


def test_tree_in_the_docstring_names_every_error() -> None:
    assert errors.__doc__ is not None
    for error in ERRORS:
        assert error.__name__ in errors.__doc__


@pytest.mark.parametrize(
    ("error", "attribute", "value"),
    [
        (errors.InvalidClaimError("why", "aud"), "claim", "aud"),
        (errors.MissingClaimError("why", "exp"), "claim", "exp"),
        (errors.InsufficientScopeError("why", ("read:things",)), "required", ("read:things",)),
        (errors.KeysUnavailableError("why", 7.0), "retry_after", 7.0),
        (errors.LookUpThrottledError("why"), "retry_after", 1.0),
    ],
)
def test_text_of_an_error_is_its_message_beside_what_it_carries(
    error: errors.JWKSGuardError, attribute: str, value: object
) -> None:
    assert str(error) == "why"
    assert getattr(error, attribute) == value
    assert error.kid is None
