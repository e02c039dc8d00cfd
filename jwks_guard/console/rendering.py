"""HTML from the templates: what every page of the console needs to be drawn."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse

from jwks_guard.base.durations import span
from jwks_guard.console import plots, times

Role = Literal["viewer", "operator"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Visitor:
    """Who looks at a page: `name` is shown, `csrf` goes with each form as the field `csrf`."""

    name: str
    role: Role
    csrf: str

    @property
    def acts(self) -> bool:
        """Whether actions are open to the visitor."""
        return self.role == "operator"


def code(text: str) -> Markup:
    """`text`, escaped, with what stands between two backticks as code."""
    parts = re.split("`([^`]*)`", text)
    marked = (Markup("<code>{}</code>").format(p) if n % 2 else p for n, p in enumerate(parts))
    return Markup().join(marked)  # which escapes the other parts


templates = Environment(
    loader=PackageLoader("jwks_guard.console"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
templates.filters.update(
    segment=lambda text: quote(str(text), safe=""),
    counted=lambda number, noun: f"{number} {noun}{'' if number == 1 else 's'}",
    code=code,
    bars=plots.bars,
    busiest=plots.busiest,
    moment=times.moment,
    ago=times.ago,
    until=times.until,
    span=span,
)


def page(
    request: Request, template: str, visitor: Visitor | None, *, status: int = 200, **context: Any
) -> HTMLResponse:
    """The answer with that template, which extends base.html.

    `request.state.nonce` is that of the answer's Content-Security-Policy. A template also reads
    `root`, the path at which the console is mounted, and `visitor`: None before the log-in.
    """
    nonce = request.state.nonce
    return HTMLResponse(rendered(request, template, visitor, nonce=nonce, **context), status)


def rendered(request: Request, template: str, visitor: Visitor | None, **context: Any) -> str:
    """The text of that template, a whole page or a part of one."""
    root = request.scope.get("root_path", "").rstrip("/")
    return templates.get_template(template).render(root=root, visitor=visitor, **context)
