"""What a figure was measured on; without it a figure says nothing."""

from __future__ import annotations

import datetime
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

# Read before anything is measured: later it is the benchmark's own.
_LOAD_BEFORE = os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def machine() -> dict[str, str]:
    """Date, processor, load by others and versions, for the head of every table."""
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "load": "unknown" if _LOAD_BEFORE is None else f"{_LOAD_BEFORE:.1f} in the minute before",
        "system": f"{platform.system()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        **{name: version(name) for name in ("jwks-guard", "cryptography", "pyjwt", "msgspec")},
        "awscrt": _awscrt(),
        **_short_form(),
    }


def heading() -> str:
    """The same on one line."""
    return ", ".join(f"{name} {value}" for name, value in machine().items())


def _short_form() -> dict[str, str]:
    """What says that the figures are of a run with fewer rounds, see `rounds.at_most`."""
    rounds = os.environ.get("ROUNDS")
    return {"short form": f"with ROUNDS={rounds}"} if rounds else {}


def _awscrt() -> str:
    """The version of what verifies RSA signatures where a case says so, see `fast_rsa`."""
    try:
        return version("awscrt")
    except PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
