"""Decisions that people and their tools make over HTTP: distrust a key, or lift that."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from jwks_guard.asgi.bodies import read_body
from jwks_guard.distrust.state import Distrust
from jwks_guard.errors import ConfigurationError
from jwks_guard.fleet.soundness import DECODE_ERRORS, MAX_REASON_CHARS, require_few
from jwks_guard.jose.header import MAX_KID_CHARS, is_kid

if TYPE_CHECKING:
    from starlette.requests import Request

    from jwks_guard.keys.store import KeyStore
    from jwks_guard.verify.stores import Stores

_MAX_BODY_BYTES = 16_384
_FORM = (
    'The body must be a JSON object like {"kid": "...", "reason": "leaked"}. It may have "issuer", '
    'and, to distrust the only trusted key, "force": true. Nothing was changed'
)


class DecisionError(ValueError):
    """The body does not say what is decided; the text says what is wrong without quoting it."""


class Asked(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A decision about the key `kid`; `issuer` is needed beside verifiers of several issuers."""

    kid: str
    reason: str
    issuer: str | None = None
    force: bool = False


class Decided(msgspec.Struct, kw_only=True):
    """What this instance does with the key since then; `since` in seconds since the epoch."""

    instance: str
    issuer: str
    kid: str
    distrusted: bool
    since: float | None


async def distrusted(request: Request, stores: Stores) -> Decided:
    """Distrust the key that the request names; the fleet and the journals hold that then.

    Raises DecisionError, and what KeyStore.decisions.distrust raises.
    """
    asked = await _asked(request)
    store = _store_of(asked, stores)
    state = store.register.state
    require_few(state, state.merged({(store.issuer, asked.kid): Distrust()}))
    await store.decisions.distrust(asked.kid, reason=asked.reason, force=asked.force)
    return _decided(store, asked.kid)


async def reinstated(request: Request, stores: Stores) -> Decided:
    """Lift the distrust of the key that the request names, in the fleet and the journals too.

    Raises DecisionError, and what KeyStore.decisions.reinstate raises.
    """
    asked = await _asked(request)
    store = _store_of(asked, stores)
    try:
        await store.decisions.reinstate(asked.kid, reason=asked.reason)
    except ConfigurationError as error:  # it was never distrusted
        raise DecisionError(str(error)) from None
    return _decided(store, asked.kid)


async def _asked(request: Request) -> Asked:
    try:
        asked = msgspec.json.decode(await read_body(request, _MAX_BODY_BYTES), type=Asked)
    except DECODE_ERRORS:
        raise DecisionError(f"{_FORM}.") from None
    if not is_kid(asked.kid) or not 0 < len(asked.reason.strip()) <= MAX_REASON_CHARS:
        raise DecisionError(
            f"{_FORM}: the kid has 1 to {MAX_KID_CHARS} characters, the reason 1 to "
            f"{MAX_REASON_CHARS}."
        )
    return asked


def _store_of(asked: Asked, stores: Stores) -> KeyStore:
    """The store whose keys are meant."""
    known = {store.issuer: store for store in stores()}
    if asked.issuer is None and len(known) == 1:
        return next(iter(known.values()))
    if asked.issuer not in known:
        which = "names no issuer" if asked.issuer is None else "names another issuer"
        raise DecisionError(
            f"The body {which}; this instance verifies tokens of {', '.join(sorted(known))}. "
            "Nothing was changed."
        )
    return known[asked.issuer]


def _decided(store: KeyStore, kid: str) -> Decided:
    since = store.refused_since.get(kid)
    return Decided(
        instance=store.register.instance,
        issuer=store.issuer,
        kid=kid,
        distrusted=kid in store.decisions.distrusted,
        since=since,
    )
