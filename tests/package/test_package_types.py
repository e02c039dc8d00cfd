"""The types of the installed wheel, as a user's type checkers see them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.process.programs import require_program, run_to_end
from tests.support import PATIENCE

pytestmark = pytest.mark.outside

PROGRAM = Path(__file__).with_name("user_program.py").read_text()
WRONG = """
from jwks_guard import SyncTokenVerifier, TokenVerifier
from jwks_guard.testing import fake_token

TokenVerifier("https://acme.eu.auth0.com/", "https://api.acme.com", max_stale="soon")
SyncTokenVerifier("https://acme.eu.auth0.com/", "https://api.acme.com").verify(1)
fake_token().subjekt
"""


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with the wheel, and nothing of this repository."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python"
    pip: list[str | Path] = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet"]
    wanted = [f"{wheel}[fastapi,redis,testing]", "pytest"]
    done = run_to_end([*pip, "--disable-pip-version-check", *wanted], timeout=5 * PATIENCE)
    assert done.returncode == 0
    return python


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the user's program, where nothing of this repository is found."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "program.py").write_text(PROGRAM)
    (folder / "wrong.py").write_text(WRONG)
    (folder / "pyrightconfig.json").write_text(json.dumps({"typeCheckingMode": "strict"}))
    return folder


@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_users_program_has_no_type_errors_and_wrong_use_has(
    checker: str, environment: Path, project: Path
) -> None:
    options = {
        "mypy": ["--strict", "--config-file=", "--cache-dir=cache", "--python-executable"],
        "pyright": ["--pythonpath"],
    }
    if checker == "pyright":
        require_program("node", "apt-get install -y nodejs")
    files = ["program.py", "wrong.py"]
    command: list[str | Path] = [
        sys.executable,
        "-m",
        checker,
        *options[checker],
        environment,
        *files,
    ]
    done = run_to_end(command, cwd=project, timeout=5 * PATIENCE)
    assert done.returncode == 1
    found = re.findall(r"(?m)^\s*(\S+\.py):(\d+)\b.*error", done.stdout)
    assert {(Path(path).name, int(line)) for path, line in found} == {
        ("wrong.py", line) for line in (5, 6, 7)
    }


def test_users_program_runs(environment: Path, project: Path) -> None:
    command: list[str | Path] = [environment, "-W", "error", "-m", "pytest", "-q", "program.py"]
    done = run_to_end(command, cwd=project, timeout=5 * PATIENCE)
    assert done.returncode == 0
    assert "3 passed" in done.stdout
