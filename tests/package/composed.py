"""The services of examples/operations/compose.yaml as processes on loopback, without containers.

Every command, variable, port, file and secret is read from the compose file. Only names that a
network of containers gives a meaning are translated: `api-1:8000` becomes the address of that
process, `/run/secrets/ops` a file in a folder of the test.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.process.programs import PROJECT, require_program, wait_until
from tests.support import PATIENCE

HERE = PROJECT / "examples" / "operations"
COMPOSE: dict[str, Any] = yaml.safe_load((HERE / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
INSTALL = {
    "nginx": "apt-get install -y nginx",
    "prometheus": "apt-get install -y prometheus",
    "redis-cli": "apt-get install -y redis-tools",
    "redis-server": "apt-get install -y redis-server",
    "wget": "apt-get install -y wget",
}
LOOPBACK = {"redis-server": ["--bind", "127.0.0.1"]}
"""In a container the network keeps others away."""


def ports_of(service: Mapping[str, Any]) -> list[str]:
    """The ports that it listens on inside of its container."""
    published = [each.rpartition(":")[2] for each in service.get("ports", [])]
    return [*published, *service.get("expose", [])]


def mounts_of(service: Mapping[str, Any]) -> dict[str, str]:
    """What is mounted, a path beside the compose file or a volume's name, by where it lies."""
    volumes = [each.split(":") for each in service.get("volumes", [])]
    return {target: source for source, target, *_ in volumes}


def command_of(service: Mapping[str, Any]) -> list[str]:
    return [*service.get("entrypoint", []), *service.get("command", [])]


@dataclass
class Composed:
    """The services, in `folder`: their files and their ports."""

    folder: Path
    ports: dict[tuple[str, str], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._held: dict[str, list[socket.socket]] = {name: [] for name in SERVICES}
        for name, service in SERVICES.items():
            for port in ports_of(service):
                # Bound until the service starts: no connection of another one may take the port.
                self._held[name].append(held := socket.socket())
                held.bind(("127.0.0.1", 0))
                self.ports[name, port] = held.getsockname()[1]
        for name in COMPOSE["secrets"]:
            self.file(f"secrets/{name}").write_text(secrets.token_hex(32) + "\n")

    def file(self, name: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def secret(self, name: str) -> str:
        return self.file(f"secrets/{name}").read_text().strip()

    def release(self, name: str) -> None:
        """Give the ports of the service away."""
        while self._held[name]:
            self._held[name].pop().close()

    def close(self) -> None:
        for name in SERVICES:
            self.release(name)

    def url(self, name: str) -> str:
        """Where the service is, by its only port."""
        ((_, port),) = ((key, port) for key, port in self.ports.items() if key[0] == name)
        return f"http://127.0.0.1:{port}"

    def translated(self, text: str, name: str) -> str:
        """`text` of the service `name`, as it has to read on loopback."""
        here = self._names(name)
        if text in here["alone"]:
            return here["alone"][text]
        inside = here["inside"]
        longest_first = "|".join(re.escape(each) for each in sorted(inside, key=len, reverse=True))
        return re.sub(
            rf"(?<![\w.-])(?:{longest_first})(?![\w-])", lambda found: inside[found[0]], text
        )

    def _names(self, name: str) -> dict[str, dict[str, str]]:
        """What names mean to the service: those that stand alone, and those inside of a text."""
        alone, inside = {"0.0.0.0": "127.0.0.1"}, {}
        for (other, port), here in self.ports.items():
            inside[f"{other}:{port}"] = f"127.0.0.1:{here}"
            if other == name:
                alone[port] = str(here)
                for own in (f"127.0.0.1:{port}", f"0.0.0.0:{port}"):
                    inside[own] = f"127.0.0.1:{here}"
                inside[f"listen {port}"] = f"listen 127.0.0.1:{here}"
        for network in COMPOSE["networks"].values():
            for subnet in network.get("ipam", {}).get("config", []):
                inside[subnet["subnet"]] = "127.0.0.1"
        for secret in SERVICES[name].get("secrets", []):
            inside[f"/run/secrets/{secret}"] = str(self.file(f"secrets/{secret}"))
        for target, source in mounts_of(SERVICES[name]).items():
            inside[target] = str(self._mounted(name, source))
        for scratch in SERVICES[name].get("tmpfs", []):
            inside[scratch] = str(self._folder(f"scratch/{name}"))
        return {"alone": alone, "inside": inside}

    def _folder(self, name: str) -> Path:
        path = self.folder / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def _mounted(self, name: str, source: str) -> Path:
        """Where a volume, or the translation of a file beside the compose file, is."""
        if source in COMPOSE["volumes"]:
            return self._folder(f"volumes/{source}")
        return self.file(f"mounted/{name}/{source}")

    def translate_mounts(self, name: str) -> None:
        """Write the files that the service mounts."""
        for source in mounts_of(SERVICES[name]).values():
            if (HERE / source).is_file():
                text = (HERE / source).read_text()
                self._mounted(name, source).write_text(self.translated(text, name))

    def environment(self, name: str) -> dict[str, str]:
        given: dict[str, str] = SERVICES[name].get("environment", {})
        return {variable: self.translated(text, name) for variable, text in given.items()}

    def command(self, name: str, given: list[str]) -> list[str]:
        """A command of the service, with the program that this machine has."""
        program, *arguments = (self.translated(each, name) for each in given)
        program = Path(program).name
        if (own := Path(sys.executable).parent / program).exists():
            return [str(own), *arguments]
        require_program(program, INSTALL[program])
        if program == "nginx":  # its configuration is found by where it is mounted
            (source,) = mounts_of(SERVICES[name]).values()
            arguments += ["-e", "stderr", "-c", str(self._mounted(name, source))]
        return [str(shutil.which(program)), *arguments, *LOOPBACK.get(program, [])]

    @contextmanager
    def running(self, name: str) -> Iterator[None]:
        """Run the service until the end of the block, once its health check succeeds."""
        self.translate_mounts(name)
        self.release(name)
        inherited = {key: text for key, text in os.environ.items() if "JWKS_GUARD_" not in key}
        with (
            self.file(f"logs/{name}").open("wb") as log,
            subprocess.Popen(
                self.command(name, command_of(SERVICES[name])),
                cwd=HERE,
                env=inherited | self.environment(name),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            ) as process,
        ):
            try:
                wait_until(lambda: process.poll() is not None or self.is_healthy(name))
                assert process.poll() is None, self.file(f"logs/{name}").read_text()
                yield
            finally:
                process.terminate()
                try:
                    process.wait(PATIENCE)
                except subprocess.TimeoutExpired:
                    process.kill()

    def is_healthy(self, name: str) -> bool:
        """Whether the health check of the compose file succeeds."""
        kind, *test = SERVICES[name]["healthcheck"]["test"]
        assert kind == "CMD"
        command = self.command(name, test)
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    @contextmanager
    def all_running(self, *names: str) -> Iterator[None]:
        """Run these services, each after those that it depends on."""
        with ExitStack() as stack:
            started: set[str] = set()

            def start(name: str) -> None:
                if name in started:
                    return
                started.add(name)
                for other in SERVICES[name].get("depends_on", {}):
                    start(other)
                stack.enter_context(self.running(name))

            for name in names:
                start(name)
            yield


def client(url: str, **headers: str) -> httpx.Client:
    return httpx.Client(base_url=url, headers=headers, trust_env=False, timeout=PATIENCE)
