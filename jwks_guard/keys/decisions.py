"""What is decided about one issuer's keys in this process, and where else that is known."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import wait

from jwks_guard.base.clock import Clock
from jwks_guard.base.worker import waited
from jwks_guard.distrust.copies import Copies
from jwks_guard.distrust.copy import Copy, SharedCopy
from jwks_guard.distrust.journal import LONGEST_SECONDS, Journal
from jwks_guard.distrust.register import Register
from jwks_guard.distrust.state import Distrusted
from jwks_guard.errors import ConfigurationError
from jwks_guard.keys.fleet import FleetCopy
from jwks_guard.keys.trust import Trust
from jwks_guard.readiness.state import Observed

JOURNAL_PAUSE_SECONDS = 5.0
"""The files are looked at this often, for what other processes wrote."""


class Decisions:
    """Decisions to distrust keys of `issuer`: made in `register`, in effect in `trust`.

    `journal` is the file that the store was given and can't do without, `fleet` the fleet that it
    takes part in. The register's other files and fleets hear of a decision too.
    """

    def __init__(
        self,
        issuer: str,
        register: Register,
        trust: Trust,
        clock: Clock,
        journal: Journal | None,
        fleet: FleetCopy | None,
    ) -> None:
        self._issuer = issuer
        self._register = register
        self._trust = trust
        self._clock = clock
        self._journal = journal
        self._fleet = fleet
        self._exchanged = clock.monotonic()

    # --- the files ---

    async def read(self, *, anew: bool = False) -> None:
        """Return once the files that nobody read yet are read; with `anew` all: others may write.

        Raises ConfigurationError when that is not possible for the file that the store was given.
        """
        if unread := self._unread(anew=anew):
            await waited([journal.begin_exchange() for journal in unread], LONGEST_SECONDS)
            self._require_journal()

    async def reread(self) -> None:
        """Return once what other processes wrote until now is in effect, if the disk answers."""
        self._exchanged = self._clock.monotonic()
        exchanges = [journal.begin_exchange() for journal in self._register.journals]
        await waited(exchanges, LONGEST_SECONDS)

    def exchange_soon(self) -> None:
        """Have the files read and written, without waiting for that."""
        self._exchanged = self._clock.monotonic()
        self._register.exchange_journals()

    def overdue(self) -> bool:
        """Whether the files were not looked at for `JOURNAL_PAUSE_SECONDS`."""
        since = self._clock.monotonic() - self._exchanged
        return since >= JOURNAL_PAUSE_SECONDS and bool(self._register.journals)

    async def written(self) -> None:
        """Wait until the file that the store was given holds what is known here."""
        if self._journal is not None:
            await waited([self._journal.begin_exchange()], LONGEST_SECONDS)

    def _unread(self, *, anew: bool = False) -> list[Journal]:
        """The files to read first: our own, and those of others that nobody tried to read."""
        return [
            journal
            for journal in self._register.journals
            if (anew or not journal.was_read) and (journal is self._journal or not journal.error)
        ]

    def _require_journal(self) -> None:
        journal = self._journal
        if journal is not None and not journal.was_read:
            folder = journal.path.parent
            if not folder.is_dir():
                raise ConfigurationError(
                    f"The folder of snapshot_path, {folder}, is not there. The distrust journal is "
                    "in it, so this verifier does not start without it: create the folder, or "
                    "mount the volume that it is on."
                )
            raise ConfigurationError(
                f"The distrust journal can't be read ({journal.error or 'the disk hangs'}). It "
                "holds decisions to distrust keys, so this verifier does not start without it: "
                "mend its directory, owner, mode or the line that is named, or remove the file and "
                "distrust its keys again."
            )

    # --- what is decided ---

    @property
    def distrusted(self) -> Mapping[str, Distrusted]:
        """The distrusted keys of this issuer by kid; raises ConfigurationError."""
        if unread := self._unread():
            wait([journal.begin_exchange() for journal in unread], LONGEST_SECONDS)
            self._require_journal()
        return self._trust.distrusted

    def decide(
        self, kid: str, *, reason: str, force: bool = False, actor: str | None = None
    ) -> None:
        """Refuse `kid`, and the keys seen under it; in effect here when this returns.

        Raises RevocationRefusedError when this is the only trusted key and `force` is not given.
        `share` tells when the decision is stored and known to the fleet.
        """
        check = None if force else self._trust.require_another
        at = self._clock.time()
        self._register.distrust(self._issuer, kid, reason=reason, at=at, check=check, actor=actor)
        self.exchange_soon()  # at once: no event loop that is busy may hold that up

    async def distrust(
        self, kid: str, *, reason: str, force: bool = False, actor: str | None = None
    ) -> None:
        """Refuse `kid`, and the keys seen under it, from now on and through restarts.

        In effect on this process before the first await. Raises RevocationRefusedError when this
        is the only trusted key and `force` is not given, DistrustNotSharedError when it could not
        be stored or shared.
        """
        self.decide(kid, reason=reason, force=force, actor=actor)
        await self.share()

    async def reinstate(self, kid: str, *, reason: str, actor: str | None = None) -> None:
        """Lift the distrust of `kid`, as far as it is known here, to the journals and to the fleet.

        Raises ConfigurationError and DistrustNotSharedError as Copies.reinstate does.
        """
        own: list[Copy] = [] if self._journal is None else [self._journal]
        required, at = [*own, *self._fleets()], self._clock.time()
        await self._copies().reinstate(kid, reason=reason, at=at, required=required, actor=actor)

    async def share(self) -> None:
        """Have the journals and the fleet know what is distrusted here.

        Raises DistrustNotSharedError, which names those that could not be reached.
        """
        await self._copies().spread()

    async def is_distrusted(self, kid: str) -> bool:
        """Whether `kid` is distrusted here, and wherever that is stored and shared.

        Raises DistrustNotSharedError when the journal or the fleet could not be asked or told.
        """
        await self.share()
        return kid in self._trust.distrusted

    async def observe(self, kid: str) -> Observed | None:
        """What the fleet shows of `kid`, or its error; None without a fleet."""
        return None if self._fleet is None else await self._fleet.observe(kid, self._issuer)

    def require_elsewhere(self) -> None:
        """Raise ConfigurationError where waiting for a fleet would block its own event loop."""
        for fleet in self._fleets():
            fleet.require_elsewhere()

    def _copies(self) -> Copies:
        """The journals of this process and its fleets, those of other stores included."""
        copies = [*self._register.journals, *self._fleets()]
        return Copies(self._register, self._issuer, copies)

    def _fleets(self) -> list[SharedCopy]:
        others = [each for each in self._register.fleets if not each.is_idle]
        own: list[SharedCopy] = [] if self._fleet is None else [self._fleet]
        return list({each.identity: each for each in [*others, *own]}.values())
