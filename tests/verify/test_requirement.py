from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from jwks_guard.errors import ConfigurationError, InsufficientScopeError
from jwks_guard.net.refusals import refusal
from jwks_guard.verify.requirement import requirement, scope_tokens


@dataclass
class Grants:
    """What a token grants."""

    scopes: frozenset[str]
    permissions: frozenset[str]


def granted(scopes: str = "", permissions: str = "") -> Grants:
    return Grants(frozenset(scopes.split()), frozenset(permissions.split()))


def test_a_token_needs_all_required_scopes() -> None:
    requirement().check(granted())
    needed = requirement(["read:a", "read:b"])
    needed.check(granted("read:a read:b more"))
    with pytest.raises(InsufficientScopeError) as caught:
        needed.check(granted("read:a"))
    assert caught.value.required == ("read:a", "read:b")


def test_a_token_needs_one_of_any_scopes_and_the_first_is_named() -> None:
    needed = requirement(["base"], any_scopes=["read:a", "admin"])
    for enough in ("base read:a", "base admin", "base read:a admin"):
        needed.check(granted(enough))
    for lacking in ("", "base", "base read:b"):
        with pytest.raises(InsufficientScopeError) as caught:
            needed.check(granted(lacking))
        assert caught.value.required == ("base", "read:a")
    with pytest.raises(InsufficientScopeError) as caught:
        needed.check(granted("admin"))
    assert caught.value.required == ("base",)


def test_a_token_needs_all_required_permissions_and_no_scope_is_named() -> None:
    needed = requirement(permissions=["read:a", "write:a"])
    needed.check(granted("", "read:a write:a more"))
    with pytest.raises(InsufficientScopeError) as caught:
        needed.check(granted("read:a write:a", "read:a"))
    assert caught.value.required == ()
    assert b"scope=" not in dict(refusal(caught.value).headers)[b"www-authenticate"]


def test_permissions_are_no_scopes_and_scopes_no_permissions() -> None:
    for needed in (requirement(["write:a"]), requirement(any_scopes=["write:a"])):
        with pytest.raises(InsufficientScopeError):
            needed.check(granted("read:a", "write:a"))
    with pytest.raises(InsufficientScopeError):
        requirement(permissions=["write:a"]).check(granted("write:a", "read:a"))


@pytest.mark.parametrize("permissions", ["read:a", [""], [5], [None], None, iter(["read:a"])])
def test_what_is_no_list_of_permissions_is_a_configuration_error(permissions: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^required_permissions must be a list"):
        requirement(permissions=permissions)


def test_what_is_required_is_checked_under_its_name() -> None:
    with pytest.raises(ConfigurationError, match=r"^any_scopes holds"):
        requirement(any_scopes=["two words"])
    with pytest.raises(ConfigurationError, match=r"^any_scopes is a string"):
        requirement(any_scopes="read:a")


def test_scope_tokens_keep_their_order() -> None:
    assert scope_tokens(["write:b", "read:a"]) == ("write:b", "read:a")


@pytest.mark.parametrize("scope", ["", "read:a write:b", 'read:"a"', "read\\a", "read\n", "lésen"])
def test_what_is_no_scope_token_is_a_configuration_error(scope: str) -> None:
    with pytest.raises(ConfigurationError, match="required_scopes"):
        scope_tokens(["read:a", scope])


@pytest.mark.parametrize("scopes", [iter(["read:a"]), (each for each in ["read:a"]), None, 5])
def test_scopes_that_can_be_read_only_once_are_a_configuration_error(scopes: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"\['read:things'\]"):
        scope_tokens(scopes)


def test_a_string_of_scopes_is_a_configuration_error_that_shows_the_list() -> None:
    with pytest.raises(ConfigurationError, match=r"\['read:things'\]"):
        scope_tokens("read:a")
