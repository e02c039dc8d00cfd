"""The driver's side of the peers: each runs in a process and an environment of its own."""

from __future__ import annotations

import json
import platform
import select
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from benchmarks.environments import PEERS as ADAPTERS
from benchmarks.environments import node_modules, python_for
from benchmarks.rounds import Took

OURS = "jwks-guard"
OURS_FAST = "jwks-guard-fast"
OWN = (OURS, OURS_FAST)
PYTHON_PEERS = ("joserfc", "jwks-client", "auth0-api-python", "fastmcp", "python-jose", "pyjwt")
NODE_PEERS = ("jose", "fast-jwt", "fast-jwt-cached", "jwks-rsa")
PEERS = (*PYTHON_PEERS, *NODE_PEERS)
RUST_PEERS = ("oxyjwt", "oxyjwt-key", "webtoken", "ryjwt")
"""Python libraries that read the time from the system, where it can't be turned."""

_ROOT = ADAPTERS.parent.parent
_PATIENCE = 120.0  # s for one command; after that the worker is taken for dead


class PeerUnavailableError(Exception):
    """This peer can't be measured here; the text says why."""


class PeerError(Exception):
    """The peer's own error, or the end of its process."""


class Worker:
    """One consumer, ours or a peer's, in a process of its own.

    Use it with `with`. With `virtual_clock` the process's clock can be turned by `advance`, and
    that costs every call that reads it: don't measure speed with it.

    Raises PeerUnavailableError from the start when its environment can't be made here.
    """

    def __init__(self, name: str, *, virtual_clock: bool = False) -> None:
        self.name = name
        self.versions: dict[str, str] = {}
        self._options = ["--virtual-clock"] if virtual_clock else []

    def __enter__(self) -> Self:
        started_by = [*command(self.name), *self._options]
        self._errors = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            started_by,
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            process_group=0,  # Ctrl-C is for the driver, which then closes this
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def open(
        self,
        issuer: str,
        jwks_uri: str,
        audience: str,
        *,
        algorithms: Sequence[str] = ("RS256",),
        jwks: dict[str, Any] | None = None,
    ) -> dict[str, str]:
        """Make a new consumer with its library's defaults; gives the versions in use.

        `jwks` is for `bare` alone: the consumer fetches its own.
        """
        answer = self._ask(
            "open",
            issuer=issuer,
            jwks_uri=jwks_uri,
            audience=audience,
            algorithms=list(algorithms),
            jwks=jwks,
        )
        self.versions = answer["versions"]
        return self.versions

    def verify(self, tokens: Sequence[str]) -> list[str | None]:
        """Verify one token after the other; None for each accepted, the error for the others."""
        results: list[str | None] = self._ask("verify", tokens=list(tokens))["results"]
        return results

    def time(self, tokens: Sequence[str]) -> Took:
        """What verifying all of `tokens` takes; raises PeerError if one is refused."""
        return Took(**self._ask("time", tokens=list(tokens)))

    def bare(self, token: str, count: int) -> Took:
        """What `count` bare signature checks of `token` (RS256) take over there."""
        return Took(**self._ask("bare", token=token, count=count))

    def advance(self, seconds: float) -> None:
        """Turn the process's clock, and let it do what is due then."""
        self._ask("advance", seconds=seconds)

    def distrust(self, kid: str) -> None:
        """Revoke a key at the consumer; raises PeerError where the library has no call for it."""
        self._ask("distrust", kid=kid)

    def _ask(self, what: str, **given: Any) -> dict[str, Any]:
        answer = self._answer(json.dumps({"do": what, **given}).encode() + b"\n")
        if not answer:
            raise PeerError(f"{self.name} ended during {what!r}:\n{self._last_words()}")
        document: dict[str, Any] = json.loads(answer)
        if "error" in document:
            raise PeerError(f"{self.name}: {document['error']}")
        return document

    def _answer(self, command: bytes) -> bytes:
        """The line that answers this one; none from a worker that ended or is taken for dead."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(command)
            process.stdin.flush()
        except BrokenPipeError:
            return b""
        # One line for each command: none is left in the reader's buffer, where select won't look.
        ready, _, _ = select.select([process.stdout], [], [], _PATIENCE)
        if not ready:
            process.kill()
        return process.stdout.readline()

    def _last_words(self) -> str:
        self._process.wait()
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace")[-2000:]


def command(name: str) -> list[str]:
    """How the worker of this peer is started; makes its environment first.

    Raises PeerUnavailableError.
    """
    try:
        return _node_command(name) if name in NODE_PEERS else _python_command(name)
    except subprocess.CalledProcessError:
        where = f"here, with Python {platform.python_version()}"
        raise PeerUnavailableError(f"{name}: its packages cannot be installed {where}") from None


def _python_command(name: str) -> list[str]:
    # We are installed here already, and from the source that is to be measured.
    python = Path(sys.executable) if name in OWN else python_for(name)
    return [str(python), "-m", "benchmarks.peers.worker", name]


def _node_command(name: str) -> list[str]:
    home = node_modules()
    node = shutil.which("node")
    if home is None or node is None:
        raise PeerUnavailableError(f"{name}: node and npm are not installed")
    # Node looks for packages beside the importing file, so the adapters go to them.
    adapters = home / "peers"
    adapters.mkdir(exist_ok=True)
    for source in ADAPTERS.glob("*.mjs"):
        shutil.copy(source, adapters)
    return [node, str(adapters / "worker.mjs"), name]
