"""Runs the claim checks of an application, so that a defect in one refuses the token."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Collection, Mapping
from typing import Any, NoReturn, TypeAlias

from jwks_guard.errors import ConfigurationError, InvalidClaimError, JWKSGuardError

_log = logging.getLogger(__name__)

ClaimCheck: TypeAlias = Callable[[Mapping[str, Any]], None]
"""Raises InvalidClaimError or MissingClaimError for claims that are refused; returns None."""


def combined(
    checks: Collection[ClaimCheck], *, logged: set[str] | None = None
) -> ClaimCheck | None:
    """Give one check that runs `checks` in order, or None if there are none.

    `logged` holds the names of the checks whose defects were logged before, for those that are
    combined anew for each request.

    It raises our errors and nothing else, and never lets a token pass by mistake:

    - A check that raises another exception refuses the token with InvalidClaimError, which has the
      exception as its `__cause__`. The exception's type is logged once per check, at ERROR.
    - A check that returns anything but None raises ConfigurationError: a bool would be ignored, and
      a coroutine never run.

    Raises ConfigurationError unless `checks` is a list or tuple of callables that are not async.
    """
    if not isinstance(checks, list | tuple):
        raise ConfigurationError(
            "claim_checks must be a list of claim checks, like [equals('tier', 'gold')]."
        )
    runs = [_Contained(check, logged) for check in checks]
    if not runs:
        return None

    def run(claims: Mapping[str, Any]) -> None:
        for check in runs:
            check(claims)

    return run


class _Contained:
    """A check of the application whose defects refuse the token."""

    __slots__ = ("_check", "_logged", "_name")

    def __init__(self, check: ClaimCheck, logged: set[str] | None) -> None:
        if not callable(check):
            raise ConfigurationError(
                "claim_checks must hold callables that take the claims and raise InvalidClaimError."
            )
        self._check: Callable[[Mapping[str, Any]], object] = check
        self._name = _name_of(check)
        self._logged = set() if logged is None else logged
        if _is_deferred(check):
            raise ConfigurationError(
                f"claim_checks has {self._name}, which is async or a generator: its body would "
                "not run. Write a plain function."
            )

    def __call__(self, claims: Mapping[str, Any]) -> None:
        try:
            result = self._check(claims)
        except JWKSGuardError:
            raise
        except Exception as error:
            self._log_once(error)
            raise InvalidClaimError(
                f"The claim check {self._name} can't handle these claims.", ""
            ) from error
        if result is not None:
            self._refuse_result(result)

    def _log_once(self, error: Exception) -> None:
        if self._name not in self._logged:
            self._logged.add(self._name)
            _log.error(
                "The claim check %s raised %s and the token was refused. Have it raise "
                "InvalidClaimError for claims that it does not expect. Not logged again.",
                self._name,
                type(error).__name__,
            )

    def _refuse_result(self, result: object) -> NoReturn:
        if inspect.iscoroutine(result):
            result.close()  # or Python warns that it was never awaited
        raise ConfigurationError(
            f"The claim check {self._name} returned a {type(result).__name__}; a check returns "
            "None. Raise InvalidClaimError where it refuses a token."
        )


def _name_of(check: object) -> str:
    named = check if hasattr(check, "__qualname__") else type(check)
    return f"{named.__module__}.{named.__qualname__}"


def _is_deferred(check: object) -> bool:
    """Whether calling `check` runs nothing of it: an async function or a generator function."""
    return any(
        is_kind(each)
        for each in (check, type(check).__call__)
        for is_kind in (
            inspect.iscoroutinefunction,
            inspect.isasyncgenfunction,
            inspect.isgeneratorfunction,
        )
    )
