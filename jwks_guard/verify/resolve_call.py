"""One call of the application's `resolve`, and what it may give."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import Any, TypeAlias

from jwks_guard.distrust.register import Register, added_at_run_time
from jwks_guard.verify.verifier import TokenVerifier

Resolve: TypeAlias = Callable[[str], Awaitable[TokenVerifier | None]]
"""Gives the verifier of an issuer that a token names, unverified; None for one not served here."""

LATE = "did not answer within max_wait"


class ResolveError(Exception):
    """What is wrong with a call of `resolve`, or with what it gave; holds no `iss` of a token."""


async def called(
    resolve: Resolve, issuer: str, *, max_wait: float, register: Register
) -> TokenVerifier | None:
    """What `resolve` gives for `issuer` within `max_wait` seconds, open; raises ResolveError.

    A verifier is one of `issuer`, with the `register` given here. Key stores that are made
    meanwhile share covered keys with no other issuer.
    """
    try:
        async with asyncio.timeout(max_wait):
            added_at_run_time.set(True)
            given = resolve(issuer)
            if not isawaitable(given):
                raise ResolveError("is no async function")
            verifier = await given
            if verifier is not None:
                _require_fitting(verifier, issuer, register)
                await _reopen(verifier)
            return verifier
    except ResolveError:
        raise
    except TimeoutError:
        raise ResolveError(LATE) from None
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise ResolveError("was cancelled") from None
    except Exception as error:  # noqa: BLE001 - it is the application's code
        raise ResolveError(_described(error)) from None


def _require_fitting(verifier: Any, issuer: str, register: Register) -> None:
    if not isinstance(verifier, TokenVerifier):
        raise ResolveError(f"gave a {type(verifier).__name__}, no TokenVerifier and not None")
    if verifier.issuer != issuer:
        raise ResolveError(f"gave the verifier of {verifier.issuer!r} for another issuer")
    if verifier.keys.register is not register:
        raise ResolveError("gave a verifier with another register than the listed ones have")


async def _reopen(verifier: TokenVerifier) -> None:
    """Start a verifier that was given before, and closed; others start with their first token."""
    if not verifier.keys.trust.closed:
        return
    try:
        await verifier.start()
    except BaseException:
        await verifier.aclose()
        raise


def _described(error: Exception) -> str:
    """What was raised and where; its text may hold the `iss` of a token."""
    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"raised {type(error).__name__} ({where.filename}:{where.lineno} in {where.name})"
