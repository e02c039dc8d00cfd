"""examples/README.md has one line for each example, with a command that starts it."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
import yaml

from tests.process.programs import PROJECT

EXAMPLES = PROJECT / "examples"
ROWS = [
    tuple(cell.strip() for cell in line.split("|"))
    for line in re.findall(r"(?m)^\| (\[.*) \|$", (EXAMPLES / "README.md").read_text())
]
FILES = {path: command.strip("`") for name, _, command in ROWS for path in [name[1:].split("]")[0]]}
UNLISTED = {"README.md", "__init__.py", "Dockerfile.dockerignore"}


def examples() -> set[str]:
    """The files that a reader may start from: those of Grafana belong to the compose file."""
    found = [*EXAMPLES.glob("*"), *(EXAMPLES / "operations").glob("*")]
    files = {str(path.relative_to(EXAMPLES)) for path in found if path.is_file()}
    return {name for name in files if Path(name).name not in UNLISTED}


def test_index_has_every_example_once_and_nothing_else() -> None:
    assert len(ROWS) == len(FILES)
    assert {*FILES} == examples()


def test_line_links_to_the_file_and_says_what_it_shows() -> None:
    for name, shows, _ in ROWS:
        label, target = re.fullmatch(r"\[(.*)\]\((.*)\)", name).groups()  # type: ignore[union-attr]
        assert label == target
        assert len(shows) > 10


@pytest.mark.parametrize("name", sorted(name for name in FILES if "/" not in name))
def test_command_is_the_one_that_the_example_itself_names(name: str) -> None:
    source = (EXAMPLES / name).read_text()
    assert f"`{FILES[name]}" in source
    module = f"examples.{Path(name).stem}"
    assert re.search(rf"\b{re.escape(module)}\b", FILES[name])
    assert importlib.util.find_spec(module)
    for attribute in re.findall(rf"{re.escape(module)}:(\w+)", FILES[name]):
        assert re.search(rf"(?m)^{attribute}\b", source)


def test_commands_of_the_operations_files_name_what_is_there() -> None:
    services = yaml.safe_load((EXAMPLES / "operations" / "compose.yaml").read_text())["services"]
    for name, command in FILES.items():
        for path in re.findall(r"examples/\S*", command):
            assert (PROJECT / path).exists()
        for service in re.findall(r"compose .* up ([a-z]\S*)", command):
            assert service in services
        assert command or name.endswith(".json")
