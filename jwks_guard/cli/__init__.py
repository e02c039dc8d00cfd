"""The `jwks-guard` command; without its extra it only says how to install it."""

from __future__ import annotations

import sys
from importlib.util import find_spec

_REQUIRED = ("typer", "rich", "uvicorn")
_INSTALL = "jwks-guard needs its command-line extra: pip install 'jwks-guard[cli]'\n"


def main() -> None:
    """Run the command. Exit status: 0 yes, 1 no or unknown, 2 usage, 3 other side unreachable."""
    if any(find_spec(name) is None for name in _REQUIRED):
        sys.stderr.write(_INSTALL)
        sys.exit(2)
    from jwks_guard.cli.app import app

    app()
