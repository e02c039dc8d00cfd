"""docs/logging.md names every event that the code tells, with its level."""

from __future__ import annotations

import logging
import re
from pathlib import Path

from jwks_guard.base.events import LEVELS

PROJECT = Path(__file__).parent.parent
DOCUMENT = (PROJECT / "docs" / "logging.md").read_text()
ROWS = dict(re.findall(r"(?m)^\| `(\w+)` \| ([A-Z]+) \|", DOCUMENT))
TOLD = re.compile(r"""events\.(?:tell|log)\(\s*"(\w+)"|self\.log\(\s*"(\w+)\"""")


def test_table_has_every_event_with_its_level_and_no_other() -> None:
    levels = {kind: logging.getLevelName(level) for kind, level in LEVELS.items()}
    assert levels == ROWS


def test_every_event_of_the_table_is_told_by_the_code_and_no_other_is() -> None:
    sources = (path.read_text() for path in (PROJECT / "jwks_guard").rglob("*.py"))
    told = {kind for source in sources for found in TOLD.findall(source) for kind in found if kind}
    assert told == ROWS.keys()
