"""A claim check of the application that is wrong refuses tokens; it never lets one pass."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping
from typing import Any

import pytest

from jwks_guard.claims import ClaimCheck, combined, equals
from jwks_guard.errors import (
    ConfigurationError,
    InsufficientScopeError,
    InvalidClaimError,
    JWKSGuardError,
    KeysUnavailableError,
    MissingClaimError,
)

CLAIMS = {"tier": "gold", "s3cret": "s3cret"}


def run(*checks: Any, claims: Mapping[str, Any] = CLAIMS) -> None:
    check = combined(checks)
    assert check is not None
    check(claims)


def test_no_checks_are_no_check() -> None:
    assert combined([]) is combined(()) is None


def test_checks_run_in_order_and_the_first_refusal_counts() -> None:
    seen: list[str] = []

    def noting(name: str) -> ClaimCheck:
        return lambda _: seen.append(name)

    with pytest.raises(InvalidClaimError) as refusal:
        run(noting("a"), noting("b"), equals("tier", "silver"), noting("c"))
    assert refusal.value.claim == "tier"
    assert seen == ["a", "b"]
    run(noting("d"), equals("tier", "gold"), noting("e"))
    assert seen[2:] == ["d", "e"]


@pytest.mark.parametrize(
    "error",
    [
        InvalidClaimError("why", "tier"),
        MissingClaimError("why", "tier"),
        InsufficientScopeError("why"),
        KeysUnavailableError("why"),
        ConfigurationError("why"),
    ],
)
def test_errors_of_this_library_are_passed_on(error: JWKSGuardError) -> None:
    def check(_: Mapping[str, Any]) -> None:
        raise error

    with pytest.raises(type(error)) as raised:
        run(check)
    assert raised.value is error


@pytest.mark.parametrize(
    "error", [KeyError("s3cret"), ValueError("s3cret"), TypeError("s3cret"), RecursionError()]
)
def test_any_other_error_refuses_the_token_and_is_logged_once_by_its_type(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    def brittle(_: Mapping[str, Any]) -> None:
        raise error

    check = combined([brittle])
    assert check is not None
    for _ in range(3):
        with pytest.raises(InvalidClaimError) as refusal:
            check(CLAIMS)
        assert refusal.value.code == "invalid_claim"
        assert refusal.value.__cause__ is error
        assert "brittle" in str(refusal.value)
        assert "s3cret" not in str(refusal.value)
    (line,) = caplog.records
    assert (line.name.partition(".")[0], line.levelno) == ("jwks_guard", logging.ERROR)
    assert "brittle" in line.getMessage()
    assert type(error).__name__ in line.getMessage()
    assert "s3cret" not in caplog.text


def test_each_check_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    def first(claims: Mapping[str, Any]) -> None:
        claims["first"]

    def second(claims: Mapping[str, Any]) -> None:
        claims["second"]

    check = combined([first, second])
    assert check is not None
    for claims in ({}, {}, {"first": 1}, {"first": 1}):
        with pytest.raises(InvalidClaimError):
            check(claims)
    assert len(caplog.records) == 2


@pytest.mark.parametrize("result", [True, False, "ok", 0, {}, CLAIMS, iter(())])
def test_check_that_returns_something_raises_a_configuration_error(result: object) -> None:
    def judging(_: Mapping[str, Any]) -> object:
        return result

    with pytest.raises(ConfigurationError, match=r"judging .* Raise InvalidClaimError"):
        run(judging)


async def waiting(_: Mapping[str, Any]) -> None:
    await asyncio.sleep(0)


async def asynchronously_yielding(_: Mapping[str, Any]) -> AsyncIterator[None]:
    yield


def yielding(_: Mapping[str, Any]) -> Iterator[None]:
    yield


class Waiting:
    async def __call__(self, _: Mapping[str, Any]) -> None: ...

    async def method(self, _: Mapping[str, Any]) -> None: ...


@pytest.mark.parametrize(
    "check",
    [
        *(waiting, asynchronously_yielding, yielding, functools.partial(waiting)),
        *(Waiting(), Waiting().method, functools.partial(Waiting().method)),
    ],
)
def test_check_that_would_not_run_is_refused_when_it_is_given(check: Any) -> None:
    with pytest.raises(ConfigurationError, match="Write a plain function"):
        combined([check])


def test_coroutine_that_a_plain_function_returns_is_closed_and_an_error() -> None:
    made: list[Coroutine[Any, Any, None]] = []

    def hidden(claims: Mapping[str, Any]) -> object:
        made.append(waiting(claims))
        return made[0]

    with pytest.raises(ConfigurationError, match="returned a coroutine"):
        run(hidden)
    # A warning that it was never awaited would fail this test.
    with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
        made[0].send(None)


class Plain:
    def __call__(self, claims: Mapping[str, Any]) -> None:
        equals("tier", "silver")(claims)

    def method(self, claims: Mapping[str, Any]) -> None:
        self(claims)


@pytest.mark.parametrize(
    "check",
    [*(Plain(), Plain().method), functools.partial(Plain.method, Plain()), lambda c: Plain()(c)],
)
def test_any_callable_can_be_a_check(check: ClaimCheck) -> None:
    with pytest.raises(InvalidClaimError):
        run(check)


@pytest.mark.parametrize(
    ("check", "name"),
    [
        (functools.partial(Waiting), "functools.partial"),
        (Waiting, "Waiting"),
        (dict, "builtins.dict"),
    ],
)
def test_callable_without_a_name_of_its_own_is_named_by_its_type(check: Any, name: str) -> None:
    with pytest.raises((ConfigurationError, InvalidClaimError), match=name):
        run(check)


@pytest.mark.parametrize("checks", [None, "x", {equals("x", 1)}, {"a": 1}, 5])
def test_checks_come_in_a_list_or_tuple(checks: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^claim_checks must be a list"):
        combined(checks)
    with pytest.raises(ConfigurationError, match=r"^claim_checks must hold callables"):
        combined([equals("x", 1), checks])
