"""The pages of the documentation, and what is read from them."""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import dedent

PROJECT = Path(__file__).parents[2]
DOCS = PROJECT / "docs"
PAGES = [PROJECT / "README.md", *sorted(DOCS.glob("*.md"))]
_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)


def name_of(page: Path) -> str:
    return str(page.relative_to(PROJECT))


def blocks(page: Path, *languages: str) -> list[str]:
    """The fenced blocks of these languages, in their order."""
    found = _FENCE.findall(page.read_text())
    return [dedent(code) for _, kind, code in found if kind in languages]


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return _FENCE.sub("", page.read_text())


def rows(page: Path) -> list[list[str]]:
    """The cells of every row of every table, but for the heads."""
    lines = [line for line in prose(page).splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    rules = [number for number, row in enumerate(cells) if set("".join(row)) <= set("-: ")]
    heads = {number - 1 for number in rules}
    return [row for number, row in enumerate(cells) if number not in {*rules, *heads}]
