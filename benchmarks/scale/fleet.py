"""2 to 32 instances on one Redis: when a decision reaches the last one, what Redis has to do."""

from __future__ import annotations

import math
import shutil
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from tempfile import TemporaryDirectory
from typing import Any

from redis import Redis

from benchmarks.scale.processes import Helper, process, wait_for_port
from benchmarks.scale.series import Part, Runs
from benchmarks.scale.timing import rounds_within
from benchmarks.tenants import free_port

SIZES = (2, 4, 8, 16, 32)
PROCESSES = 4
DECISIONS, IDLE_ROUNDS = 10, 3
IDLE_SECONDS = 4.0  # two of the exchanges that an instance makes every `poll_interval`
SECONDS = 20.0  # for the decisions at each size, unless three take longer
SETTLED_SECONDS = 0.5  # less than until an instance looks at Redis by itself
SPARE_KEYS = 2


def measured(
    sizes: Sequence[int] = SIZES, decisions: int = DECISIONS, idle_rounds: int = IDLE_ROUNDS
) -> Part:
    """A new Redis and new instances for each size."""
    if shutil.which("redis-server") is None:
        sys.exit("This benchmark needs redis-server:\n    apt-get install -y redis-server")
    runs, facts = Runs(), {}
    for size in sizes:
        with _redis() as (url, redis), _instances(url, size, decisions + SPARE_KEYS) as helpers:
            for _ in range(idle_rounds):
                _idle(redis, size, runs)
            for number in rounds_within(SECONDS, decisions):
                _decided(helpers, number, redis, size, runs)
            clients = redis.info("clients")
            runs.add("connections", "", size, clients["connected_clients"] - 1)
            facts["maxclients"] = float(clients["maxclients"])
    return Part("fleet", "instance", runs.series(), facts=facts)


def _idle(redis: Any, size: int, runs: Runs) -> None:
    """What Redis does while nothing is decided."""
    began, before = _cleared(redis)
    time.sleep(IDLE_SECONDS)
    seconds = time.monotonic() - began
    load = _load(redis, before)
    runs.add("idle: commands", "/s", size, load["commands"] / seconds)
    runs.add("idle: traffic per instance", "KB/s", size, load["bytes"] / seconds / size / 1e3)
    runs.add("idle: processor of Redis", "ms/s", size, load["cpu"] / seconds * 1e3)
    states = [redis.strlen(name) for name in redis.scan_iter("*:state:*")]
    runs.add("idle: state of an instance", "bytes", size, statistics.mean(states))
    runs.add("idle: memory of Redis", "MB", size, redis.info("memory")["used_memory"] / 1e6)


def _decided(helpers: Sequence[Helper], number: int, redis: Any, size: int, runs: Runs) -> None:
    """One decision, made by an instance of each process in turn."""
    key = number + SPARE_KEYS
    for helper in helpers:
        helper.send(key=key, watch=True)
    for helper in helpers:
        helper.answer()
    _, before = _cleared(redis)
    decider = helpers[number % len(helpers)]
    for helper in helpers:
        helper.send(key=key, watch=False, decide=helper is decider)
    said = {helper: helper.answer() for helper in helpers}
    last = max(max(each["refused"]) for each in said.values())
    runs.took("decision: distrust to last refusal", "ms", size, last - said[decider]["began"])
    time.sleep(SETTLED_SECONDS)  # the instances' exchanges that the decision caused come to an end
    load = _load(redis, before)
    runs.add("decision: commands", "", size, load["commands"])
    runs.took("decision: processor of Redis", "ms", size, load["cpu"])


def _cleared(redis: Any) -> tuple[float, float]:
    """When the counters of Redis were set to 0, and the processor time that it had ."""
    redis.config_resetstat()
    cpu = redis.info("cpu")
    return time.monotonic(), cpu["used_cpu_sys"] + cpu["used_cpu_user"]


def _load(redis: Any, cpu_before: float) -> dict[str, float]:
    """What Redis did since, less what it was asked for here."""
    cpu, traffic = redis.info("cpu"), redis.info("stats")
    commands = redis.info("commandstats")
    ours = ("cmdstat_info", "cmdstat_config|resetstat", "cmdstat_config")
    calls = sum(each["calls"] for name, each in commands.items() if name not in ours)
    return {
        "commands": calls,
        "bytes": traffic["total_net_input_bytes"] + traffic["total_net_output_bytes"],
        "cpu": cpu["used_cpu_sys"] + cpu["used_cpu_user"] - cpu_before,
    }


@contextmanager
def _redis() -> Iterator[tuple[str, Any]]:
    """The URL of a Redis of its own, and a client of it."""
    with TemporaryDirectory() as folder:
        port = free_port()
        settings = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
        with process(["redis-server", *settings], {}):
            wait_for_port(port)
            url = f"redis://127.0.0.1:{port}"
            with Redis.from_url(url) as client:
                yield url, client


@contextmanager
def _instances(redis: str, size: int, keys: int) -> Iterator[list[Helper]]:
    """The processes, once all instances have joined."""
    each = math.ceil(size / PROCESSES)
    counts = [min(each, size - begin) for begin in range(0, size, each)]
    with ExitStack() as running:
        helpers = [
            running.enter_context(
                closing(Helper("benchmarks.scale.instances", redis, str(count), str(keys)))
            )
            for count in counts
        ]
        for helper in helpers:
            helper.answer()
        yield helpers
