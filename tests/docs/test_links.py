"""Every link and picture of the README and of docs/ leads to something that is there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, PAGES, PROJECT, name_of, prose

LINK = re.compile(r"(?:\]\(|(?:src|srcset)=\")([^)\"\s]+)[)\"]")


def targets(page: Path) -> list[str]:
    without_code = re.sub(r"`[^`\n]*`", "", prose(page))
    return LINK.findall(without_code)


def anchors(page: Path) -> Iterator[str]:
    """The anchors of the headings, as the site and hosting platforms make them."""
    for heading in re.findall(r"(?m)^#+ (.+)$", prose(page)):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        yield re.sub(r"[\s]+", "-", re.sub(r"[^\w\s-]", "", text).strip().lower())


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_to_files_and_anchors_that_exist(page: Path) -> None:
    for target in targets(page):
        if re.match(r"https?:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        assert file.is_relative_to(DOCS if page.parent == DOCS else PROJECT), target
        if anchor and file.suffix == ".md":
            assert anchor in anchors(file), target


def test_links_are_found_at_all() -> None:
    assert sum(len(targets(page)) for page in PAGES) > 100


def test_every_page_is_in_the_navigation() -> None:
    shown = set(re.findall(r"[\w-]+\.md", (PROJECT / "mkdocs.yml").read_text()))
    assert shown == {page.name for page in DOCS.glob("*.md")}


def test_tests_that_the_guarantees_name_exist() -> None:
    text = (DOCS / "guarantees.md").read_text()
    cells = [line.split("|")[-2] for line in text.splitlines() if line.startswith("| ")][1:]
    for cell in cells:
        named = re.findall(r"`([\w/]+)`", cell)
        assert named, f"no test: {cell}"
        for name in named:
            path = PROJECT / "tests" / name
            assert path.is_dir() or path.with_suffix(".py").is_file(), name


def test_tests_that_other_pages_name_exist() -> None:
    for page in PAGES:
        for name in re.findall(r"`(tests/[\w/]+\.py|examples/[\w/.]+)`", page.read_text()):
            assert (PROJECT / name).exists(), f"{name_of(page)}: {name}"


def test_make_targets_that_the_pages_name_exist() -> None:
    makefile = (PROJECT / "Makefile").read_text()
    for page in PAGES:
        for name in re.findall(r"`make ([\w-]+)`|^make ([\w-]+)", page.read_text(), re.MULTILINE):
            target = "".join(name)
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"{name_of(page)}: {target}"


def test_every_example_is_on_its_page() -> None:
    shown = re.findall(r'--8<-- "examples/(\w+\.py)"', (DOCS / "examples.md").read_text())
    there = {path.name for path in (PROJECT / "examples").glob("*.py")} - {"__init__.py"}
    assert set(shown) == there
