"""The documentation builds without a warning, loads nothing from elsewhere, and can be searched."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from jwks_guard import JWKSGuardError
from tests.docs.pages import DOCS, PAGES, PROJECT, blocks, name_of
from tests.process.programs import require_program, run_to_end
from tests.support import PATIENCE
from tests.swagger_ui import chromium

LOADS = re.compile(
    r"<(?:script|img|source|iframe|link)\b[^>]*?(?:src|href)=[\"']?(https?:[^\"'>]+)"
)


def built(root: Path) -> Path:
    """The site, from a copy of its sources: nothing is written into the project."""
    shutil.copytree(DOCS, root / "docs")
    for name in ("examples", "jwks_guard"):
        (root / name).symlink_to(PROJECT / name)
    shutil.copy(PROJECT / "mkdocs.yml", root)
    zensical = str(Path(sys.executable).with_name("zensical"))
    require_program(zensical, "pip install --group docs")
    done = run_to_end([zensical, "build", "--strict"], cwd=root, timeout=5 * PATIENCE)
    assert done.returncode == 0, done.stdout + done.stderr
    return root / "site"


def test_site_has_every_page_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    site = built(tmp_path)
    for page in DOCS.glob("*.md"):
        assert not LOADS.findall((site / f"{page.stem}.html").read_text()), page.name
    assert "--8&lt;--" not in (site / "examples.html").read_text()
    reference = (site / "api.html").read_text()
    for name in entries():
        assert f'id="{name}"' in reference, name


def entries() -> list[str]:
    """What the page of the API lists."""
    return re.findall(r"^::: (\S+)$", (DOCS / "api.md").read_text(), re.MULTILINE)


def is_listed(target: object) -> bool:
    """Errors have a page of their own; constants and types of arguments need none."""
    if isinstance(target, type):
        return not issubclass(target, JWKSGuardError)
    return inspect.isfunction(target)


@pytest.mark.parametrize(
    "package",
    ["", ".admin", ".asgi", ".claims", ".console", ".fleet", ".observability", ".testing"],
)
def test_api_page_lists_what_a_package_exports(package: str) -> None:
    module = importlib.import_module(f"jwks_guard{package}")
    exported = [name for name in module.__all__ if is_listed(getattr(module, name))]
    assert {address(f"{module.__name__}.{name}") for name in exported} <= set(entries())


def address(name: str) -> str:
    """What the page has to write for `name`: where a module has it too, that would be shown."""
    return f"{name}.{name.rpartition('.')[2]}" if find_spec(name) else name


def test_api_page_lists_what_the_pages_import_from_integrations() -> None:
    imported = {
        f"{node.module}.{alias.name}"
        for page in PAGES
        for code in blocks(page, "python")
        if not code.startswith("--8<--")
        for node in ast.walk(
            compile(code, name_of(page), "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        )
        if isinstance(node, ast.ImportFrom)
        and str(node.module).startswith("jwks_guard.integrations")
        for alias in node.names
    }
    assert imported
    assert imported - {"jwks_guard.integrations.fastapi.CurrentToken"} <= set(entries())


@pytest.mark.outside
def test_search_finds_words_and_codes_in_the_folder_without_a_server(tmp_path: Path) -> None:
    site = built(tmp_path)
    with chromium() as browser:
        page = browser.new_page()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"file://{site}/index.html", wait_until="networkidle")
        page.keyboard.press("Control+k")
        page.get_by_placeholder("Search").fill("reinstate")
        found = page.get_by_text("Why a decision is two counters").last
        found.wait_for(timeout=PATIENCE * 1000)
        assert page.get_by_text(re.compile(r"\d+ results")).is_visible()
        page.get_by_placeholder("Search").fill("malformed_token")  # one word, and not two
        page.get_by_text("Why 401?").last.wait_for(timeout=PATIENCE * 1000)
        page.get_by_text(re.compile(r"^\s*\d results")).wait_for(timeout=PATIENCE * 1000)
    assert {url.partition(":")[0] for url in asked} <= {"file", "data", "blob"}
