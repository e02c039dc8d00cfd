"""The pages that show something: Keys, Instances, Timeline and Incident, with their live parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cachetools import LRUCache
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from jwks_guard.console import live
from jwks_guard.console.gathering import Gatherer
from jwks_guard.console.picture import Picture
from jwks_guard.console.rendering import page, rendered

_MOST_KID = 300  # characters
_MOST_DRAWN = 16
Ended = Callable[[Request, Picture], str | None]
Context = Callable[[Request, Picture], dict[str, Any]]


def _nothing(_: Request, __: Picture) -> dict[str, Any]:
    return {}


def _filtered(request: Request, picture: Picture) -> dict[str, Any]:
    """The entries of the timeline, of one kid alone if the query names it."""
    kid = request.query_params.get("kid", "")[:_MOST_KID]
    entries = [entry for entry in picture.entries if not kid or entry.kid == kid]
    kids = dict.fromkeys(
        [*(row.kid for row in picture.keys), *(e.kid for e in picture.entries if e.kid)]
    )
    return {"kid": kid, "entries": entries, "kids": list(kids)}


@dataclass(frozen=True, slots=True)
class View:
    """A page at `/name`, the templates of its live parts, and what they need beside the picture."""

    name: str
    parts: Mapping[str, str]
    context: Context = _nothing


_EVERYWHERE = {"problems": "parts/problems.html", "freshness": "parts/freshness.html"}
VIEWS = (
    View("keys", {**_EVERYWHERE, "valid": "parts/valid.html", "revoked": "parts/revoked.html"}),
    View("instances", {**_EVERYWHERE, "instances": "parts/instances.html"}),
    View("timeline", {**_EVERYWHERE, "timeline": "parts/timeline.html"}, _filtered),
    View("incident", {**_EVERYWHERE, "incident": "parts/incident.html"}),
)


def routes(gatherer: Gatherer, ended: Ended) -> list[Route]:
    """The routes of all pages and of their streams.

    `request.state` must have `visitor`, a Visitor, and `nonce`. `ended` says why the session of a
    request has ended, at a later picture; None while it goes on.
    """
    found = [Route("/", _first_page)]
    for view in VIEWS:
        found += [
            Route(f"/{view.name}", _shown(view, gatherer), name=view.name),
            Route(f"/{view.name}/live", _live(view, gatherer, ended)),
        ]
    return found


async def _first_page(request: Request) -> Response:
    return RedirectResponse(f"{request.scope.get('root_path', '').rstrip('/')}/keys", 303)


def _shown(view: View, gatherer: Gatherer) -> Callable[[Request], Any]:
    async def show(request: Request) -> Response:
        gatherer.ensure_running()
        context = _context(view, request, gatherer, await gatherer.recent())
        return page(request, f"{view.name}.html", request.state.visitor, **context)

    return show


def _live(view: View, gatherer: Gatherer, ended: Ended) -> Callable[[Request], Any]:
    drawn: LRUCache[object, tuple[Picture, dict[str, str]]] = LRUCache(_MOST_DRAWN)

    async def stream(request: Request) -> Response:
        def draw(picture: Picture) -> dict[str, str]:
            visitor = request.state.visitor
            # Whatever else differs between two visitors is in no part of a page.
            same = (request.scope.get("root_path"), visitor.role, request.url.query)
            known = drawn.get(same)
            if known is None or known[0] is not picture:
                context = _context(view, request, gatherer, picture)
                parts = {
                    name: rendered(request, template, visitor, **context)
                    for name, template in view.parts.items()
                }
                known = drawn[same] = picture, parts
            return known[1]

        gatherer.ensure_running()
        return live.stream(gatherer, draw, lambda picture: ended(request, picture))

    return stream


def _context(view: View, request: Request, gatherer: Gatherer, picture: Picture) -> dict[str, Any]:
    return {
        "active": view.name,
        "live": f"{view.name}/live",
        "picture": picture,
        "now": gatherer.clock.time(),
        "dismisses": gatherer.dismisses,
        **view.context(request, picture),
    }
