"""A real Redis of a test's own: on a port of loopback, without a disk, ended by its process id.

`running_redis` and `redis` are fixtures: a conftest that imports them gives them to its tests.
"""

from __future__ import annotations

import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from redis import ConnectionError as NoConnectionError
from redis import Redis

from tests.process.programs import require_program, wait_until


class RedisServer:
    """A redis-server that can be killed and started again, empty, at the same address."""

    def __init__(self, folder: str, certificate: Path | None = None, settings: str = "") -> None:
        """`certificate` is a PEM file with its key, by which it speaks TLS alone."""
        self.port = free_port()
        self._folder = folder
        self._certificate = certificate
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        if self._certificate is not None:
            return f"rediss://127.0.0.1:{self.port}?ssl_ca_certs={self._certificate}"
        return f"redis://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it, unless it runs."""
        if self._process is not None:
            return
        settings = f"--port {self.port} --bind 127.0.0.1 --appendonly no --loglevel warning "
        settings += self._settings
        if (pem := self._certificate) is not None:
            settings = settings.replace("--port", "--port 0 --tls-port")
            settings += f" --tls-cert-file {pem} --tls-key-file {pem} --tls-auth-clients no"
        self._process = subprocess.Popen(
            ["redis-server", *settings.split(), "--save", "", "--dir", self._folder],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            process_group=0,
        )
        wait_until(self._answers)

    def kill(self) -> None:
        """End it as `kill -9` does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @contextmanager
    def client(self) -> Iterator[Any]:
        with Redis.from_url(self.url, protocol=2) as client:
            yield client

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None
        try:
            with self.client() as client:
                return bool(client.ping())
        except NoConnectionError:
            return False


@contextmanager
def redis_server(certificate: Path | None = None, settings: str = "") -> Iterator[RedisServer]:
    """One that runs until the end of the block; without the program the test is skipped."""
    require_program("redis-server", "apt-get install -y redis-server")
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(folder, certificate, settings)
        server.start()
        try:
            yield server
        finally:
            server.kill()


@pytest.fixture(scope="module")
def running_redis() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture
def redis(running_redis: RedisServer) -> RedisServer:
    """Running and empty, whatever the test before did to it."""
    running_redis.start()
    with running_redis.client() as client:
        client.flushall()
    return running_redis


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
