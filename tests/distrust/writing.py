"""A program that makes decisions and exchanges them with a journal that others use too.

Arguments: the path of the journal, a name, and how many decisions. Each of them is about a new key,
and once more about one that all such programs decide about: that has the file rewritten.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.distrust.support import Instance

if __name__ == "__main__":
    path, name, count = sys.argv[1:]
    instance = Instance(Path(path))
    for number in range(int(count)):
        instance.distrust(f"{name}-{number}")
        instance.distrust("shared")
        instance.exchange()
