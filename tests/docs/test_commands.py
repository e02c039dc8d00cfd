"""Every `jwks-guard` command of the documentation is one that the real command takes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from jwks_guard.cli.app import app
from tests.docs.pages import DOCS, PAGES, blocks, name_of, prose, rows

ROOT = get_command(app)


def leaves(command: Any, *words: str) -> Iterator[str]:
    """The words of each command that does something by itself."""
    below = getattr(command, "commands", {})
    if not below or getattr(command, "invoke_without_command", False):
        yield " ".join(words)
    for name, each in below.items():
        yield from leaves(each, *words, name)


def lines(page: Path) -> list[str]:
    """What follows `jwks-guard` in shell blocks and inline code, up to the end of the command."""
    shell = "\n".join(blocks(page, "sh", "console")).replace("\\\n", " ")
    shell = re.sub(r"(?m)(^|\s)#.*$", "", shell)
    inline = re.findall(r"(?<!`)`(jwks-guard[^`]*)`", prose(page).replace("\n", " "))
    found = re.findall(r"(?m)(?:^|[\s(|])jwks-guard( [^\n]*)?", "\n".join([shell, *inline]))
    return [re.split(r"[|)<>]| \.\.\.", f"{each} ")[0].strip() for each in found]


def resolved(line: str) -> tuple[Any, list[str]]:
    """The command that the line names, and its arguments."""
    command: Any = ROOT
    words = shlex.split(line)
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    return command, words


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_and_options_of_the_page_exist(page: Path) -> None:
    for line in lines(page):
        command, words = resolved(line)
        if words and not words[0].startswith("-"):
            assert not getattr(command, "commands", {}), f"no such command: {line}"
        known = {name for each in command.params for name in (*each.opts, *each.secondary_opts)}
        known |= {"--help", "--install-completion", "--show-completion"}
        given = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert given <= known, line


def test_pages_show_commands_at_all() -> None:
    """So that the test above does not pass because nothing is found."""
    shown = {" ".join(line.split()[:2]) for page in PAGES for line in lines(page)}
    assert {"keys rotate", "can-revoke KID", "incident --drill", "tenant", "status"} <= shown


def test_reference_has_every_command_and_no_other() -> None:
    first = [row[0] for row in rows(DOCS / "command.md")]
    named = [cell.strip("`").removeprefix("jwks-guard ") for cell in first if "jwks-guard" in cell]
    assert sorted(named) == sorted(leaves(ROOT))
