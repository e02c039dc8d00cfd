"""Where a benchmark leaves its figures, and where the report finds them."""

from __future__ import annotations

import json
import sys
from typing import Any

from benchmarks.environments import BUILT
from benchmarks.machine import machine

RESULTS = BUILT / "results" / f"{sys.version_info.major}.{sys.version_info.minor}"
"""The results of each Python version have a folder of their own."""


def save(name: str, figures: dict[str, Any]) -> None:
    """Keep one benchmark's figures, with the machine that they are of."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"machine": machine(), "figures": figures}, indent=2)
    (RESULTS / f"{name}.json").write_text(text + "\n")
