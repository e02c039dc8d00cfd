"""Our verification against the peers', each in a process of its own, all in turn.

Tokens are verified one after the other, so a figure is what one request waits for its token. A
server with many requests at once gets more out of `jose`, which checks signatures in other threads.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from benchmarks.rounds import Rounds, turned
from benchmarks.tenants import access_token, access_tokens, bad_tokens, loopback_tenant
from benchmarks.workers import NODE_PEERS, OURS, PEERS, PeerError, PeerUnavailableError, Worker
from jwks_guard.testing import LocalTenant

ROUNDS = 30
SLICES, CALLS = 10, 30  # of a consumer's turn, see _measured
WARM_UP = 40  # slices; node compiles what it sees often enough


@dataclass(frozen=True, slots=True)
class Figures:
    """What one consumer takes for a token, ratios being medians over rounds.

    `bare` is the signature check in the same process. `new` is a token that it never saw, `again`
    one that it saw before.
    """

    name: str
    runtime: str
    versions: Mapping[str, str]
    bare_microseconds: float
    new_microseconds: float
    new_to_bare: float
    new_to_ours: float
    again_microseconds: float
    again_to_ours: float


def against_peers() -> tuple[list[Figures], dict[str, str]]:
    """Our figures and each peer's; and why those that are missing are."""
    unavailable: dict[str, str] = {}
    workers: list[Worker] = []
    with loopback_tenant() as (tenant, jwks_uri), ExitStack() as running:
        for name in (OURS, *PEERS):
            with _or_without(name, unavailable):
                worker = running.enter_context(Worker(name))
                workers.append(_proven(worker, tenant, jwks_uri))
        rounds = _measured(workers, tenant, unavailable)
        return [_figures(worker, rounds) for worker in _left(workers, unavailable)], unavailable


@contextmanager
def _or_without(name: str, unavailable: dict[str, str]) -> Iterator[None]:
    """Note why a peer can't be measured, and go on; without us there is nothing to compare."""
    try:
        yield
    except (PeerUnavailableError, PeerError) as error:
        if name == OURS:
            raise
        unavailable[name] = str(error).splitlines()[-1]


def _left(workers: Sequence[Worker], unavailable: Mapping[str, str]) -> list[Worker]:
    return [worker for worker in workers if worker.name not in unavailable]


def _proven(worker: Worker, tenant: LocalTenant, jwks_uri: str) -> Worker:
    """`worker`, once it was seen to do the same job as the others.

    Raises PeerUnavailableError if it refuses a good token or accepts a bad one.
    """
    worker.open(tenant.issuer, jwks_uri, tenant.audience, jwks=tenant.jwks())
    (refusal,) = worker.verify([access_token(tenant)])
    if refusal is not None:
        raise PeerUnavailableError(f"it refused a good token: {refusal}")
    bad = bad_tokens(tenant)
    for (what, _), result in zip(bad.items(), worker.verify([*bad.values()]), strict=True):
        if result is None:
            raise PeerUnavailableError(f"it accepted a token {what}")
    return worker


def _measured(
    workers: Sequence[Worker], tenant: LocalTenant, unavailable: dict[str, str]
) -> Rounds:
    """Rounds in which each worker has a turn, of which the best of SLICES slices counts.

    The first slice finds the processor's caches full of other things, and where other programs
    run, a slice that lasts longer is disturbed more often: that would count against the slow.
    """
    for worker in workers:
        with _or_without(worker.name, unavailable):
            worker.time(access_tokens(tenant, CALLS) * WARM_UP)
    rounds = Rounds()
    for number in range(ROUNDS):
        slices = [access_tokens(tenant, CALLS) for _ in range(SLICES)]
        for worker in turned(_left(workers, unavailable), number):
            with _or_without(worker.name, unavailable):
                _take_turn(worker, slices, rounds)
    return rounds


def _take_turn(worker: Worker, slices: Sequence[list[str]], rounds: Rounds) -> None:
    seconds = {
        "new": [worker.time(tokens) for tokens in slices],
        "again": [worker.time(tokens) for tokens in slices],
        "bare": [worker.bare(tokens[0], CALLS) for tokens in slices],
    }
    for case, figures in seconds.items():
        rounds.add(f"{worker.name}, {case}", min(figures) / CALLS)


def _figures(worker: Worker, rounds: Rounds) -> Figures:
    bare, new, again = (f"{worker.name}, {case}" for case in ("bare", "new", "again"))
    return Figures(
        name=worker.name,
        runtime="node" if worker.name in NODE_PEERS else "python",
        versions=worker.versions,
        bare_microseconds=rounds.microseconds(bare),
        new_microseconds=rounds.microseconds(new),
        new_to_bare=rounds.ratio(new, bare),
        new_to_ours=rounds.ratio(new, f"{OURS}, new"),
        again_microseconds=rounds.microseconds(again),
        again_to_ours=rounds.ratio(again, f"{OURS}, again"),
    )
