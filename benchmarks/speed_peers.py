"""Our verification against the peers', each in a process of its own, all in turn.

Tokens are verified one after the other, so a figure is what one request waits for its token. A
server with many requests at once gets more out of `jose`, which checks signatures in other threads.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from benchmarks.rounds import (
    Ratio,
    Rounds,
    Time,
    at_most,
    cpu,
    ratio_of,
    time_of,
    turned,
)
from benchmarks.tenants import access_token, access_tokens, bad_tokens, loopback_tenant
from benchmarks.workers import (
    NODE_PEERS,
    OURS,
    OWN,
    PEERS,
    RUST_PEERS,
    PeerError,
    PeerUnavailableError,
    Worker,
)
from jwks_guard.testing import LocalTenant

RUNS, ROUNDS = (
    at_most(5),
    at_most(6),
)  # each run in processes of its own, whose memory lies otherwise
SLICES, CALLS = 10, 30  # of a consumer's turn, see _measured
WARM_UP = 40  # slices; node compiles what it sees often enough


@dataclass(frozen=True, slots=True)
class Figures:
    """What one consumer takes for a token.

    `bare` is the signature check in the same process. `new` is a token that it never saw, `again`
    one that it saw before. `cpu_to_ours` compares the processor's time for a new token.
    """

    name: str
    runtime: str
    versions: Mapping[str, str]
    bare: Time
    new: Time
    again: Time
    new_to_ours: Ratio
    cpu_to_ours: Ratio
    again_to_ours: Ratio
    new_to_bare: Ratio


def faster(peers: Sequence[Figures]) -> dict[str, dict[str, Ratio]]:
    """The peers whose time is less than ours, and by how much, by case."""
    others = [each for each in peers if each.name not in OWN]
    return {
        "new token": {e.name: e.new_to_ours for e in others if e.new_to_ours.median < 1},
        "token seen before": {
            e.name: e.again_to_ours for e in others if e.again_to_ours.median < 1
        },
    }


def against_peers(runs: int = RUNS) -> tuple[list[Figures], dict[str, str]]:
    """Our figures and each peer's; and why those that are missing are."""
    unavailable: dict[str, str] = {}
    measured: list[Rounds] = []
    workers: list[Worker] = []
    with loopback_tenant() as (tenant, jwks_uri):
        for _ in range(runs):
            with ExitStack() as running:
                workers = []
                for name in (*OWN, *RUST_PEERS, *PEERS):
                    if name not in unavailable:
                        with _or_without(name, unavailable):
                            worker = running.enter_context(Worker(name))
                            workers.append(_proven(worker, tenant, jwks_uri))
                measured.append(_measured(workers, tenant, unavailable))
    return [_figures(worker, measured) for worker in _left(workers, unavailable)], unavailable


@contextmanager
def _or_without(name: str, unavailable: dict[str, str]) -> Iterator[None]:
    """Note why a peer can't be measured, and go on; without us there is nothing to compare."""
    try:
        yield
    except (PeerUnavailableError, PeerError) as error:
        if name == OURS:
            raise
        unavailable[name] = str(error).splitlines()[-1].removeprefix(f"{name}: ")


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
    taken = {
        "new": [worker.time(tokens) for tokens in slices],
        "again": [worker.time(tokens) for tokens in slices],
        "bare": [worker.bare(tokens[0], CALLS) for tokens in slices],
    }
    for case, figures in taken.items():
        name = f"{worker.name}, {case}"
        rounds.add(name, min(each.seconds for each in figures) / CALLS)
        rounds.add(cpu(name), min(each.cpu for each in figures) / CALLS)


def _figures(worker: Worker, runs: Sequence[Rounds]) -> Figures:
    bare, new, again = (f"{worker.name}, {case}" for case in ("bare", "new", "again"))
    return Figures(
        name=worker.name,
        runtime="node" if worker.name in NODE_PEERS else "python",
        versions=worker.versions,
        bare=time_of(runs, bare),
        new=time_of(runs, new),
        again=time_of(runs, again),
        new_to_ours=ratio_of(runs, new, f"{OURS}, new"),
        cpu_to_ours=ratio_of(runs, cpu(new), cpu(f"{OURS}, new")),
        again_to_ours=ratio_of(runs, again, f"{OURS}, again"),
        new_to_bare=ratio_of(runs, new, bare),
    )
