"""The documentation builds without a warning, loads nothing from elsewhere, and can be searched."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest

import jwks_guard
from jwks_guard import JWKSGuardError
from tests.docs.pages import DOCS, PROJECT
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
    for name in jwks_guard.__all__:
        kind = getattr(jwks_guard, name)
        if not (isinstance(kind, type) and issubclass(kind, JWKSGuardError)):
            assert f'id="jwks_guard.{name}"' in reference, name


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
