"""Results of verified tokens, by a digest of the whole token."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import suppress
from typing import Generic, Protocol, TypeVar

SWEEP_SECONDS = 10.0
"""A full cache looks for expired results at most this often: each time it looks at all of them."""
LARGEST_RESULT = 32_768
"""Of more bytes none is kept: a few crafted tokens would push out the results of all others."""


class Cacheable(Protocol):
    """A result that ends at `_valid_until`, in epoch seconds, and takes `_size` bytes at most."""

    _valid_until: float
    _size: int


_T = TypeVar("_T", bound=Cacheable)


class TokenCache(Generic[_T]):
    """The last `size` results, which take at most `max_bytes`; for any thread.

    Of a full cache the expired results go first, and then those that came first.

    There is no lock: one that another thread holds when the process forks is never released in the
    child. Each step on the dict is atomic. Threads that write at once may drop an entry more, and
    may leave `taken` off by a result until the next sweep. cachetools' FIFOCache under a lock costs
    a read 15 times as much (316 against 22 ns), on the path that has to be short.
    """

    __slots__ = ("_max", "_results", "_size", "_sweep_at", "get", "taken")

    def __init__(self, size: int, max_bytes: int) -> None:
        self.taken = 0
        self._size = size
        self._max = max_bytes
        self._results: OrderedDict[bytes, _T] = OrderedDict()
        self._sweep_at = 0.0
        self.get = self._results.get

    def __len__(self) -> int:
        return len(self._results)

    def put(self, key: bytes, result: _T, now: float) -> None:
        """Remember `result`, at the cost of others when the cache is full; `now`: epoch seconds."""
        size = result._size
        if size > LARGEST_RESULT:
            return
        results = self._results
        if results.setdefault(key, result) is not result:
            return  # another thread has verified the same token meanwhile
        taken = self.taken + size
        if len(results) > self._size:
            if now >= self._sweep_at:
                self.taken = taken
                self._shrink(now)
                return
            try:
                taken -= results.popitem(False)[1]._size
            except KeyError:  # other threads have emptied it
                taken = 0
        self.taken = taken
        if taken > self._max:
            self._shrink(now)

    def drop(self, key: bytes) -> None:
        """Forget a result that does not stand any more."""
        result = self._results.pop(key, None)
        if result is not None:
            self.taken -= result._size

    def _shrink(self, now: float) -> None:
        if now >= self._sweep_at:
            self._sweep_at = now + SWEEP_SECONDS
            self._sweep(now)
        try:
            while self.taken > self._max or len(self._results) > self._size:
                self.taken -= self._results.popitem(last=False)[1]._size
        except KeyError:
            self.taken = 0

    def _sweep(self, now: float) -> None:
        with suppress(RuntimeError):  # another thread changed it meanwhile
            results = list(self._results.items())
            for key, result in results:
                if now >= result._valid_until:
                    self._results.pop(key, None)
            self.taken = sum(result._size for result in list(self._results.values()))
