"""The tables of options have every option, and no other."""

from __future__ import annotations

import ast
import inspect
import re

from jwks_guard.asgi import JWKSGuardMiddleware
from jwks_guard.verify.request import GuardOptions
from tests.docs.pages import DOCS, rows

GUARD = set(GuardOptions.__annotations__)
MIDDLEWARE = {
    name: each.default
    for name, each in inspect.signature(JWKSGuardMiddleware).parameters.items()
    if name not in ("app", "verifier", "options")
}


def defaults(page: str) -> dict[str, str]:
    """The second cell of each row by each name in the first."""
    cells = [row for row in rows(DOCS / page) if len(row) == 3]
    return {name: row[1] for row in cells for name in re.findall(r"`(\w+)`", row[0])}


def test_page_of_the_request_guard_has_every_option() -> None:
    assert set(defaults("request-guard.md")) == GUARD


def test_page_of_the_middleware_has_every_option_and_the_defaults_of_its_own() -> None:
    shown = defaults("starlette.md")
    assert set(shown) == {*MIDDLEWARE, *GUARD}
    for name, default in MIDDLEWARE.items():
        assert ast.literal_eval(shown[name].strip("`")) == default
