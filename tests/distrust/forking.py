"""What a forked child has of a register; a program, as Python warns of a fork with threads.

Arguments: the path of a journal. It prints one JSON object.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from tests.distrust.support import ISSUER, OTHER, Instance, kids, read


def shown(instance: Instance) -> dict[str, Any]:
    register = instance.register
    return {
        "instance": register.instance,
        "by": register.by,
        "replicas": sorted(register.state.flags[ISSUER, "again"].made),
        "distrusted": sorted(register.state.of(ISSUER)),
        "refused": sorted(instance.refused),
    }


def in_child(work: Any) -> Any:
    ear, mouth = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)
        try:
            os.write(mouth, json.dumps(work()).encode())
        finally:
            os._exit(0)
    os.close(mouth)
    with os.fdopen(ear) as said:
        answer = json.loads(said.read() or "null")
    os.waitpid(pid, 0)
    return answer


def main(path: Path) -> dict[str, Any]:
    instance = Instance(path, (ISSUER, OTHER))
    instance.distrust("before")
    instance.distrust("again")
    instance.exchange()
    instance.distrust("unwritten")
    instance.followers[0].refused = frozenset()  # as if another thread was about to apply it

    def child() -> dict[str, Any]:
        refused = sorted(instance.refused)
        instance.distrust("again")
        instance.distrust("by child")
        instance.exchange()
        return shown(instance) | {
            "refused at once": refused,
            "forked": instance.followers[0].forked,
            "file": sorted(kids(read(path).flags)),
        }

    with instance.register._lock, instance.journal._worker._lock:  # as if other threads held them
        pid_of_parent = os.getpid()
        told = in_child(child)
    assert os.getpid() == pid_of_parent
    instance.exchange()
    return {"child": told, "parent": shown(instance), "file": sorted(kids(read(path).flags))}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(Path(sys.argv[1]))))
