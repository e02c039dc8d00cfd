"""What `--help` prints of each command at 80 columns."""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import wrap

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from jwks_guard.cli.app import app


def _paths() -> Iterator[tuple[str, ...]]:
    """The words of each command, `()` for `jwks-guard` itself."""
    yield ()
    for name, command in getattr(get_command(app), "commands").items():  # noqa: B009 - not in its type
        yield (name,)
        yield from ((name, each) for each in getattr(command, "commands", ()))


def _help(*words: str) -> list[str]:
    shown = CliRunner().invoke(app, [*words, "--help"])  # at 80 columns
    assert (shown.exit_code, shown.stderr) == (0, "")
    return shown.stdout.splitlines()


@pytest.mark.parametrize("words", [*_paths()], ids=" ".join)
def test_paragraphs_are_filled_and_nothing_is_cut(words: tuple[str, ...]) -> None:
    shown = _help(*words)
    assert max(map(len, shown)) <= 80
    assert not [line for line in shown if line.endswith(("...", "…")) and "Usage" not in line]
    blocks = [block.split("\n") for block in "\n".join(shown).split("\n\n")]
    for prose in [block for block in blocks if block[0].startswith("  ")]:
        text = " ".join(line.strip() for line in prose)
        assert prose == wrap(text, 80, initial_indent="  ", subsequent_indent="  ")


def test_a_flag_is_shown_without_a_value() -> None:
    assert "--json Print one JSON document." in {" ".join(each.split()) for each in _help("status")}


def test_wrong_usage_is_told_in_plain_lines() -> None:
    done = CliRunner().invoke(app, ["distrust"])
    assert done.exit_code == 2
    assert "Error: Missing argument 'KID'." in done.stderr.splitlines()
