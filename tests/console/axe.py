"""axe-core, which finds what people can't see, hear or reach on a page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from playwright.sync_api import Page

from benchmarks.environments import node_modules
from tests.process.programs import require_program


def axe_source() -> str:
    """The script of axe-core, which finds what is not accessible."""
    require_program("node", "apt-get install -y nodejs")
    require_program("npm", "apt-get install -y npm")
    home = node_modules(Path(__file__).with_name("package.json"), "console-axe")
    assert home is not None
    return (home / "node_modules" / "axe-core" / "axe.min.js").read_text()


def violations(page: Page, axe: str) -> list[str]:
    """What axe-core finds wrong on the page, with the elements."""
    page.wait_for_load_state()  # without its style, each text has another contrast
    page.evaluate(axe)  # as the debugger does, past the page's own policy
    found: dict[str, Any] = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
    return [
        f"{each['id']}: {each['help']}: {[node['html'][:120] for node in each['nodes']]}"
        for each in found["violations"]
    ]
