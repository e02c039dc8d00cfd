"""What people did in the console, for the log: one line each, with its fields in `extra`."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Literal

from jwks_guard.base.events import printable

if TYPE_CHECKING:
    from starlette.requests import Request

logger = logging.getLogger("jwks_guard")
Kind = Literal["console_login", "console_logout", "console_action"]
Result = Literal["done", "incomplete", "refused"]
_LEVELS = {"done": logging.INFO, "incomplete": logging.WARNING, "refused": logging.WARNING}


def audit(
    kind: Kind,
    request: Request,
    *,
    result: Result,
    **fields: str,
) -> None:
    """Log it; `fields` are text of people and instances, which stays on one line."""
    peer = request.client.host if request.client is not None else "unknown"
    shown = {name: printable(value) or "" for name, value in fields.items() if value}
    words = " ".join(f"{name}={value!r}" for name, value in shown.items())
    extra = {"kind": kind, "result": result, "peer": peer, **shown}
    text, level = (f"{kind} %s peer=%s %s", result, peer, words), _LEVELS[result]
    try:
        logger.log(level, *text, extra=extra)
    except KeyError:  # the application's record factory has set one of these names
        logger.log(level, *text)
