"""Sessions: who is logged in, in the memory of this process, by a cookie that names one of them."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

from itsdangerous import BadSignature, Signer

from jwks_guard.base.arguments import require_seconds
from jwks_guard.base.clock import Clock, Instant
from jwks_guard.base.durations import span
from jwks_guard.console.rendering import Role
from jwks_guard.errors import ConfigurationError
from jwks_guard.verify.token import VerifiedToken

_MOST = 1_000
_MOST_OF_ONE = 20
"""Log-ins of one person that last at a time: who logs in again and again ends no other session."""
_SALT = "jwks_guard console session"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who logged in.

    Arguments:
        name: for the pages; with an operator secret it is what the person wrote.
        actor: for the journal: says how the person logged in, too.
        role: what the log-in allows.
        token: the ID token, of a log-in by OpenID Connect.

    """

    name: str
    actor: str
    role: Role
    token: VerifiedToken | None = None


class SessionError(Exception):
    """There is no session; the text says why, and is empty where there never was one."""


@dataclass(slots=True, kw_only=True)
class Session:
    """One log-in in one browser. `csrf` goes with each of its forms, `streams` of it are open."""

    identity: Identity
    began: Instant
    seen: Instant
    name: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    csrf: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    streams: int = 0
    ended: str | None = None


class Sessions:
    """The sessions of this process. A restart ends them all, since it makes a new key.

    Arguments:
        clock: where time comes from.
        idle: how long a session lasts without a request, in seconds.
        longest: how long it lasts at most, in seconds.
        withdrawn: says why a log-in does not count any more; None while it does.
        key: signs the cookies.

    """

    def __init__(
        self,
        clock: Clock,
        *,
        idle: float = 1800.0,
        longest: float = 28_800.0,
        withdrawn: Callable[[Identity], str | None] = lambda _: None,
        key: bytes,
    ) -> None:
        require_seconds("session_idle", idle)
        require_seconds("session_lifetime", longest)
        if idle > longest:
            raise ConfigurationError("session_idle must be session_lifetime at the most.")
        self._clock = clock
        self._idle = idle
        self._longest = longest
        self._withdrawn = withdrawn
        self._signer = Signer(key, salt=_SALT)
        self._sessions: dict[str, Session] = {}  # the oldest first

    def begin(self, identity: Identity) -> Session:
        """A new session under a new name; the oldest one ends where there are too many."""
        now = Instant.now(self._clock)
        own = [each for each in self._sessions.values() if each.identity.actor == identity.actor]
        for each in own[: max(0, len(own) + 1 - _MOST_OF_ONE)]:
            self.end(each, "You have logged in too many times, and this was the first of them.")
            del self._sessions[each.name]
        session = Session(identity=identity, began=now, seen=now)
        for name, each in [*self._sessions.items()]:
            if len(self._sessions) < _MOST and not each.began.shifted(self._longest).reached(now):
                break
            self.end(each, "There were too many sessions, and yours was the oldest one.")
            del self._sessions[name]
        self._sessions[session.name] = session
        return session

    def cookie(self, session: Session) -> str:
        """The value of the cookie of `session`."""
        return self._signer.sign(session.name).decode()

    def find(self, cookie: str | None, *, used: bool = True) -> Session:
        """The session that the cookie names; raises SessionError.

        `used` renews its idle time: False for what a page asks without a person.
        """
        session = self._named(cookie)
        if (why := self.why_ended(session)) is not None:
            raise SessionError(why)
        if used:
            session.seen = Instant.now(self._clock)
        return session

    def why_ended(self, session: Session) -> str | None:
        """Why the session has ended, as a sentence; None while it lasts."""
        if session.ended is None:
            session.ended = self._end_of(session)
        return session.ended

    def end(self, session: Session, why: str = "You have logged out.") -> None:
        """End the session."""
        session.ended = session.ended or why

    def _named(self, cookie: str | None) -> Session:
        try:
            name = self._signer.unsign((cookie or "").encode()).decode()
        except (BadSignature, UnicodeError):
            raise SessionError("") from None
        if name not in self._sessions:
            raise SessionError("")
        return self._sessions[name]

    def _end_of(self, session: Session) -> str | None:
        now = Instant.now(self._clock)
        if session.began.shifted(self._longest).reached(now):
            return f"A session lasts {span(self._longest)} at most."
        if session.seen.shifted(self._idle).reached(now):
            return f"Nobody used it for {span(self._idle)}."
        return self._withdrawn(session.identity)
