"""An environment for each peer: what one needs shall not decide what another is measured with.

They are made below `.bench/` when first asked for, from the pinned requirements in `peers/`, and
made anew when those change. The stamp is written last, so that what was interrupted is done again.
Who asks for one that another process is making waits for it.
"""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parent
PEERS = HERE / "peers"
BUILT = HERE.parent / ".bench"


def python_for(name: str) -> Path:
    """The interpreter of an environment, of this version, with what `peers/<name>.txt` needs."""
    requirements = PEERS / f"{name}.txt"
    home = BUILT / f"{name}-{sys.version_info.major}.{sys.version_info.minor}"
    python = home / "bin" / "python"
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]

    def install() -> None:
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        # From the project's root, which `--editable .` means.
        subprocess.run([*pip, "--requirement", str(requirements)], check=True, cwd=HERE.parent)

    inputs = requirements.read_text() + sys.version
    if "--editable ." in inputs:  # what that needs in turn
        inputs += (HERE.parent / "pyproject.toml").read_text()
    _made(home, inputs, install)
    return python


def node_modules(manifest: Path = PEERS / "package.json", name: str = "node") -> Path | None:
    """The folder with the `node_modules` of a `package.json`; None without node and npm."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        return None
    home = BUILT / name

    def install() -> None:
        home.mkdir(parents=True)
        shutil.copy(manifest, home)
        quiet = ["--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error"]
        # It also says what it added; what goes wrong, it says on stderr.
        subprocess.run([npm, "install", *quiet], cwd=home, check=True, stdout=subprocess.DEVNULL)

    _made(home, manifest.read_text(), install)
    return home


def _made(home: Path, inputs: str, install: Callable[[], None]) -> None:
    stamp = home / ".complete"
    with _locked(home):
        if stamp.exists() and stamp.read_text() == inputs:
            return
        shutil.rmtree(home, ignore_errors=True)
        print(f"making the environment {home.name} ...", file=sys.stderr)
        install()
        stamp.write_text(inputs)


@contextmanager
def _locked(home: Path) -> Iterator[None]:
    """Nobody else is in such a block for `home`; the end of a process also ends its lock."""
    BUILT.mkdir(exist_ok=True)
    with (BUILT / f"{home.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
