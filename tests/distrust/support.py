"""A register with a follower that shows nothing but which keys it refuses."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from jwks_guard import Register
from jwks_guard.distrust.journal import Journal
from jwks_guard.distrust.state import Distrust, Flags

ISSUER, OTHER = "https://issuer.test/", "https://other.test/"
K = (ISSUER, "k")
PATIENCE = 60.0


@dataclass(eq=False)
class Follower:
    """Keeps which kids it refuses, and each change of that with whether it is news."""

    register: Register
    issuer: str = ISSUER
    seen: Mapping[str, frozenset[str]] = field(default_factory=dict)
    refused: frozenset[str] = frozenset()
    changes: list[tuple[frozenset[str], bool]] = field(default_factory=list)
    forked: int = 0
    isolated: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.register.follow(self)
        self.changes.clear()

    def apply(self, *, tell: bool = True) -> None:
        with self.lock:  # as in Trust: a thread with an older state must not have the last word
            self.refused = frozenset(self.register.state.of(self.issuer))
            self.changes.append((self.refused, tell))

    def after_fork(self) -> None:
        self.forked += 1
        self.lock = threading.Lock()


@dataclass(eq=False)
class Instance:
    """What one process has that distrusts keys of `issuers`, with a journal at `path`."""

    path: Path
    issuers: tuple[str, ...] = (ISSUER,)
    register: Register = field(default_factory=Register)

    def __post_init__(self) -> None:
        self.followers = [Follower(self.register, issuer) for issuer in self.issuers]
        self.journal: Journal = self.register.journal(self.path)

    def exchange(self) -> None:
        """An exchange with the file, and the one that news causes; raises what it fails with."""
        for _ in range(2):
            self.journal.begin_exchange().result(PATIENCE)

    def distrust(self, kid: str = "k", issuer: str = ISSUER) -> None:
        """Decide, without telling the file."""
        self.register.distrust(issuer, kid, reason="leaked", at=1.0)

    def lift(self, kid: str = "k", issuer: str = ISSUER) -> Flags:
        return self.register.lift(issuer, kid, reason="false alarm", at=2.0)

    @property
    def flags(self) -> Flags:
        return self.register.state.flags

    @property
    def refused(self) -> frozenset[str]:
        return self.followers[0].refused


def read(path: Path, *issuers: str) -> Instance:
    """A process that has just begun, and read the file at `path`."""
    instance = Instance(path, issuers or (ISSUER,))
    instance.exchange()
    return instance


def kids(flags: Mapping[tuple[str, str], Distrust]) -> set[str]:
    return {kid for _, kid in flags}
