"""Results of verified tokens, by a digest of the whole token."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

_T = TypeVar("_T")


class TokenCache(Generic[_T]):
    """The last `size` results, first in, first out; for any thread.

    There is no lock: one that another thread holds when the process forks is never released in the
    child. Each step on the dict is atomic, and threads that write at once may drop an entry more.
    cachetools' FIFOCache under a lock costs a read 15 times as much (316 against 22 ns), on the
    path that has to be short.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._results: OrderedDict[bytes, _T] = OrderedDict()
        self.get = self._results.get

    def __len__(self) -> int:
        return len(self._results)

    def put(self, key: bytes, result: _T) -> None:
        """Remember `result`, at the cost of the oldest one when the cache is full."""
        self._results[key] = result
        if len(self._results) > self._size:
            try:  # noqa: SIM105 - suppress() costs as much as the insertion
                self._results.popitem(last=False)
            except KeyError:  # other threads have emptied it
                pass
