"""The register: what one process distrusts, with the journal files that keep it.

A process has one, `process_register`. A second one in the same process is another instance:
decisions pass between the two by a journal file or a fleet only.
"""

from __future__ import annotations

import math
import os
import secrets
import socket
import threading
import weakref
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Protocol

from jwks_guard.base.arguments import require_kid, require_text
from jwks_guard.distrust.copy import SharedCopy
from jwks_guard.distrust.journal import Journal
from jwks_guard.distrust.state import MAX_NUMBER, Decision, Distrust, Flags, State, beyond

added_at_run_time: ContextVar[bool] = ContextVar("added_at_run_time", default=False)
"""Whether followers made in this context are `isolated`, before they follow for the first time."""


class Follower(Protocol):
    """What refuses the distrusted keys of one issuer: a key store."""

    issuer: str

    @property
    def isolated(self) -> bool:
        """Whether its issuer was added at run time: covered keys are never shared with it.

        Such an issuer may be hostile, and publish the key of another one to have it distrusted.
        """
        ...

    @property
    def seen(self) -> Mapping[str, frozenset[str]]:
        """The RFC 7638 thumbprints of the keys that the issuer published, by kid."""
        ...

    def apply(self, *, tell: bool = True) -> None:
        """Refuse what the register's state distrusts; called from any thread after a change.

        It has to read the state under a lock of its own, as several threads may call it at once.
        With `tell` false the change is no news: it was read from a journal at the start.
        """
        ...

    def after_fork(self) -> None:
        """Leave the locks and tasks of the parent process behind."""
        ...


class Register:
    """What this process distrusts; safe from any thread, and in a forked child.

    `state` is replaced as a whole and may be read without a lock. `instance` names this run of this
    process to others: it is random, and another one in a forked child. `by` names it to people.
    """

    def __init__(self, by: str | None = None) -> None:
        if by is not None:
            require_text("by", by)
        self.state = State()
        self._by = by
        self._issuers: set[str] = set()
        self._configured: frozenset[str] = frozenset()
        self._followers: weakref.WeakSet[Follower] = weakref.WeakSet()
        self._fleets: weakref.WeakSet[SharedCopy] = weakref.WeakSet()
        self._journals: weakref.WeakValueDictionary[str, Journal] = weakref.WeakValueDictionary()
        self._begin()
        _registers.add(self)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self.instance = self._replica = secrets.token_hex(16)
        self.by = self._by or f"{socket.gethostname()}:{os.getpid()}"

    def after_fork(self) -> None:
        """In a forked child: keep what is distrusted, as a replica of its own."""
        self._begin()
        for journal in self.journals:
            journal.after_fork()
        for follower in self.followers:
            follower.after_fork()
            follower.apply()  # the parent may have been in the middle of that

    @property
    def followers(self) -> list[Follower]:
        """The live key stores of this register."""
        with self._lock:
            return list(self._followers)

    @property
    def journals(self) -> list[Journal]:
        """The journal files of these stores."""
        with self._lock:
            return list(self._journals.values())

    @property
    def journal_error(self) -> str | None:
        """Why a journal file can't be used at the moment."""
        return next((each.error for each in self.journals if each.error), None)

    @property
    def fleets(self) -> list[SharedCopy]:
        """The fleets of these stores; one of several stores occurs as often."""
        with self._lock:
            return list(self._fleets)

    @property
    def issuers(self) -> frozenset[str]:
        """The issuers whose tokens are verified here, or were: a decision outlives its maker."""
        with self._lock:
            return frozenset(self._issuers)

    def follow(self, follower: Follower, fleet: SharedCopy | None = None) -> None:
        """Have `follower` refuse what is distrusted, from now on; it is not kept alive.

        `fleet` is the one that it takes part in; decisions of all followers are shared with it.
        """
        with self._lock:
            self._issuers.add(follower.issuer)
            self._followers.add(follower)
            if fleet is not None:
                self._fleets.add(fleet)
            configured = follower.issuer in self._configured
            if not follower.isolated and not configured:
                self._configured |= {follower.issuer}
        if self.state.thumbprints.get(follower.issuer) and not (configured or follower.isolated):
            self._apply()  # its covered keys are refused for the others from now on
        else:
            # One that is made for an issuer again and again tells nothing new.
            follower.apply(tell=not follower.isolated)

    def isolate(self, follower: Follower) -> None:
        """Take note that `follower`, which followed as a configured one, is `isolated` by now."""
        issuer = follower.issuer
        with self._lock:
            if all(each.isolated for each in self._followers if each.issuer == issuer):
                self._configured -= {issuer}
        self._apply()

    def covered(self, issuer: str, state: State, *, isolated: bool) -> frozenset[str]:
        """The thumbprints that `state` has refused under any kid for a follower of `issuer`.

        Those of every configured issuer, as custom domains share keys; of its own issuer alone for
        an isolated one.
        """
        own = state.covered({issuer})
        return own if isolated else own | state.covered(self._configured)

    def journal(self, path: Path) -> Journal:
        """The journal at `path`, the same one for each way to write that; kept by its users."""
        name = str(Path(os.path.realpath(path.parent), path.name))
        with self._lock:
            journal = self._journals.get(name)
            if journal is None:
                journal = self._journals[name] = Journal(path, self._lacking, self._read)
            return journal

    def distrust(
        self,
        issuer: str,
        kid: str,
        *,
        reason: str,
        at: float,
        check: Callable[[State], None] | None = None,
        actor: str | None = None,
    ) -> None:
        """Distrust `kid` of `issuer`; in effect at every follower when this returns.

        `at` is in seconds since the epoch. `check` is called with the state that the decision leads
        to; when it raises, nothing is changed. `actor` is who decides it, by default this process.
        Raises ConfigurationError for a kid that no token can name, and without a reason.
        """
        require_kid(kid)
        require_text("reason", reason)
        name = (issuer, kid)
        decision = Decision(0, reason, _told(at), self._who(actor))
        seen = frozenset[str]().union(
            *(each.seen.get(kid, ()) for each in self.followers if each.issuer == issuer)
        )
        with self._lock:
            flag = self.state.flags.get(name, Distrust()).decided(self._replica, decision, seen)
            if flag.made[self._replica].number > MAX_NUMBER:
                # Only a forged lift gets there. A replica that nobody has heard of begins at 1.
                self._replica = secrets.token_hex(16)
                flag = self.state.flags[name].decided(self._replica, decision, seen)
            state = self.state.merged({name: flag})
            if check is not None:
                check(state)
            self.state = state
        self._apply()

    def lift(
        self, issuer: str, kid: str, *, reason: str, at: float, actor: str | None = None
    ) -> Flags:
        """What has to be merged to lift all that is known of `kid`; nothing is lifted yet.

        It is empty when the key is not distrusted. Raises KeyError for a kid that never was.
        """
        name = (issuer, kid)
        flag = self.state.flags[name]
        return {name: flag.lift(reason, _told(at), self._who(actor))} if flag.stands else {}

    def _who(self, actor: str | None) -> str:
        """The text for people that goes with a decision: what can't be stored in it is replaced."""
        return (actor or self.by).encode(errors="replace").decode()

    def merge(self, flags: Flags, *, tell: bool = True) -> None:
        """Take decisions from a copy of the state; in effect when this returns.

        The journals get them too, soon: a restart must not depend on that copy.
        """
        with self._lock:
            before = self.state
            self.state = before.merged(flags)
            changed = self.state is not before
        if changed:
            self._apply(tell=tell)
            self.exchange_journals()

    def exchange_journals(self) -> None:
        """Have what other processes wrote read, and what could not be written before, written."""
        for journal in self.journals:
            journal.begin_exchange()

    def _apply(self, *, tell: bool = True) -> None:
        """Have all followers refuse it, and then raise what one of them failed with."""
        failure: Exception | None = None
        for follower in self.followers:
            try:
                follower.apply(tell=tell)
            except Exception as error:  # noqa: BLE001 - a caller's clock may raise anything
                failure = error
        if failure is not None:
            raise failure

    def _read(self, flags: Flags, at_start: bool) -> None:
        self.merge(flags, tell=not at_start)

    def _lacking(self, theirs: Flags) -> Flags:
        """What a journal lacks: of decisions about other issuers nothing is written."""
        return beyond(self.state.flags, theirs, self.issuers)


def _told(at: float) -> float:
    """The time as it can be written down: a clock may answer anything, and decides nothing."""
    return at if math.isfinite(at) else 0.0


_registers: weakref.WeakSet[Register] = weakref.WeakSet()


def _after_fork() -> None:
    for register in list(_registers):
        register.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

process_register = Register()
