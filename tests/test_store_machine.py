"""The store under any sequence of what can happen to it, with the invariants asserted throughout.

The issuer, the cache in front of it and the clock are driven by Hypothesis; the model beside the
store knows what was published when, what is distrusted, and when each answer was made.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from typing import Any, TypeVar

import httpx
import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric import ed25519
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from jwks_guard import (
    InvalidSignatureError,
    InvalidTokenError,
    KeysUnavailableError,
    Register,
    RemovedKeyError,
    RevocationRefusedError,
    RevokedKeyError,
    TokenVerifier,
)
from jwks_guard.base.clock import Instant
from jwks_guard.distrust.state import Distrust
from jwks_guard.jose.jwk import thumbprint
from jwks_guard.verify.verification import KeyNotHeldError
from tests.support import HandClock

ISSUER = "https://issuer.test/"
AUDIENCE = "https://api.test"
KIDS = ["a", "b", "c"]
INTERVAL, MAX_STALE, MAX_UPSTREAM_AGE, BURST, REFILL = 60.0, 600.0, 500.0, 5, 12.0
MATERIAL = [ed25519.Ed25519PrivateKey.generate() for _ in range(4)]
X = [jwt.utils.base64url_encode(key.public_key().public_bytes_raw()).decode() for key in MATERIAL]
T = TypeVar("T")

kids = st.sampled_from(KIDS)
materials = st.integers(0, len(MATERIAL) - 1)


@dataclass(frozen=True)
class Published:
    """One state of the issuer's set: material by kid, and since when it is so."""

    keys: tuple[tuple[str, int], ...]
    since: float


@dataclass
class Edge:
    """What answers the fetches: the issuer, a cache that lags behind it, or a fault.

    `now` is true time, whatever the store's clock says. A cache is honest: its Age is at least as
    long as the state that it shows has been over. For each answer there is when it was made, what
    it showed, and how old it may have been for its `max-age`.
    """

    now: float
    history: list[Published]
    answers: list[tuple[float, Published, float]] = field(default_factory=list)
    max_age: int = 0
    lag: int = 0
    age: int = 0
    fault: str | None = None
    sends_last_modified: bool = True
    fetches: int = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.fetches += 1
        if self.fault == "error":
            return httpx.Response(503, headers={"Retry-After": "7"})
        if self.fault == "garbage":
            return httpx.Response(200, text="<html>")
        if self.fault == "reset":
            raise httpx.ReadError("reset", request=request)
        index = max(0, len(self.history) - 1 - self.lag)
        served, age = self.history[index], self.age
        if index + 1 < len(self.history):
            age = max(age, int(self.now - self.history[index + 1].since))
        self.answers.append((self.now - age, served, min(self.max_age, MAX_UPSTREAM_AGE)))
        keys = [{"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": X[m]} for kid, m in served.keys]
        headers = {
            "Date": formatdate(self.now, usegmt=True),
            "Age": str(age),
        }
        if self.max_age:
            headers["Cache-Control"] = f"public, max-age={self.max_age}"
        if self.sends_last_modified:
            headers["Last-Modified"] = formatdate(served.since, usegmt=True)
        return httpx.Response(200, content=msgspec.json.encode({"keys": keys}), headers=headers)


class StoreMachine(RuleBasedStateMachine):
    """Rotations, withdrawals, distrust, rollbacks, faults, restarts, and the passing of time."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.sleeps = False
        self.ever_held: set[tuple[str, int]] = set()  # since the last restart
        self.folder = Path(tempfile.mkdtemp())
        self.clock = HandClock()
        self.distrusted: dict[str, set[int]] = {}
        now = self.clock.wall
        self.edge = Edge(now, [Published((("a", 0), ("b", 1)), now - 3600)])
        self.verifier = self.made()

    # --- the issuer ---

    @property
    def published(self) -> dict[str, int]:
        return dict(self.edge.history[-1].keys)

    def publish(self, keys: dict[str, int]) -> None:
        if keys and keys != self.published:
            self.time_passes(1)  # Last-Modified has whole seconds
            self.edge.history.append(Published(tuple(keys.items()), self.edge.now))

    @rule(kid=kids, material=materials)
    def add_or_swap(self, kid: str, material: int) -> None:
        self.publish({**self.published, kid: material})

    @rule(kid=kids, other=kids)
    def publish_under_another_kid(self, kid: str, other: str) -> None:
        if kid in self.published:
            self.publish({**self.published, other: self.published[kid]})

    @rule(kid=kids)
    def withdraw(self, kid: str) -> None:
        self.publish({k: m for k, m in self.published.items() if k != kid})

    @rule(lag=st.integers(1, 3), age=st.integers(0, 700))
    def roll_back(self, lag: int, age: int) -> None:
        self.edge.lag, self.edge.age = lag, age

    @rule(seconds=st.sampled_from([0, 30, 400, 5000]))
    def allow_caches(self, seconds: int) -> None:
        self.edge.max_age = seconds

    @rule(fault=st.sampled_from(["error", "garbage", "reset"]))
    def break_down(self, fault: str) -> None:
        self.edge.fault = fault

    @rule()
    def mend(self) -> None:
        self.edge.lag, self.edge.age, self.edge.fault = 0, 0, None

    # --- time ---

    @rule(seconds=st.sampled_from([1, 4, 11, 13, 59, 61, 119, 300, 599]))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.edge.now += seconds

    # Either of these is caught by one of the two clocks, both in one run by neither.

    @precondition(lambda self: self.sleeps)
    @rule(seconds=st.sampled_from([30, 700]))
    def machine_sleeps(self, seconds: float) -> None:
        self.clock.suspend(seconds)
        self.edge.now += seconds

    @precondition(lambda self: not self.sleeps)
    @rule(seconds=st.sampled_from([50, 500]))
    def clock_is_set_back(self, seconds: float) -> None:
        self.clock.set_back(seconds)

    @rule()
    def tick(self) -> None:
        self.run(self.verifier.keys.tick())

    @rule()
    def refresh(self) -> None:
        try:
            self.run(self.verifier.keys.refresh())
        except KeysUnavailableError:
            assert self.edge.fault or self.edge.lag or self.edge.age
        else:
            if not self.edge.lag:
                assert self.held() == set(self.edge.history[-1].keys)

    # --- the operator ---

    @rule(kid=kids, force=st.booleans())
    def distrust(self, kid: str, force: bool) -> None:
        held = self.held()
        before = self.verifier.keys.kids
        try:
            self.run(self.verifier.distrust(kid, reason="test", force=force))
        except RevocationRefusedError:
            assert not force
            assert set(before) <= {kid} | self.same_material(held, kid)
            return
        material = {m for k, m in held | self.ever_held if k == kid}
        self.distrusted.setdefault(kid, set()).update(material)

    @precondition(lambda self: self.distrusted)
    @rule(data=st.data())
    def reinstate(self, data: st.DataObject) -> None:
        kid = data.draw(st.sampled_from(sorted(self.distrusted)))
        self.run(self.verifier.reinstate(kid, reason="test"))
        del self.distrusted[kid]

    @rule()
    def restart(self) -> None:
        self.run(self.verifier.aclose())
        if self.clock.wall < self.edge.now:  # a set clock can't be told from a later restart
            (self.folder / "keys.json").unlink(missing_ok=True)
        self.verifier = self.made()
        self.ever_held = set()
        self.run(self.verifier.keys.start())

    # --- the requests ---

    @rule(kid=kids, material=materials, user=st.integers(0, 2))
    def verify(self, kid: str, material: int, user: int) -> None:
        # A lazy store may take a new set while it verifies: either one may be what it went by.
        was_trusted, kids_before = self.trusted(kid, material), self.verifier.keys.kids
        before = self.held()
        try:
            self.run(self.verifier.verify(self.token(kid, material, user)))
        except RevokedKeyError:
            self.decisions_are_those_of_the_model()
            known = {m for k, m in self.held() | before if k == kid}
            assert self.is_distrusted(kid, known | {material})
        except InvalidSignatureError:
            assert (kid, material) not in self.held() & before
        except RemovedKeyError:
            assert kid not in self.verifier.keys.kids
            assert kid in self.verifier.keys.trust.view.removed, "also in an outage"
        except InvalidTokenError:
            assert kid not in self.verifier.keys.kids
            until = self.verifier.keys.trust.view.trusted_until
            assert not until.reached(Instant.now(self.clock)), "a 401 needs a confirmed set"
        except KeysUnavailableError:
            assert kid not in kids_before
        else:
            self.rightly_accepted(kid, material, self.held() | before)
            return
        assert not was_trusted or not self.trusted(kid, material), "trusted, and yet refused"

    @rule(number=st.integers(0, 10**6))
    def flood(self, number: int) -> None:
        self.run(self.verifier.keys.tick())
        before = self.edge.fetches
        for each in range(8):
            token = self.token(f"bogus-{number}-{each}", 0, 0)
            try:
                self.run(self.verifier.verify(token))
            except (InvalidTokenError, KeysUnavailableError):
                continue
            raise AssertionError("a key that nobody published was accepted")
        assert self.edge.fetches - before <= BURST + 1

    # --- the invariants ---

    @initialize(sends_last_modified=st.booleans(), sleeps=st.booleans())
    def start(self, sends_last_modified: bool, sleeps: bool) -> None:
        self.sleeps = sleeps
        self.edge.sends_last_modified = sends_last_modified
        self.run(self.verifier.keys.start())

    @invariant()
    def every_token_ever_good_is_judged_right_without_a_fetch(self) -> None:
        """The path of a hit and of a known key, with the cache filled by the steps before."""
        ever = {pair for state in self.edge.history for pair in state.keys}
        for kid, material in sorted(ever):
            if self.accepted_now(self.token(kid, material, 0)):
                self.rightly_accepted(kid, material, self.held())
            else:
                assert not self.trusted(kid, material)

    @invariant()
    def nothing_distrusted_is_in_the_view(self) -> None:
        for key in self.verifier.keys.trust.view.live:
            assert key.kid not in self.distrusted
            material = X.index(key.members["x"])
            assert all(material not in covered for covered in self.distrusted.values())

    @invariant()
    def what_was_held_is_remembered(self) -> None:
        self.ever_held |= self.held()

    @invariant()
    def both_bounds_are_reported(self) -> None:
        health = self.verifier.health()
        if health.trusted_until is not None and health.confirmed_at is not None:
            assert health.trusted_until == health.confirmed_at + MAX_STALE
        assert INTERVAL < health.detection_bound <= health.trust_bound
        assert MAX_STALE <= health.trust_bound <= MAX_STALE + MAX_UPSTREAM_AGE

    @invariant()
    def what_is_held_is_one_state_of_the_issuer(self) -> None:
        """Or, by an answer that is older than the newest one, what both of them list."""
        held, published = self.held(), self.verifier.keys.trust.published
        shown = [set(state.keys) for _, state, _ in self.edge.answers]
        if published.is_newest:
            assert not held or held in shown
        else:
            assert any(held <= keys for keys in shown)
            assert {(key.kid, key.thumbprint) for key in published.keys} <= published.listed

    @invariant()
    def decisions_are_those_of_the_model(self) -> None:
        assert set(self.verifier.distrusted) == set(self.distrusted)
        for kid, key in self.verifier.distrusted.items():
            covered = {m for m in range(len(X)) if self.thumbprint(m) in key.thumbprints}
            assert self.distrusted[kid] <= covered
            self.distrusted[kid] = covered

    def teardown(self) -> None:
        try:
            self.run(self.verifier.aclose())
        finally:
            self.loop.close()
            shutil.rmtree(self.folder)

    # --- the model's helpers ---

    def made(self) -> TokenVerifier:
        return TokenVerifier(
            ISSUER,
            AUDIENCE,
            jwks_uri=f"{ISSUER}jwks",
            algorithms=["EdDSA"],
            refresh_interval=INTERVAL,
            max_stale=MAX_STALE,
            max_upstream_age=MAX_UPSTREAM_AGE,
            clock=self.clock,
            http_client=httpx.AsyncClient(transport=httpx.MockTransport(self.edge)),
            register=Register(),  # as a process has that has just begun
            snapshot_path=self.folder / "keys.json",
            background=False,
        )

    def run(self, step: Coroutine[Any, Any, T]) -> T:
        async def settled() -> T:
            try:
                return await step
            finally:
                while len(tasks := asyncio.all_tasks()) > 1:  # a refresh that nobody waits for
                    await asyncio.wait(tasks - {asyncio.current_task()})

        return self.loop.run_until_complete(settled())

    def token(self, kid: str, material: int, user: int) -> str:
        claims = {"iss": ISSUER, "aud": AUDIENCE, "exp": 4_000_000_000, "sub": str(user)}
        return jwt.encode(claims, MATERIAL[material], algorithm="EdDSA", headers={"kid": kid})

    def accepted_now(self, token: str) -> bool:
        verification = self.verifier.verification
        found = verification.look_up(token)
        try:
            return bool(verification.fresh(*found) if isinstance(found, tuple) else found)
        except (InvalidTokenError, KeyNotHeldError):
            return False

    def rightly_accepted(self, kid: str, material: int, held: set[tuple[str, int]]) -> None:
        assert not self.is_distrusted(kid, {material})
        assert (kid, material) in held
        assert any(
            (kid, material) in state.keys and self.edge.now - at < MAX_STALE + allowed
            for at, state, allowed in self.edge.answers
        ), "the issuer showed this key within the trust bound"

    def held(self) -> set[tuple[str, int]]:
        keys = self.verifier.keys.trust.published.keys
        return {(key.kid, X.index(key.members["x"])) for key in keys}

    def same_material(self, held: set[tuple[str, int]], kid: str) -> set[str]:
        """The held kids whose key is one that ever stood under `kid`."""
        keys = self.verifier.keys
        seen = keys.trust.published.seen.get(kid, frozenset())
        covered = keys.register.state.flags.get((ISSUER, kid), Distrust()).thumbprints
        return {k for k, m in held if self.thumbprint(m) in seen | covered}

    def thumbprint(self, material: int) -> str:
        return thumbprint({"kty": "OKP", "crv": "Ed25519", "x": X[material]})

    def is_distrusted(self, kid: str, material: set[int]) -> bool:
        return kid in self.distrusted or any(material & m for m in self.distrusted.values())

    def trusted(self, kid: str, material: int) -> bool:
        keys = self.verifier.keys
        live = {(key.kid, X.index(key.members["x"])) for key in keys.trust.view.live}
        return kid in keys.kids and (kid, material) in live


StoreMachine.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestStoreMachine = StoreMachine.TestCase
