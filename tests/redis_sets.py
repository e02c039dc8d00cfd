"""Several real Redis servers: a primary with its replica and a Sentinel, and a cluster."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from redis import Redis, RedisError, ResponseError

from tests.process.programs import require_program, wait_until
from tests.redis_server import RedisServer, free_port

SERVICE = "mymaster"
_AT_ONCE = "--repl-diskless-sync-delay 0 "


@contextmanager
def servers(number: int, settings: str = "") -> Iterator[list[RedisServer]]:
    """So many that run until the end of the block."""
    require_program("redis-server", "apt-get install -y redis-server")
    with tempfile.TemporaryDirectory() as folder, ExitStack() as ends:
        started = []
        for each in range(number):
            home = Path(folder) / str(each)
            home.mkdir()
            server = RedisServer(str(home), settings=_AT_ONCE + settings.format(bus=free_port()))
            server.start()
            ends.callback(server.kill)
            started.append(server)
        yield started


@contextmanager
def pair() -> Iterator[list[RedisServer]]:
    """A primary and its replica, in this order."""
    with servers(2) as nodes:
        with nodes[1].client() as client:
            client.replicaof("127.0.0.1", nodes[0].port)
        wait_until(lambda: _follows(nodes[1]))
        yield nodes


class Replicated:
    """Two servers, of which one is the primary, and a Sentinel that sees to it."""

    def __init__(self, nodes: list[RedisServer], port: int, pid: int) -> None:
        self.nodes = nodes
        self._pid = pid
        self.url = f"redis+sentinel://127.0.0.1:{port}/{SERVICE}/0"
        self._sentinel: Any = Redis(port=port, socket_timeout=5.0)

    def ready(self) -> None:
        """Start what was killed; both are empty and replicate when this returns."""
        for each in self.nodes:
            each.start()
        with suppress(RedisError), self.replica.client() as client:  # Sentinel takes its time
            if _role(self.replica) != "slave":
                client.replicaof("127.0.0.1", self.primary.port)
        wait_until(self._replicates)
        with self.primary.client() as client:
            client.flushall()
            wait_until(lambda: client.wait(1, 1000) == 1)

    @property
    def primary(self) -> RedisServer:
        """The one that Sentinel names."""
        _, port = self._sentinel.sentinel_get_master_addr_by_name(SERVICE)
        (found,) = [each for each in self.nodes if each.port == port]
        return found

    @property
    def replica(self) -> RedisServer:
        (found,) = [each for each in self.nodes if each is not self.primary]
        return found

    def fail_over(self) -> None:
        """Have Sentinel exchange the two."""
        before = self.primary
        wait_until(lambda: self._moved_from(before))

    def _moved_from(self, before: RedisServer) -> bool:
        if self.primary is not before:
            return _role(self.primary) == "master"
        with suppress(ResponseError):  # one goes on, or it has not looked at the replica yet
            self._sentinel.sentinel_failover(SERVICE)
        return False

    def await_another_than(self, before: RedisServer) -> None:
        """Return once Sentinel names another primary, and that takes writes."""
        wait_until(lambda: self.primary is not before and _role(self.primary) == "master")

    @contextmanager
    def sentinel_frozen(self) -> Iterator[None]:
        """Sentinel accepts connections, and answers nothing."""
        os.kill(self._pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self._pid, signal.SIGCONT)

    def close(self) -> None:
        self._sentinel.close()

    def _replicates(self) -> bool:
        try:
            state = self._sentinel.sentinel_master(SERVICE)
            with self.primary.client() as primary, self.replica.client() as replica:
                link = replica.info("replication").get("master_link_status")
                connected = primary.info("replication").get("connected_slaves")
        except (RedisError, ValueError):
            return False
        return (link, connected, state["flags"]) == ("up", 1, "master")


@contextmanager
def replicated() -> Iterator[Replicated]:
    with pair() as nodes, tempfile.TemporaryDirectory() as folder:
        port, settings = free_port(), Path(folder) / "sentinel.conf"
        settings.write_text(
            f"port {port}\nbind 127.0.0.1\nlogfile {folder}/sentinel.log\n"
            f"sentinel monitor {SERVICE} 127.0.0.1 {nodes[0].port} 1\n"
            f"sentinel down-after-milliseconds {SERVICE} 500\n"
            f"sentinel failover-timeout {SERVICE} 1000\n"
        )
        process = subprocess.Popen(
            ["redis-server", str(settings), "--sentinel"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            process_group=0,
        )
        both = Replicated(nodes, port, process.pid)
        try:
            both.ready()
            yield both
        finally:
            both.close()
            process.kill()
            process.wait()


def _follows(server: RedisServer) -> bool:
    with server.client() as client:
        return bool(client.info("replication").get("master_link_status") == "up")


def _role(server: RedisServer) -> str:
    try:
        with server.client() as client:
            return str(client.info("replication")["role"])
    except RedisError:
        return ""


class Sharded:
    """A cluster of three primaries, each with a third of the slots, and a replica.

    The replica is that of the node which has the slot of a key; the two may change places.
    """

    def __init__(self, members: list[RedisServer], key: str) -> None:
        self.members = members
        self.slot = int(_told(members[0], "CLUSTER KEYSLOT", key))

    @property
    def owner(self) -> RedisServer:
        """The primary of the slot, as those that run say."""
        (found,) = {self._owner_by(each) for each in self._running}
        assert found is not None
        return found

    @property
    def nodes(self) -> list[RedisServer]:
        """The primaries."""
        return [each for each in self.members if _role(each) == "master"]

    def ready(self) -> None:
        """Start what was killed; all are empty, and the replica follows, when this returns."""
        for each in self.members:
            each.start()
        wait_until(self._is_whole)
        for each in self.nodes:
            _told(each, "FLUSHALL")

    def fail_over(self) -> None:
        """Have the owner and its replica change places; no connection is closed."""
        (replica,) = set(self.members) - set(self.nodes)

        def moved() -> bool:
            if self._agreed() is replica:
                return True
            with suppress(ResponseError):  # it is the primary by now, and not all have heard of it
                _told(replica, "CLUSTER FAILOVER")
            return False

        wait_until(moved)

    def await_new_owner(self) -> None:
        """Return once all that run agree on one that runs."""
        wait_until(lambda: self._agreed() in self._running)

    @contextmanager
    def slot_moved(self) -> Iterator[None]:
        """The slot, with what is in it, lies on another node while the block runs."""
        owner = self.owner
        (other, *_) = [each for each in self.nodes if each is not owner]
        self._move(owner, other)
        try:
            yield
        finally:
            self._move(other, owner)

    def _move(self, source: RedisServer, target: RedisServer) -> None:
        ids = {each: _told(each, "CLUSTER MYID").decode() for each in (source, target)}
        _told(target, "CLUSTER SETSLOT", self.slot, "IMPORTING", ids[source])
        _told(source, "CLUSTER SETSLOT", self.slot, "MIGRATING", ids[target])
        while keys := _told(source, "CLUSTER GETKEYSINSLOT", self.slot, 100):
            for key in keys:
                _told(source, "MIGRATE", "127.0.0.1", target.port, key, 0, 5000)
        for each in (target, source, *self.nodes):
            _told(each, "CLUSTER SETSLOT", self.slot, "NODE", ids[target])

    @property
    def _running(self) -> list[RedisServer]:
        return [each for each in self.members if _role(each)]

    def _agreed(self) -> RedisServer | None:
        named = {self._owner_by(each) for each in self._running}
        return named.pop() if len(named) == 1 else None

    def _owner_by(self, asked: RedisServer) -> RedisServer | None:
        """The owner as `asked` names it; none for a moment of a failover."""
        by_port = {each.port: each for each in self.members}
        ports = [
            primary[1]
            for first, last, primary, *_ in _told(asked, "CLUSTER SLOTS")
            if first <= self.slot <= last
        ]
        return by_port[ports[0]] if ports else None

    def _is_whole(self) -> bool:
        replicas = set(self.members) - set(self.nodes)
        return (
            len(replicas) == 1
            and all(map(_knows_all, self.members))
            and all(map(_follows, replicas))
            and self._agreed() is not None
        )


@contextmanager
def sharded(key: str) -> Iterator[Sharded]:
    """A cluster in which the node with the slot of `key` has a replica."""
    settings = "--cluster-enabled yes --cluster-port {bus} --cluster-node-timeout 1000"
    with servers(4, settings) as (*nodes, spare):
        for number, each in enumerate(nodes):
            first, last = 5461 * number, 16383 if number == 2 else 5461 * (number + 1) - 1
            _told(each, "CLUSTER ADDSLOTSRANGE", first, last)
            _told(each, "CLUSTER SET-CONFIG-EPOCH", number + 1)
        for each in [*nodes[1:], spare]:
            _told(each, "CLUSTER MEET", "127.0.0.1", nodes[0].port, _bus(nodes[0]))
        wait_until(lambda: all(map(_knows_all, [*nodes, spare])))
        cluster = Sharded([*nodes, spare], key)
        _told(spare, "CLUSTER REPLICATE", _told(cluster.owner, "CLUSTER MYID").decode())
        cluster.ready()
        yield cluster


def _told(server: RedisServer, *command: Any) -> Any:
    with server.client() as client:
        return client.execute_command(*command)


def _bus(server: RedisServer) -> int:
    with server.client() as client:
        return int(client.config_get("cluster-port")["cluster-port"])


def _knows_all(server: RedisServer) -> bool:
    info = _told(server, "CLUSTER INFO")
    return (info["cluster_known_nodes"], info["cluster_state"]) == ("4", "ok")
