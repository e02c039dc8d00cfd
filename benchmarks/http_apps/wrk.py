"""Load by wrk, and what it measured."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from benchmarks.http_apps.cores import on_load_core

SCRIPT = Path(__file__).parent / "load.lua"


@dataclass(frozen=True, slots=True)
class Load:
    """Connections to `url` that send the tokens of a file in turn for some seconds.

    Each waits `pause` milliseconds before a request; without a pause they send all that the server
    can answer.
    """

    url: str
    tokens: Path
    connections: int
    seconds: int
    pause: int = 0

    def start(self) -> subprocess.Popen[str]:
        """Begin the load, on the core that the server does not run on."""
        options = ["-t1", f"-c{self.connections}", f"-d{self.seconds}s", "-s", str(SCRIPT)]
        arguments = ["--", str(self.tokens), str(self.pause)]
        command = ["wrk", *options, self.url, *arguments]
        return subprocess.Popen(on_load_core(command), stdout=subprocess.PIPE, text=True)

    def run(self) -> Figures:
        """The figures of the whole load."""
        return figures_of(self.start())


@dataclass(frozen=True, slots=True)
class Figures:
    """All answers, good ones a second, latencies in ms, and requests without a good answer."""

    answers: int
    rate: float
    p50: float
    p99: float
    longest: float
    failed: int

    def answered(self, app: str) -> Figures:
        """These, if there is a good answer in them. Raises `UnansweredError`, which names `app`."""
        if not self.rate:
            raise UnansweredError(
                f"{app} gave no good answer under load: {self.answers} answers, {self.failed} "
                "requests that failed"
            )
        return self


class UnansweredError(Exception):
    """A load without one good answer, of which there are no figures."""


def figures_of(load: subprocess.Popen[str]) -> Figures:
    """What a load measured, once it has ended; raises CalledProcessError if wrk failed."""
    try:
        output, _ = load.communicate()
    except BaseException:
        load.kill()
        load.wait()
        raise
    if load.returncode:
        raise subprocess.CalledProcessError(load.returncode, load.args, output)
    measured = json.loads(output.splitlines()[-1])
    good = measured["answers"] - measured["refused"]
    return Figures(
        answers=measured["answers"],
        rate=good / measured["microseconds"] * 1e6,
        p50=measured["p50"] / 1e3,
        p99=measured["p99"] / 1e3,
        longest=measured["longest"] / 1e3,
        failed=measured["refused"] + measured["broken"],
    )
