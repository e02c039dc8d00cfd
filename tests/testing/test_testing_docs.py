"""The project of docs/testing.md: its snippets are written to the files they name, and run."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from tests.process.programs import PROJECT, run_to_end

PAGE = (PROJECT / "docs" / "testing.md").read_text()
TENANT_PAGE = (PROJECT / "docs" / "local-tenant.md").read_text()
WARNINGS = ("error", "ignore:Using `httpx` with")  # what Starlette's TestClient says of its client


def snippets(page: str) -> list[str]:
    return re.findall(r"(?ms)^```python\n(.*?)^```$", page)


def named_file(snippet: str) -> str:
    """The file that the first line names: a snippet without one has no place in the project."""
    named = re.match(r"# (\w+\.py)\n", snippet)
    assert named, f"name its file in the first line:\n{snippet}"
    return named[1]


def test_every_snippet_of_the_page_and_that_of_the_local_tenant_run(tmp_path: Path) -> None:
    for snippet in snippets(PAGE):
        with (tmp_path / named_file(snippet)).open("a") as file:
            file.write(snippet)
    (short,) = (snippet for snippet in snippets(TENANT_PAGE) if "fake_token" in snippet)
    (tmp_path / "test_short.py").write_text(short)
    options = [f"-W{warning}" for warning in WARNINGS]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:asyncio"]
    run = run_to_end([*command, *options, str(tmp_path)], cwd=tmp_path)
    assert run.returncode == 0
    (passed,) = re.findall(r"(?m)^(\d+) passed in ", run.stdout)
    assert int(passed) >= PAGE.count("def test_") + short.count("def test_")
