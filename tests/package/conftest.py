"""The sdist of this checkout, and the wheel that is built from it."""

from __future__ import annotations

import sys
import tarfile
from pathlib import Path

import pytest

from tests.process.programs import PROJECT, run_to_end
from tests.support import PATIENCE


def build(source: Path, target: Path) -> tuple[Path, Path]:
    """Build the sdist of the tree in `source`, and the wheel from that sdist, into `target`.

    It uses the build backend of this environment, so it needs no network.
    """
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "build",
        "--no-isolation",
        "--outdir",
        target,
        source,
    ]
    assert run_to_end(command, timeout=5 * PATIENCE).returncode == 0
    (sdist,), (wheel,) = target.glob("*.tar.gz"), target.glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return build(PROJECT, tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="session")
def sdist(built: tuple[Path, Path]) -> Path:
    return built[0]


@pytest.fixture(scope="session")
def wheel(built: tuple[Path, Path]) -> Path:
    return built[1]


@pytest.fixture
def unpacked(sdist: Path, tmp_path: Path) -> Path:
    """The tree in the sdist, in a folder of the test's own."""
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (tree,) = tmp_path.iterdir()
    return tree
