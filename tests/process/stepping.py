"""A thread that stands still at a chosen place in the library, so that a test acts meanwhile.

What can go wrong between two steps is then tried between all of them, and the same way each time.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import jwks_guard
from tests.support import PATIENCE

LIBRARY = str(Path(jwks_guard.__file__).parent) + os.sep
PASSED_OVER = (LIBRARY + "jose" + os.sep, LIBRARY + "testing" + os.sep)  # no state; not the library


class SteppedThread(threading.Thread):
    """Does `work` and stands still at a place in the library that is not in `passed`.

    That is the first such place, or one more for each that is to be `skipped`: those are added to
    `passed`. Places are lines, or with `opcodes` the steps of the interpreter, between which
    threads are switched. Of a place that it comes to again and again the first time counts.
    """

    def __init__(
        self, work: Callable[[], object], passed: set[str], *, opcodes: bool, skipped: int
    ) -> None:
        super().__init__(daemon=True)
        self.where = ""
        self._work = work
        self._passed = passed
        self._opcodes = opcodes
        self._skipped = skipped
        self._still = threading.Event()
        self._going_on = threading.Event()

    def run(self) -> None:
        measuring = sys.gettrace()
        # 3.12 looks only here whether any frame is to be traced by its opcodes.
        sys._getframe().f_trace_opcodes = self._opcodes
        sys.settrace(self._trace)
        try:
            self._work()
        finally:
            sys.settrace(measuring)
            self._still.set()

    def stands(self) -> bool:
        """Start, and say whether it stands still now; False if it came to its end."""
        self.start()
        assert self._still.wait(PATIENCE)
        return bool(self.where)

    def go_on(self) -> None:
        """Let it run to its end."""
        self._going_on.set()

    def ended(self) -> bool:
        """Whether it came to its end, for which it is given some time."""
        self.join(PATIENCE)
        return not self.is_alive()

    def _trace(self, frame: FrameType, event: str, _: object) -> Any:
        path = frame.f_code.co_filename
        if not path.startswith(LIBRARY) or path.startswith(PASSED_OVER):
            return None
        frame.f_trace_opcodes = self._opcodes
        place = f"{path.removeprefix(LIBRARY)}:{frame.f_lineno}"
        if self._opcodes:
            place += f":{frame.f_lasti}"
        awaited = "opcode" if self._opcodes else "line"
        if event == awaited and not self.where and place not in self._passed:
            self._come_to(place)
        return self._trace

    def _come_to(self, place: str) -> None:
        if self._skipped:
            self._skipped -= 1
            self._passed.add(place)
            return
        self.where = place
        self._still.set()
        self._going_on.wait(PATIENCE)


def at_every_place(
    work: Callable[[], object],
    passed: set[str] | None = None,
    *,
    opcodes: bool = False,
    skipped: Callable[[], int] = int,
) -> Iterator[SteppedThread]:
    """Do `work` again and again, each time with a stop at a place that is not in `passed` yet.

    The thread is given while it stands; it goes on when the next one is asked for, if not before.
    `skipped` says before each time how many places are passed over, which are then done with.
    """
    passed = set() if passed is None else passed
    while (thread := SteppedThread(work, passed, opcodes=opcodes, skipped=skipped())).stands():
        yield thread
        thread.go_on()
        assert thread.ended(), f"stuck after {thread.where}"
        passed.add(thread.where)
