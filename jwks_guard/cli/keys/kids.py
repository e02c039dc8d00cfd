"""What a KID argument may be: a whole kid, the beginning of one, or the state of a tenant's key."""

from __future__ import annotations

from collections.abc import Collection

from jwks_guard.admin import SigningKeysClient
from jwks_guard.admin.key_set import SigningKeys
from jwks_guard.cli.keys.table import sorted_keys
from jwks_guard.errors import ConfigurationError

STATES = ("current", "next", "previous")
"""Words for keys that only the Management API can tell."""
SHORTEST = 4
"""So many characters of a kid name it, if no other kid begins with them."""
_MOST_LISTED = 10


def matching(text: str, kids: Collection[str]) -> str | None:
    """The one of `kids` that is `text` or else begins with it; None if there is none.

    Raises ConfigurationError, which lists them, where several begin with it.
    """
    if text in kids:
        return text
    if len(text) < SHORTEST:
        return None
    found = sorted({kid for kid in kids if kid.startswith(text)})
    if len(found) > 1:
        more = len(found) - _MOST_LISTED
        listed = ", ".join(found[:_MOST_LISTED]) + (f" and {more} more" if more > 0 else "")
        raise ConfigurationError(
            f"{len(found)} keys begin with {text}: {listed}. Give more of the kid. Nothing was "
            "done."
        )
    return found[0] if found else None


async def whole_kid(client: SigningKeysClient, text: str) -> str:
    """The kid of the tenant's key that `text` names; `text` itself if it lists none.

    Raises ConfigurationError where several keys begin with it, or no key has that state.
    """
    return named_kid(text, SigningKeys(await client.list()))


def named_kid(text: str, keys: SigningKeys) -> str:
    """The kid of the one of `keys` that `text` names, as `whole_kid` finds it."""
    kid = matching(text, [key.kid for key in keys])
    if kid is not None or text not in STATES:
        return text if kid is None else kid
    if text == "previous":
        return _previous(keys)
    return keys.current.kid if text == "current" else keys.next.kid


def _previous(keys: SigningKeys) -> str:
    """The key that was used last of those that are neither current nor revoked."""
    for key in sorted_keys(keys):
        if key.state == "previously used":
            return key.kid
    raise ConfigurationError("The tenant has no previously used key. Nothing was done.")
