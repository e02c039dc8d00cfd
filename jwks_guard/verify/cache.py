"""Results of verified tokens, by a digest of the whole token."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import suppress
from typing import Generic, Protocol, TypeVar

SWEEP_SECONDS = 10.0
"""A full cache looks for expired results at most this often: each time it looks at all of them."""
LARGEST_RESULT = 32_768
"""A larger result is not kept: a few crafted tokens would push out the results of all others."""
MEASURED_AT_ONCE = 2**18
"""Results that may take this much are measured first, others only when the cache is full."""


class Cacheable(Protocol):
    """A result that ends at `_valid_until`, in epoch seconds, and takes `_size` bytes at the most.

    Until `_measure` was called `_size` is by its length only, and may be 50 times what it takes.
    """

    _valid_until: float
    _size: int

    def _takes(self) -> int:
        """Give what it takes."""
        ...

    def _measure(self) -> int | None:
        """Set `_size` to what it takes; gives the bytes by which that is less, None if it is."""
        ...


_T = TypeVar("_T", bound=Cacheable)


class TokenCache(Generic[_T]):
    """The last `size` results, of at most `max_bytes`; for any thread.

    Of a full cache the expired results go first, and then those that came first. Most results are
    measured only when they may not fit otherwise: it takes as long as to parse them.

    There is no lock: one that another thread holds when the process forks is never released in the
    child. Each step on the dict is atomic. Threads that write at once may drop an entry more, and
    may leave `bytes` off by a result until the next sweep. cachetools' FIFOCache under a lock costs
    a read 15 times as much (316 against 22 ns), on the path that has to be short.
    """

    def __init__(self, size: int, max_bytes: int) -> None:
        self.bytes = 0
        self._size = size
        self._max_bytes = max_bytes
        self._results: OrderedDict[bytes, _T] = OrderedDict()
        self._sweep_at = 0.0
        self.get = self._results.get

    def __len__(self) -> int:
        return len(self._results)

    def put(self, key: bytes, result: _T, now: float) -> None:
        """Remember `result`, at the cost of others when the cache is full; `now`: epoch seconds.

        What another thread has put there meanwhile stays.
        """
        if result._size > MEASURED_AT_ONCE and result._takes() > LARGEST_RESULT:
            return
        results = self._results
        if results.setdefault(key, result) is not result:
            return
        self.bytes += result._size
        if len(results) > self._size:
            if now >= self._sweep_at:
                self._shrink(now)
            else:
                try:
                    self.bytes -= results.popitem(last=False)[1]._size
                except KeyError:  # other threads have emptied it
                    self.bytes = 0
        if self.bytes > self._max_bytes:
            self._shrink(now)

    def drop(self, key: bytes) -> None:
        """Forget a result that does not stand any more."""
        result = self._results.pop(key, None)
        if result is not None:
            self.bytes -= result._size

    def _shrink(self, now: float) -> None:
        if now >= self._sweep_at:
            self._sweep_at = now + SWEEP_SECONDS
            self._sweep(now)
        if self.bytes > self._max_bytes:
            self._measure()
        try:
            while self.bytes > self._max_bytes or len(self._results) > self._size:
                self.bytes -= self._results.popitem(last=False)[1]._size
        except KeyError:
            self.bytes = 0

    def _sweep(self, now: float) -> None:
        with suppress(RuntimeError):  # another thread changed it meanwhile
            results = list(self._results.items())
            for key, result in results:
                if now >= result._valid_until:
                    self._results.pop(key, None)
            self.bytes = sum(result._size for result in list(self._results.values()))

    def _measure(self) -> None:
        large = []
        with suppress(RuntimeError):  # another thread changed it: then more is dropped than need be
            for key in reversed(self._results):
                result = self._results[key]
                spare = result._measure()
                if spare is None:
                    break  # those before it were measured with it
                self.bytes -= spare
                if result._size > LARGEST_RESULT:
                    large.append(key)
        for key in large:
            self.drop(key)
