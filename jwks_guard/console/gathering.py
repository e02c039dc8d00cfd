"""The Gatherer: looks at the fleet and at the tenant, and keeps what they answered last."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import islice
from typing import Protocol, Self

from jwks_guard.admin import KeyRotation
from jwks_guard.admin.decisions import Dismissing
from jwks_guard.admin.revocable import Revocable
from jwks_guard.admin.signing_key import SigningKey
from jwks_guard.base.clock import Clock
from jwks_guard.base.events import logger
from jwks_guard.console import timeline
from jwks_guard.console.assembly import Known, assembled
from jwks_guard.console.history import History
from jwks_guard.console.picture import (
    Entry,
    IncidentRow,
    JournaledIncident,
    Picture,
    Problem,
    Source,
)
from jwks_guard.console.sharing import Shared
from jwks_guard.distrust.state import Distrusted
from jwks_guard.errors import JWKSGuardError, ManagementAPIError, RateLimitedError
from jwks_guard.readiness.state import InstanceState, Observed
from jwks_guard.readiness.usage import Reach
from jwks_guard.readiness.verdict import RevocationReadiness

WATCHED_SECONDS = 1.0
"""Between two looks at the fleet while somebody watches."""
UNWATCHED_SECONDS = 10.0
"""The same while nobody does: the history of tokens goes on."""
TENANT_SECONDS = 10.0
"""Between two requests of the Management API, whose rate limit others need too."""
TENANT_UNWATCHED_SECONDS = 60.0
LONGEST_LOOK_SECONDS = 5.0
"""For so long a page waits for answers; then it shows what is known."""
_MOST_NEWS = 100
"""What instances show and write, however often, pushes what people did off no timeline."""
_ANY_KID = "-"  # what instances show does not depend on the kid


class Fleet(Revocable, Protocol):
    """A Revocable that also tells the decisions that stand.

    `distrusted` is a mapping by kid, as a verifier has it, or a coroutine function that gives one,
    as a fleet has it.
    """

    @property
    def distrusted(
        self,
    ) -> Mapping[str, Distrusted] | Callable[[], Awaitable[Mapping[str, Distrusted]]]:
        """The decisions, or how to ask for them."""
        ...


class Gatherer:
    """Keeps the Picture of `fleet`, and with a `rotation` that of the tenant's keys.

    Use it with `async with`, or call `ensure_running`: then it looks by itself until `aclose`.
    A source that does not answer is a Problem of the picture; what it answered last is shown on.
    It belongs to one event loop.

    Arguments:
        rotation: reads the tenant's keys and the journal; None without a Management API.
        fleet: a verifier, or a fleet.
        clock: anything with time() and monotonic().
        incidents: gives the incidents of this console, the newest first.

    """

    def __init__(
        self,
        rotation: KeyRotation | None,
        fleet: Fleet,
        *,
        clock: Clock = time,
        incidents: Callable[[], tuple[IncidentRow, ...]] = tuple,
    ) -> None:
        self._rotation = rotation
        self._fleet = fleet
        self.clock = clock
        self._incidents = incidents
        self._journaled_incidents: tuple[JournaledIncident, ...] = ()
        self._history = History()
        self._recorded: deque[Entry] = deque(maxlen=timeline.MAX_ENTRIES)
        self._seen: deque[Entry] = deque(maxlen=_MOST_NEWS)
        self._journaled: tuple[Entry, ...] = ()
        self._decided: tuple[Entry, ...] = ()
        self._problems: dict[Source, Problem] = {}
        self._tenant_due = self._tenant_busy_until = 0.0  # by the monotonic clock
        self._tenant_at_once = False
        self._wanted: set[str] = set()
        self._actions = self._actions_seen = 0
        self._fleet_look = Shared(self._ask_fleet)
        self._tenant_look = Shared(self._ask_tenant)
        self._changed = asyncio.Event()  # one for each picture
        self._wake = asyncio.Event()
        self.watchers = 0
        """How many watch at the moment."""
        self._next_kid = 0
        self._tasks: tuple[asyncio.Task[None], ...] = ()
        tenant = None if rotation is None else rotation.keys.base_url
        self._known = Known(issuer=fleet.issuer, tenant=tenant, began=clock.time())
        self.picture = self._assembled()
        """What was seen last."""

    async def __aenter__(self) -> Self:
        self.ensure_running()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def ensure_running(self) -> None:
        """Look by itself from now on; must be called in the event loop."""
        if not self._tasks:
            looks = [self._keep_asking_fleet()]
            if self._rotation is not None:
                looks.append(self._keep_asking_tenant())
            self._tasks = tuple(asyncio.create_task(look) for look in looks)

    async def aclose(self) -> None:
        """Look no longer."""
        tasks, self._tasks = self._tasks, ()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self._fleet_look.aclose()
        await self._tenant_look.aclose()

    @property
    def dismisses(self) -> bool:
        """Whether the fleet can forget an instance."""
        return isinstance(self._fleet, Dismissing)

    async def look(self, kid: str | None = None) -> Picture:
        """Ask everybody now, as after an action; gives what is known then.

        The fleet is asked how far the tokens of `kid` reach. A tenant that has said it is busy is
        not asked before it said.
        """
        self._tenant_at_once = True
        if kid is not None:
            self._wanted.add(kid)
        await asyncio.gather(self._fleet_look.done(), self._tenant_look.done())
        return self.picture

    def outdate(self) -> None:
        """Have the next page wait for a new look, after an action."""
        self._actions += 1

    async def recent(self, within: float = 2 * WATCHED_SECONDS) -> Picture:
        """A picture of the last `within` seconds; or an older one, if answers take too long."""
        at = self.picture.fleet_at
        is_new = at is not None and 0 <= self.clock.time() - at <= within
        if not is_new or self._actions_seen < self._actions:
            with suppress(TimeoutError):
                async with asyncio.timeout(LONGEST_LOOK_SECONDS):
                    await asyncio.gather(self._fleet_look.done(), self._tenant_look.done())
        return self.picture

    def record(self, entry: Entry) -> None:
        """Add what was done in the console to the timeline."""
        self._recorded.append(entry)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Look more often in this block."""
        self.watchers += 1
        self._wake.set()
        try:
            yield
        finally:
            self.watchers -= 1

    async def next_picture(self, after: Picture) -> Picture:
        """The picture, once there is another than `after`."""
        while self.picture is after:
            await self._changed.wait()
        return self.picture

    # --- looking by itself ---

    async def _keep_asking_fleet(self) -> None:
        while True:
            await self._asked(self._fleet_look)
            await self._pause(WATCHED_SECONDS if self.watchers else UNWATCHED_SECONDS)

    async def _keep_asking_tenant(self) -> None:
        while True:
            await self._asked(self._tenant_look)
            await self._pause(TENANT_SECONDS if self.watchers else TENANT_UNWATCHED_SECONDS)

    async def _asked(self, look: Shared) -> None:
        try:
            await look.done()
        except Exception:  # noqa: BLE001 - an unforeseen one must not end the looking
            logger.exception("the console could not put its picture together")

    async def _pause(self, seconds: float) -> None:
        """Wait; shorter if somebody begins to watch."""
        self._wake.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()

    # --- one look ---

    async def _ask_fleet(self) -> None:
        actions = self._actions
        with self._noting("fleet"):
            states = await self._instances()
            self._note_instances(states)
            self._note_decisions(await self._decisions())
        await self._read_journal()
        self.publish()
        self._actions_seen = actions

    async def _instances(self) -> tuple[InstanceState, ...]:
        """What instances show, and with it how far the tokens of one key reach.

        Each look asks for one key in turn, and for those that are wanted.
        """
        kids = self._known.kids()[0] or [_ANY_KID]
        asked = {kids[self._next_kid % len(kids)], *self._wanted}
        self._next_kid += 1
        self._wanted.clear()
        reaches = {kid: reach for kid, reach in self._known.reaches.items() if kid in kids}
        states: tuple[InstanceState, ...] = ()
        for kid in asked:
            seen = await self._fleet.observe(kid)
            states = seen.states
            reaches[kid] = Reach(seen.latest_expiry or 0.0, seen.longest_lifetime or 0.0)
        self._known = replace(self._known, reaches=reaches)
        return states

    async def _decisions(self) -> Mapping[str, Distrusted]:
        shown = self._fleet.distrusted
        return dict(await shown() if callable(shown) else shown)

    async def _ask_tenant(self) -> None:
        rotation = self._rotation
        if rotation is None:
            return
        at_once, self._tenant_at_once = self._tenant_at_once, False
        now = self.clock.monotonic()
        if now < (self._tenant_busy_until if at_once else self._tenant_due):
            return
        self._tenant_due = now + TENANT_SECONDS
        with self._noting("tenant"):
            try:
                self._note_keys(tuple(await rotation.keys.list()))
            except RateLimitedError as error:
                self._tenant_busy_until = now + (error.retry_after or TENANT_SECONDS)
                self._tenant_due = max(self._tenant_due, self._tenant_busy_until)
                raise
        self.publish()

    async def _read_journal(self) -> None:
        if self._rotation is None:
            return
        tenant = self._rotation.keys.base_url
        with self._noting("journal"):
            events = await self._rotation.events()
            here = [event for event in events if event.intent.tenant == tenant]
            self._journaled = tuple(timeline.of_journal(here))
            self._journaled_incidents = timeline.incidents(here)

    @contextmanager
    def _noting(self, source: Source) -> Iterator[None]:
        """Make an error in this block the source's Problem; its end without one ends that."""
        try:
            yield
        except JWKSGuardError as error:
            self._fails(source, str(error))
        except Exception as error:  # noqa: BLE001 - an unforeseen one must not end the looking
            logger.exception("the console could not ask the %s", source)
            self._fails(source, f"{type(error).__name__}, which was not expected; see the log.")
        else:
            self._problems.pop(source, None)

    def _fails(self, source: Source, cause: str) -> None:
        before = self._problems.get(source)
        since = self.clock.time() if before is None else before.since
        self._problems[source] = Problem(source=source, cause=cause, since=since)

    # --- what is new ---

    def _note_instances(self, states: tuple[InstanceState, ...]) -> None:
        now, before = self.clock.time(), self._known
        self._history.add(states, now)
        self._known = before.showing(states, now)
        if before.fleet_at is not None:
            old = {row.id: row for row in before.instances(before.fleet_at)}
            new = {row.id: row for row in self._known.instances(now)}
            self._seen.extend(islice(timeline.of_instances(old, new, now), _MOST_NEWS))

    def _note_decisions(self, decisions: Mapping[str, Distrusted]) -> None:
        before = self._known.decisions
        if decisions == before:  # a fleet may hold thousands
            return
        self._seen.extend(timeline.lifted(before, decisions, self.clock.time()))
        self._decided = timeline.merged(timeline.of_decisions(decisions))[:_MOST_NEWS]
        self._known = replace(self._known, decisions=decisions)

    def _note_keys(self, keys: tuple[SigningKey, ...]) -> None:
        now = self.clock.time()
        if self._known.keys is not None:
            before, after = ({key.kid: key for key in each} for each in (self._known.keys, keys))
            self._seen.extend(timeline.of_keys(before, after, now))
        self._known = replace(self._known, keys=keys, tenant_at=now)

    # --- the picture ---

    def publish(self) -> None:
        """Show what is known now to everybody who watches."""
        self.picture = self._assembled()
        before, self._changed = self._changed, asyncio.Event()
        before.set()

    def _assembled(self) -> Picture:
        incidents = self._incidents()
        here = {row.report.operation for row in incidents}
        others = (each for each in self._journaled_incidents if each.operation not in here)
        picture = assembled(
            self._known,
            self._history,
            self._verdict,
            timeline.merged(self._journaled, self._decided, self._seen, self._recorded),
            tuple(self._problems.values()),
            self.clock.time(),
        )
        return replace(picture, incidents=incidents, journaled=next(others, None))

    def _verdict(self, key: SigningKey, seen: Observed) -> RevocationReadiness | None:
        if self._rotation is None:
            return None
        try:
            return self._rotation.verdict(key, self._known.keys or (), seen)
        except ManagementAPIError:  # no key is current, or several are
            return None
