"""A WSGI request's body that is read no longer than the token is accepted (PEP 3333)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any


class WatchedBody:
    """`wsgi.input`, or a stream over it: `look` is called before the application gets a part.

    A server's has `read`, `readline`, `readlines` and is iterable (PEP 3333, "Input and Error
    Streams"), and no more for certain.
    """

    def __init__(self, body: Any, look: Callable[[], object]) -> None:
        self._body = body
        self._look = look

    def read(self, *size: int) -> bytes:
        """The next bytes; raises what `look` raises."""
        part: bytes = self._body.read(*size)
        self._look()
        return part

    def readline(self, *size: int) -> bytes:
        """The next line; raises what `look` raises."""
        part: bytes = self._body.readline(*size)
        self._look()
        return part

    def readlines(self, *hint: int) -> list[bytes]:
        """The lines that are left; raises what `look` raises."""
        lines: list[bytes] = self._body.readlines(*hint)
        self._look()
        return lines

    def close(self) -> None:
        """Close a body that has such a method, as those of frameworks do."""
        self._body.close()

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.readline, b"")
