"""What a copy of the state is: a journal file, or a fleet."""

from __future__ import annotations

from typing import Protocol

from jwks_guard.distrust.state import NOTHING, Flags


class CopyError(Exception):
    """A copy was not read or written as a whole; says which one, and why.

    `taken` tells whether a part of it took what it was given: some instances of a fleet.
    """

    def __init__(self, why: str, *, taken: bool = False) -> None:
        super().__init__(why)
        self.taken = taken


class Copy(Protocol):
    """A place outside of this process that holds the state too: a journal file, or a fleet."""

    async def exchange(self, offer: Flags = NOTHING) -> None:
        """Merge what it holds into the register, then write what it lacks of that and of `offer`.

        Raises CopyError.
        """
        ...


class SharedCopy(Copy, Protocol):
    """A fleet, as one of the stores that take part in it reaches it: on an event loop."""

    @property
    def identity(self) -> int:
        """The same number for all that reach the same fleet."""
        ...

    @property
    def is_idle(self) -> bool:
        """Whether its event loop was closed, or did not begin."""
        ...

    def require_elsewhere(self) -> None:
        """Raise ConfigurationError on its event loop, which can't be blocked to wait for itself."""
        ...
