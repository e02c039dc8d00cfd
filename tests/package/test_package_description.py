"""What an index shows of the wheel: the README without what needs the repository beside it."""

from __future__ import annotations

import re
import zipfile
from email.message import Message
from email.parser import Parser
from html.parser import HTMLParser
from pathlib import Path

import pytest
from readme_renderer import markdown
from trove_classifiers import classifiers

from tests.process.programs import PROJECT

pytestmark = pytest.mark.outside

README = (PROJECT / "README.md").read_text()
MAKEFILE = (PROJECT / "Makefile").read_text()


class Page(HTMLParser):
    """The links, the pictures, the headings and the code of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.pictures: list[str] = []
        self.anchors: set[str] = set()
        self.headings: list[str] = []
        self.code: list[str] = []
        self._collecting: list[str] | None = None
        shown = markdown.render(text)
        assert shown is not None
        self.feed(shown)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.anchors.add(given.get("id") or "")
        if tag == "a":
            self.links.append(given.get("href") or "")
        elif tag == "img":
            self.pictures.append(given.get("src") or "")
        elif tag in ("h1", "h2", "h3", "h4", "pre"):
            self._collecting = self.code if tag == "pre" else self.headings
            self._collecting.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("h1", "h2", "h3", "h4", "pre"):
            self._collecting = None

    def handle_data(self, data: str) -> None:
        if self._collecting is not None:
            self._collecting[-1] += data


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    archive = zipfile.ZipFile(wheel)
    (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    return Parser().parsestr(archive.read(name).decode())


@pytest.fixture(scope="module")
def description(metadata: Message) -> str:
    assert metadata["Description-Content-Type"] == "text/markdown"
    text = metadata.get_payload()
    assert isinstance(text, str)
    return text


def test_description_has_no_link_and_no_picture_that_needs_the_repository(
    description: str,
) -> None:
    page = Page(description)
    outward = [link for link in page.links if not link.startswith("#")]
    assert [each for each in (*outward, *page.pictures) if not each.startswith("https://")] == []
    assert {link.removeprefix("#") for link in page.links if link.startswith("#")} <= page.anchors
    prose = re.sub(r"(?sm)^ *```.*?^ *```$|`[^`]+`", "", description)
    for left in (r"\]\((?!https://|#)", "<picture", "<source", "<img", "<!--"):
        assert not re.search(left, prose), left


def test_description_keeps_headings_and_code_of_the_readme(description: str) -> None:
    shown, original = Page(description), Page(README)
    assert shown.headings == original.headings
    assert shown.code == original.code
    assert shown.code


def test_check_finds_what_an_index_can_not_show() -> None:
    page = Page("# A b\n[x](#a-b) [y](docs/z.md) ![i](docs/i.png)\n```python\na[0](b)\n```\n")
    assert page.links[1:] == ["#user-content-a-b", "docs/z.md"]
    assert "user-content-a-b" in page.anchors
    assert (page.pictures, page.headings) == (["docs/i.png"], ["A b"])
    assert page.code == ["a[0](b)\n"]


def test_classifiers_are_known_and_name_the_pythons_that_are_tested(metadata: Message) -> None:
    given = metadata.get_all("Classifier", [])
    assert set(given) <= classifiers
    pythons = re.findall(r"(?m)^PYTHONS := (.*)$", MAKEFILE)[0].split()
    named = [each.rpartition(" ")[2] for each in given if re.search(r":: 3\.\d+$", each)]
    assert named == pythons


def test_no_address_is_invented(metadata: Message) -> None:
    """The project has no home yet: a wrong one would lead people to somebody else's."""
    assert metadata.get_all("Project-URL") is None
    assert metadata.get_all("Home-page") is None
