"""Instructions per verification, counted by callgrind: a regression shows where clocks are noisy.

    python -m benchmarks.instructions             prints the counts
    python -m benchmarks.instructions --check     and fails where one has grown by more than 10 %
    python -m benchmarks.instructions --update    and commits them for this Python

What depends on the processor is left out: the keys are stubs that take made-up signatures, and
hashing, by OpenSSL or by the interpreter, is not counted. What is left, other code for memcpy and
for base64 where AVX2 is missing, adds about 2 % each. The garbage collector is off, or it would run
in one case and not in the next. An interpreter that was built otherwise counts otherwise, by 6 %
even when both are optimised: then there is nothing to compare with, and the check says so and
passes.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import platform
import re
import shlex
import shutil
import ssl
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.machine import heading
from benchmarks.results import save
from benchmarks.stubbed import AUDIENCE, ISSUER, distrusted_keys, http_scope, opened, token
from jwks_guard import Register, SyncTokenVerifier
from jwks_guard.asgi import JWKSGuardMiddleware

CALLS, WARM_UP = 400, 100
COMMITTED = Path(__file__).with_suffix(".json")
"""By Python: `instructions`, the counts by case, and `with`, what they were counted with."""
GROWTH = 1.10
PLAIN = "verify, cache off"
MANY_KEYS, MANY_DISTRUSTED = f"{PLAIN}, 1000 keys", f"{PLAIN}, 10,000 distrusted keys"
AT_MOST = {MANY_KEYS: 1.05, MANY_DISTRUSTED: 1.05}
"""What is wanted of a case, in multiples of the plain one: 3 keys, of which none is distrusted."""
# Of an interpreter, those that change the code which its compiler makes.
BUILD_OPTIONS = ("--enable-optimizations", "--with-lto", "--with-pydebug", "--disable-gil")
NO_VALGRIND = "valgrind is needed: apt-get install -y valgrind (Debian, Ubuntu)"
CALLGRIND = (
    "--tool=callgrind",
    # At each marker it writes its counters into a file with the next number, and clears them.
    "--dump-before=getppid",
    # Not counted within these. The last option is the last, as those before it would undo it.
    "--toggle-collect=EVP_DigestUpdate",
    "--toggle-collect=EVP_DigestFinal_ex",
    "--toggle-collect=PyBlake2_blake2b_update",
    "--toggle-collect=PyBlake2_blake2b_final",
    "--collect-atstart=yes",
)
ACCEPT = "If that is as it must be, accept it: python -m benchmarks.instructions --update"

Arguments = tuple[Any, ...]


class Cases:
    """Runs each case under valgrind, between two calls of a C function that nothing else calls."""

    def __init__(self) -> None:
        self.names: list[str] = []

    async def awaited(
        self, name: str, call: Callable[..., Awaitable[object]], arguments: list[Arguments]
    ) -> None:
        for part in self._parts(name, arguments):
            for each in part:
                await call(*each)

    def called(self, name: str, call: Callable[..., object], arguments: list[Arguments]) -> None:
        for part in self._parts(name, arguments):
            for each in part:
                call(*each)

    def _parts(self, name: str, arguments: list[Arguments]) -> Iterator[list[Arguments]]:
        """What to call with first, to warm up, and then between the markers."""
        yield arguments[:WARM_UP]
        measured = arguments[WARM_UP:]
        os.getppid()
        yield measured
        os.getppid()
        self.names.append(name)


async def program() -> list[str]:
    """Run every case; their names in this order."""
    cases = Cases()
    new: list[Arguments] = [(token(number),) for number in range(WARM_UP + CALLS)]
    same = new[:1] * len(new)
    requests: list[Arguments] = [(http_scope(each), None, None) for (each,) in same]
    async with opened(stubbed=False):
        pass  # a real key is seen to refuse the made-up signature
    async with opened(token_cache_size=0) as verifier:
        await cases.awaited(PLAIN, verifier.verify, new)
    async with opened(token_cache_size=0, keys=1000) as verifier:
        await cases.awaited(MANY_KEYS, verifier.verify, new)
    register = Register()
    async with opened(token_cache_size=0, register=register) as verifier:
        register.merge(distrusted_keys(10_000), tell=False)
        await cases.awaited(MANY_DISTRUSTED, verifier.verify, new)
    async with opened(token_cache_size=8) as verifier:
        await cases.awaited("verify, cache on and full, every token new", verifier.verify, new)
    async with opened() as verifier:
        await cases.awaited("verify, cached", verifier.verify, same)
        sync = SyncTokenVerifier(ISSUER, AUDIENCE, keys=verifier.keys)
        cases.called("sync verify, cached", sync.verify, same)
        guard = JWKSGuardMiddleware(application, verifier=verifier)
        await cases.awaited("ASGI guard, cached", guard, requests)
    return cases.names


async def application(scope: Any, receive: Any, send: Any) -> None:
    """The ASGI application that does nothing."""


def counts() -> dict[str, int]:
    """Instructions per call of each case."""
    valgrind = shutil.which("valgrind") or sys.exit(NO_VALGRIND)
    with tempfile.TemporaryDirectory() as folder:
        dump = Path(folder) / "dump"
        counted = [sys.executable, "-m", "benchmarks.instructions", "--run"]
        ran = subprocess.run(
            [valgrind, "-q", *CALLGRIND, f"--callgrind-out-file={dump}", *counted],
            env={**os.environ, "PYTHONHASHSEED": "0"},
            stdout=subprocess.PIPE,
            check=True,
            timeout=600,
        )
        names: list[str] = json.loads(ran.stdout)
        # The even ones are of what ran between a pair of markers.
        totals = [_total(dump.with_suffix(f".{2 * pair}")) for pair in range(1, len(names) + 1)]
    return {name: total // CALLS for name, total in zip(names, totals, strict=True)}


def _total(dump: Path) -> int:
    lines = dump.read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("totals:"))


def python() -> str:
    """What a committed figure is of."""
    return f"{sys.version_info.major}.{sys.version_info.minor} {platform.machine()}"


def build() -> str:
    """The interpreter's compiler, and as far as it tells: optimisation and BUILD_OPTIONS."""
    given = shlex.split(sysconfig.get_config_var("CONFIG_ARGS") or "")
    configured = sorted(option for option in given if option.startswith(BUILD_OPTIONS))
    levels = re.findall(r"(?:^| )(-O\S+)", sysconfig.get_config_var("PY_CFLAGS") or "")
    return " ".join([platform.python_compiler(), *levels[-1:], *configured])


def circumstances() -> dict[str, str]:
    """What else decides the counts."""
    return {
        "python": platform.python_version(),
        "openssl": ssl.OPENSSL_VERSION,
        "compiler": build(),
        **{name: version(name) for name in ("cryptography", "msgspec", "pybase64", "pyjwt")},
    }


def differences(committed: dict[str, str]) -> str:
    """How the committed figures' circumstances differ from the present ones, if they do."""
    now = circumstances()
    return "; ".join(
        f"{name} {committed.get(name)} then, {now[name]} now"
        for name in now
        if committed.get(name) != now[name]
    )


def grown(now: dict[str, int], committed: dict[str, int]) -> list[str]:
    """The cases whose count exceeds the committed one by more than GROWTH allows."""
    return [
        f"{name}: from {committed[name]:,} to {count:,}, by {count / committed[name] - 1:.0%}"
        for name, count in now.items()
        if count > GROWTH * committed[name]
    ]


def incomparable(figures: dict[str, Any]) -> str:
    """Why these counts can't be held against the committed figures; empty if they can."""
    if python() not in figures:
        return f"no figures are committed for Python {python()}; --update adds them"
    before = figures[python()]["with"]["compiler"]
    other = f"the committed figures of Python {python()} are of another build ({before}, not "
    return "" if before == build() else f"{other}{build()}); --update replaces them"


def check(now: dict[str, int], figures: dict[str, Any]) -> None:
    """Exit with what has grown, why that may be, and what to do about it."""
    if reason := incomparable(figures):
        print(f"\nNOT CHECKED: {reason}")
        return
    committed = figures[python()]["instructions"]
    other = differences(figures[python()]["with"])
    aside = f"\n(Counted with other versions: {other}.)" if other else ""
    if committed.keys() != now.keys():
        sys.exit(f"\nOther cases than the committed ones: see that they are right. {ACCEPT}")
    worse = grown(now, committed)
    if worse:
        listed = "\n  ".join(worse)
        sys.exit(f"\nMore than 10 % above the committed figures:\n  {listed}{aside}\n{ACCEPT}")
    print(f"\nNo count is more than 10 % above its committed figure.{aside}")


def print_counts(now: dict[str, int], committed: dict[str, int]) -> None:
    print(f"{'instructions per call':<40}{'now':>9}{'committed':>11}{'change':>9}{'/ plain':>9}")
    for name, count in now.items():
        before = committed.get(name)
        change = f"{before:11,}{count / before - 1:+9.1%}" if before else f"{'-':>11}{'-':>9}"
        wanted = f"  wanted: at most {AT_MOST[name]}" if name in AT_MOST else ""
        print(f"{name:<40}{count:9,}{change}{count / now[PLAIN]:9.3f}{wanted}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Count instructions per verification.")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--check", action="store_true", help="fail if a count grew by over 10 %%")
    what.add_argument("--update", action="store_true", help="make these the committed figures")
    what.add_argument("--run", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        gc.disable()
        print(json.dumps(asyncio.run(program())))
        return
    print(heading())
    now, figures = counts(), json.loads(COMMITTED.read_text())
    print_counts(now, {} if incomparable(figures) else figures[python()]["instructions"])
    print("without the RSA operation, and without hashing")
    save("instructions", {"calls": now})
    if options.update:
        figures[python()] = {"with": circumstances(), "instructions": now}
        COMMITTED.write_text(json.dumps(dict(sorted(figures.items())), indent=2) + "\n")
    if options.check:
        check(now, figures)


if __name__ == "__main__":
    main()
