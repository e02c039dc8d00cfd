"""Which files are in the sdist and in the wheel, and that every build of them is the same."""

from __future__ import annotations

import os
import subprocess
import tarfile
import zipfile
from hashlib import sha256
from pathlib import Path

import pytest

from tests.package.conftest import build
from tests.process.programs import PROJECT

pytestmark = pytest.mark.outside

LEFT_OUT = {".ci/run"}
"""What judges a merge: nobody who has the sdist can merge."""


def tracked() -> set[str]:
    """The files of the checkout that git tracks."""
    if not (PROJECT / ".git").exists():
        pytest.skip("needs a checkout of git: git clone")
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=PROJECT, check=True, stdout=subprocess.PIPE, text=True
    )
    return {name for name in listed.stdout.split("\0") if name and (PROJECT / name).exists()}


def digests(*packages: Path) -> list[tuple[str, str]]:
    return [(each.name, sha256(each.read_bytes()).hexdigest()) for each in packages]


def test_sdist_has_every_tracked_file_and_nothing_else(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        files = [member.name for member in archive if member.isfile()]
    top = sdist.name.removesuffix(".tar.gz")
    assert {name.removeprefix(f"{top}/") for name in files} == tracked() - LEFT_OUT | {"PKG-INFO"}


def test_wheel_has_every_file_of_the_package_and_no_test(wheel: Path) -> None:
    files = set(zipfile.ZipFile(wheel).namelist())
    metadata = {name for name in files if name.split("/")[0].endswith(".dist-info")}
    assert files - metadata == {name for name in tracked() if name.startswith("jwks_guard/")}
    assert "jwks_guard/py.typed" in files
    assert {name.split("/", 1)[1] for name in metadata} == {
        *("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE")
    }


def test_build_in_another_folder_at_another_time_is_the_same_to_the_byte(
    built: tuple[Path, Path], unpacked: Path, tmp_path: Path
) -> None:
    """Also from the sdist's own tree, and with the times and modes of somebody else's checkout."""
    for path in unpacked.rglob("*"):
        path.chmod(path.stat().st_mode & 0o700)
        os.utime(path, (1_000_000_000, 1_000_000_000))
    elsewhere = tmp_path / "elsewhere"
    assert digests(*build(unpacked, elsewhere)) == digests(*built)
