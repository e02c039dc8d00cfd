"""AnyLoopVerifier: verification on whichever event loop it is awaited, in any thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

from jwks_guard.base.portal import process_portal
from jwks_guard.errors import JWKSGuardError
from jwks_guard.jose.compact import to_bytes
from jwks_guard.verify.sync import LOOP_SECONDS, SyncTokenVerifier
from jwks_guard.verify.token import VerifiedToken
from jwks_guard.verify.verification import KeyNotHeldError

T = TypeVar("T")


class AnyLoopVerifier:
    """The verification of a SyncTokenVerifier, awaited.

    For a framework that mixes threads and event loops in one process, as Django does: where a
    TokenVerifier runs on the first loop that uses it alone, this one may be awaited on several,
    also on one that lives for a single request. A fetch runs on the process's portal, and blocks
    neither the loop nor a thread.
    """

    def __init__(self, verifier: SyncTokenVerifier) -> None:
        self._keys = verifier.keys
        self.observer = verifier.observer
        self._verification = verifier.verification

    async def verify(self, compact: str | bytes) -> VerifiedToken:
        """The verified token, or an error, as TokenVerifier.verify gives it."""
        keys, verification, waited = self._keys, self._verification, 0.0
        try:
            if keys.lazy or keys.home.vacant:
                to_bytes(compact, verification.max_token_bytes)  # or nothing is fetched for it
            if keys.home.vacant:
                # Not on the running loop: it may end with this request.
                portal = process_portal.get()
                await asyncio.wrap_future(portal.start_task_soon(keys.ensure_bound))
            if keys.lazy and keys.waits_for_request():
                waited = await self._fetch(keys.refresh_for_request)
            found = verification.look_up(compact)
            if isinstance(found, VerifiedToken):
                return found
            token, name = found
            try:
                return verification.fresh(token, name)
            except KeyNotHeldError as missing:
                await self._fetch(partial(keys.resolve, missing.kid, waited))
                return verification.fresh(token, name)
        except KeyNotHeldError:
            verification.refused(keys.unavailable())
        except JWKSGuardError as error:
            verification.refused(error)

    async def _fetch(self, step: Callable[[], Coroutine[Any, Any, T]]) -> T:
        try:
            return await self._keys.home.run(step, self._keys.max_wait + LOOP_SECONDS)
        except TimeoutError:  # the loop of the store is stopped or blocked
            raise self._keys.unavailable() from None
