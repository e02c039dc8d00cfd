"""HTML from the templates: what every page of the console needs to be drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse

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


templates = Environment(
    loader=PackageLoader("jwks_guard.console"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
templates.filters["segment"] = lambda text: quote(str(text), safe="")


def page(
    request: Request, template: str, visitor: Visitor | None, *, status: int = 200, **context: Any
) -> HTMLResponse:
    """The answer with that template, which extends base.html.

    `request.state.nonce` is that of the answer's Content-Security-Policy. A template also reads
    `root`, the path at which the console is mounted, and `visitor`: None before the log-in.
    """
    text = templates.get_template(template).render(
        root=request.scope.get("root_path", ""),
        nonce=request.state.nonce,
        visitor=visitor,
        **context,
    )
    return HTMLResponse(text, status)
