from __future__ import annotations

import subprocess
import sys

import pytest

from tests.process.programs import run_to_end

WITHOUT = """
import sys
from importlib.machinery import PathFinder

class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.partition(".")[0] in {missing!r}:
            return None
        return super().find_spec(name, path, target)

sys.meta_path[:] = [Without if finder is PathFinder else finder for finder in sys.meta_path]
{then}
"""
COMMAND = "from jwks_guard.cli import main; sys.argv = ['jwks-guard', 'demo']; main()"
LIBRARY = "import jwks_guard, jwks_guard.asgi; print(jwks_guard.TokenVerifier.__name__)"
EXTRA = ("typer", "rich", "uvicorn")


def run_without(missing: tuple[str, ...], then: str) -> subprocess.CompletedProcess[str]:
    return run_to_end([sys.executable, "-c", WITHOUT.format(missing=missing, then=then)])


@pytest.mark.parametrize("missing", [*((name,) for name in EXTRA), EXTRA], ids="+".join)
def test_command_exits_2_with_the_install_line(missing: tuple[str, ...]) -> None:
    run = run_without(missing, COMMAND)
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.splitlines() == [
        "jwks-guard needs its command-line extra: pip install 'jwks-guard[cli]'"
    ]


def test_library_and_middleware_need_nothing_of_the_extra() -> None:
    run = run_without(EXTRA, LIBRARY)
    assert (run.returncode, run.stdout, run.stderr) == (0, "TokenVerifier\n", "")
