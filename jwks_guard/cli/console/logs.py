"""The log of a console that is served: who did what, and what went wrong, on standard error."""

from __future__ import annotations

import logging


def log_to_stderr() -> None:
    """Write what the library tells from INFO on, and the warnings of the server."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    for name, level in (("jwks_guard", logging.INFO), ("uvicorn.error", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.setLevel(level)
        logger.addHandler(handler)
