"""Any history of several processes ends as the last call says, once all are connected.

The processes are key stores with registers of their own. They have journals, two of them the same
file, and a fleet over a real Redis, from which each can be cut off. What is checked is the rule of
the design: if the last call about a key was `distrust`, the key is distrusted everywhere.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import tempfile
import time
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import redis.asyncio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)
from redis.exceptions import RedisError

from jwks_guard import ConfigurationError, DistrustNotSharedError, KeyStore, Register
from jwks_guard.base.clock import Instant
from jwks_guard.base.histogram import Durations
from jwks_guard.distrust.copy import Copy, CopyError
from jwks_guard.distrust.parts import decoded_part, encoded_part
from jwks_guard.distrust.state import NOTHING, Distrust, Flags, Name, State, merge_into
from jwks_guard.fleet.redis_decisions import RedisDecisions
from jwks_guard.fleet.redis_entries import Entries
from jwks_guard.jose.jwk import VerificationKey, load_jwk
from jwks_guard.keys.fleet import Member
from jwks_guard.readiness.state import Observed
from jwks_guard.readiness.usage import Reach
from jwks_guard.testing.keys import generate_signing_key
from tests.redis_server import RedisServer
from tests.support import PATIENCE, HandClock

ISSUER = "https://issuer.test/"
KIDS = ("k1", "k2")
PROCESSES = 4
EXAMPLES = int(os.environ.get("MACHINE_EXAMPLES", "40"))
"""Bounded here; `make test-long` sets it to thousands."""
SECRET = "a secret of the whole fleet"
HASH, VERSION = "test:decisions", "test:version"
_T = TypeVar("_T")


def _key(kid: str) -> VerificationKey:
    pair = generate_signing_key("ES256", now=0, common_name="issuer.test", kid=kid)
    return load_jwk(pair.jwk)


K1, K2 = map(_key, KIDS)
PUBLISHED = (K1, K2, replace(K1, kid="disguise"))


class MachineFleet:
    """A fleet over the Redis of the test that can be cut off, and can lose answers."""

    def __init__(self, url: str) -> None:
        self.error: str | None = None
        self.reaches: Mapping[Name, Reach] = {}
        self.exchange_counts: Mapping[str, int] = {}
        self.exchange_durations = Durations()
        self.connected = True
        self.loses_answers = False
        self._members: list[Member] = []
        self._redis = redis.asyncio.Redis.from_url(url)
        self._decisions = RedisDecisions("test", Entries([SECRET]))

    async def join(self, member: Member) -> None:
        self._members.append(member)
        with suppress(CopyError):
            await self.exchange()

    async def leave(self, member: Member) -> None:
        self._members.remove(member)

    async def aclose(self) -> None:
        await self._redis.aclose()

    async def exchange(self, offer: Flags = NOTHING) -> None:
        if not self.connected:
            raise CopyError("cut off")
        register = self._members[0].register
        try:
            await self._decisions.exchange(self._redis, register, register.issuers, offer)
        except (TimeoutError, RedisError) as error:  # the machine is busy
            raise CopyError(str(error)) from None
        if self.loses_answers:
            raise CopyError("the answer was lost")

    async def observe(self, kid: str, issuer: str) -> Observed:
        return Observed(())


@dataclass
class Process:
    """One run of a process: its store, register and fleet."""

    fleet: MachineFleet
    path: Path | None
    clock: HandClock
    register: Register = field(default_factory=Register)

    def __post_init__(self) -> None:
        self.store = KeyStore(
            ISSUER,
            register=self.register,
            snapshot_path=self.path,
            fleet=self.fleet,
            background=False,
            clock=self.clock,
        )

    async def exchange(self) -> list[BaseException]:
        """Exchange with every copy; gives what failed."""
        copies: list[Copy] = [*self.register.journals, self.fleet]
        steps = (copy.exchange() for copy in copies)
        results = await asyncio.gather(*steps, return_exceptions=True)
        return [result for result in results if result is not None]

    def publish(self, keys: tuple[VerificationKey, ...]) -> None:
        self.store.trust.publish(keys, (), Instant.now(self.clock))


class Machine(RuleBasedStateMachine):
    """Processes 0 and 1 have journals of their own, 2 and 3 share one."""

    server: ClassVar[RedisServer]

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = Path(tempfile.mkdtemp(prefix="jwks-guard-machine"))
        self.redis = redis.Redis(port=self.server.port)
        self.redis.flushall()
        self.saved: tuple[Any, Any] = ({}, None)
        self.letters: list[tuple[Name, Distrust]] = []
        self.last: dict[str, str] = {}
        self.processes = [self.begin(number) for number in range(PROCESSES)]

    def run(self, step: Coroutine[Any, Any, _T]) -> _T:
        return self.runner.run(step)

    def begin(self, number: int) -> Process:
        path = self.folder / ("shared" if number > 1 else f"own{number}")
        process = Process(MachineFleet(self.server.url), path, HandClock())
        self.run(process.store.ensure_bound())
        return process

    process = st.integers(0, PROCESSES - 1)
    kid = st.sampled_from(KIDS)

    @rule(process=process, kid=kid, times=st.integers(1, 3))
    def distrust(self, process: int, kid: str, times: int) -> None:
        for _ in range(times):
            self.last[kid] = "distrust"
            with suppress(DistrustNotSharedError):
                self.run(
                    self.processes[process].store.decisions.distrust(
                        kid, reason="leaked", force=True
                    )
                )
            assert kid in self.processes[process].store.decisions.distrusted

    @rule(process=process, kid=kid)
    def reinstate(self, process: int, kid: str) -> None:
        store = self.processes[process].store
        try:
            self.run(store.decisions.reinstate(kid, reason="false alarm"))
        except ConfigurationError:
            assert (ISSUER, kid) not in store.register.state.flags
        except DistrustNotSharedError:
            self.last[kid] = "unclear"  # it may be lifted where that was not confirmed
        else:
            self.last[kid] = "reinstate"
            assert kid not in store.decisions.distrusted

    @rule(process=process)
    def exchange(self, process: int) -> None:
        self.run(self.processes[process].exchange())

    @rule(process=process)
    def cut(self, process: int) -> None:
        self.processes[process].fleet.connected = False

    @rule(process=process)
    def heal(self, process: int) -> None:
        self.processes[process].fleet.connected = True

    @rule(process=process, loses=st.booleans())
    def lose_answers(self, process: int, loses: bool) -> None:
        self.processes[process].fleet.loses_answers = loses

    @rule(process=process, orderly=st.booleans())
    def restart(self, process: int, orderly: bool) -> None:
        before = self.processes[process]
        if orderly:
            self.run(before.store.aclose())
        connected = before.fleet.connected
        self.run(before.fleet.aclose())
        path = self.folder / ("shared" if process > 1 else f"own{process}")
        fleet = MachineFleet(self.server.url)
        fleet.connected = connected
        self.processes[process] = Process(fleet, path, before.clock)
        self.run(self.processes[process].store.ensure_bound())

    @rule(process=process)
    def fork(self, process: int) -> None:
        register = self.processes[process].register
        before = register.instance
        register.after_fork()
        assert register.instance != before
        self.run(self.processes[process].store.ensure_bound())

    @rule(process=process, seconds=st.floats(-1e6, 1e6))
    def set_the_clock(self, process: int, seconds: float) -> None:
        self.processes[process].clock.advance(seconds)

    @rule()
    def flush(self) -> None:
        self.redis.flushall()

    @rule()
    def back_up(self) -> None:
        self.saved = self.redis.hgetall(HASH), self.redis.get(VERSION)

    @rule()
    def bring_back_older_data(self) -> None:
        entries, version = self.saved
        self.redis.flushall()
        if entries:
            self.redis.hset(HASH, mapping=entries)
        if version is not None:
            self.redis.set(VERSION, version)

    @rule(process=process)
    def write_a_letter(self, process: int) -> None:
        self.letters += self.processes[process].register.state.flags.items()

    @rule(process=process, data=st.data())
    def deliver_a_letter(self, process: int, data: st.DataObject) -> None:
        if self.letters:
            self.processes[process].register.merge(dict([data.draw(st.sampled_from(self.letters))]))

    @rule(process=process, keys=st.sets(st.sampled_from(range(len(PUBLISHED)))))
    def publish(self, process: int, keys: set[int]) -> None:
        self.processes[process].publish(tuple(PUBLISHED[index] for index in sorted(keys)))

    @invariant()
    def nobody_who_knows_a_standing_decision_accepts_its_key(self) -> None:
        for process in self.processes:
            state, view = process.register.state, process.store.trust.view
            for key in state.of(ISSUER).values():
                assert key.kid not in view.by_kid
                assert not {live.thumbprint for live in view.live} & key.thumbprints

    def teardown(self) -> None:
        try:
            self.connect_all()
            self.require_what_the_last_call_says()
            self.require_the_journals_replay_in_any_order()
        finally:
            for process in self.processes:
                self.run(process.store.aclose())
                self.run(process.fleet.aclose())
            self.redis.close()
            self.runner.close()
            shutil.rmtree(self.folder)

    def connect_all(self) -> None:
        for process in self.processes:
            process.fleet.connected, process.fleet.loses_answers = True, False
        for _ in range(3):
            for process in self.processes:
                given_up = time.monotonic() + PATIENCE
                while failures := self.run(process.exchange()):  # the machine is busy
                    assert time.monotonic() < given_up, failures
            for process in self.processes:  # every message once more, and late
                process.register.merge(NOTHING)
                for name, flag in self.letters:
                    process.register.merge({name: flag})

    def require_what_the_last_call_says(self) -> None:
        states = [process.register.state for process in self.processes]
        for kid in KIDS:
            standing = {kid in state.of(ISSUER) for state in states}
            assert len(standing) == 1, "the processes disagree"
            if self.last.get(kid) == "distrust":
                assert standing == {True}
        flags = {frozenset(map(str, parts_of(state))) for state in states}
        assert len(flags) == 1, "the registers differ"

    def require_the_journals_replay_in_any_order(self) -> None:
        for path in self.folder.glob("*.tombstones"):
            lines = path.read_bytes().splitlines()
            random.Random(1).shuffle(lines)
            held: dict[Name, Distrust] = {}
            merge_into(held, [decoded_part(line) for line in [*lines, *lines]])
            replayed = State().merged(held)
            for kid in KIDS:
                if self.last.get(kid) == "distrust":
                    assert kid in replayed.of(ISSUER)


def parts_of(state: State) -> list[bytes]:
    """The flags as bytes that are the same for the same counters, whatever the words say."""
    return sorted(
        encoded_part(
            name,
            Distrust(
                {r: replace_words(d) for r, d in sorted(flag.made.items())},
                {r: replace_words(d) for r, d in sorted(flag.lifted.items())},
                flag.thumbprints,
            ),
        )
        for name, flag in state.flags.items()
    )


def replace_words(decision: Any) -> Any:
    return type(decision)(decision.number)


def test_the_last_call_about_a_key_decides_wherever_it_was_made(
    running_redis: RedisServer,
) -> None:
    class AtThisRedis(Machine):
        server = running_redis

    run_state_machine_as_test(
        AtThisRedis,
        settings=settings(max_examples=EXAMPLES, stateful_step_count=30, deadline=None),
    )
