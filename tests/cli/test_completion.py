from __future__ import annotations

import os
import sys

import pytest

from tests.cli.keys_running import PROGRAM, run, run_process

COMMAND = (
    *(sys.executable, "-c"),
    "from jwks_guard.cli import main; import sys; sys.argv[0] = 'jwks-guard'; main()",
)


def completed(line: str) -> list[str]:
    """What bash offers for the last word of `line`."""
    words = line.split(" ")
    environ = {
        **os.environ,
        "_JWKS_GUARD_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
    }
    done = run(environ, command=PROGRAM)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("jwks-guard k", ["keys"]),
        ("jwks-guard keys r", ["rotate", "revoke", "rotate-and-revoke"]),
        ("jwks-guard keys rotate --dr", ["--dry-run"]),
        ("jwks-guard inc", ["incident"]),
        ("jwks-guard incident --dr", ["--drill"]),
    ],
)
def test_bash_completes_commands_and_options(line: str, offered: list[str]) -> None:
    assert sorted(completed(line)) == sorted(offered)


def test_completion_can_be_shown_to_be_installed_by_hand() -> None:
    environ = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    done = run_process(environ, "--show-completion", "bash", command=COMMAND)
    assert (done.returncode, done.stderr) == (0, "")
    assert "_JWKS_GUARD_COMPLETE=complete_bash" in done.stdout
