"""Each extra, installed alone from the wheel, is enough for its module."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.process.programs import run_to_end
from tests.support import PATIENCE

ROOT = Path(__file__).parent.parent.parent
FRAMEWORKS = {"django", "fastapi", "fastmcp", "flask", "grpc", "litestar", "mcp"}
PROGRAM = """
import importlib, importlib.util, sys
import jwks_guard
assert not {frameworks} & set(sys.modules), "import jwks_guard brings a framework along"
importlib.import_module("jwks_guard.integrations.{name}")
print(*sorted(each for each in {frameworks} if importlib.util.find_spec(each)))
"""

pytestmark = pytest.mark.outside


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--wheel", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, stdout=subprocess.PIPE)
    (made,) = folder.glob("*.whl")
    return made


@pytest.mark.parametrize("name", sorted(FRAMEWORKS - {"fastmcp"}))
def test_extra_is_enough_for_its_integration(name: str, wheel: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path)], check=True)
    python = str(tmp_path / "bin" / "python")
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet"]
    subprocess.run([*pip, "--disable-pip-version-check", f"{wheel}[{name}]"], check=True)
    program = PROGRAM.format(name=name, frameworks=FRAMEWORKS)
    ran = run_to_end([python, "-W", "error", "-c", program], cwd=tmp_path, timeout=PATIENCE)
    assert ran.returncode == 0
    assert ran.stdout.split() == [name]
