"""What the library takes up: memory of cached results, and the time to import it.

    python -m benchmarks.footprint

Memory is measured in fresh processes on tokens that are all distinct. Signing 200,000 of them would
take minutes, so the keys are stubs that take made-up signatures; the cache keeps no signature.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import time
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import httpx
from cryptography.exceptions import InvalidSignature

from benchmarks.environments import BUILT
from benchmarks.machine import heading
from benchmarks.results import save
from jwks_guard import InvalidSignatureError, TokenVerifier
from jwks_guard.jose.compact import b64url_encode
from jwks_guard.jose.jwk import PublicKey, load_jwk_set
from jwks_guard.keys.freshness import Instant

ISSUER, AUDIENCE = "https://acme.eu.auth0.com/", "https://api.acme.com"
# What RSASSA-PKCS1-v1_5 signs for RS256: this before the hash, 256 bytes in all (RFC 8017, 9.2).
PADDING = b"\0\1" + b"\xff" * 202 + b"\0"
DIGEST_INFO = bytes.fromhex("3031300d060960864801650304020105000420")
MEGABYTE = 1e6
CACHED, FLOOD = 10_000, (10_000, 20_000, 100_000, 200_000)
MEMORY_TARGET, IMPORT_TARGET = 25.0, 1.3  # megabytes; times httpx + jwt
ROUNDS = 21
# Where click and rich are installed, as they are for development, httpx imports them for its own
# command line. That would flatter us: both sides go without.
BARE = "import sys; sys.modules.update(click=None, rich=None)"
IMPORTS = {
    "bare": BARE,
    "httpx + jwt": f"{BARE}; import httpx, jwt",
    "jwks_guard": f"{BARE}; import jwks_guard",
}
BROUGHT = """
import json, sys, httpx, jwt
before = set(sys.modules)
import jwks_guard
brought = {name.partition(".")[0] for name in set(sys.modules) - before}
print(json.dumps(sorted(name for name in brought if not name.startswith("_"))))
"""


# --- keys that take made-up signatures, and a verifier that has them ---


class StubKey:
    """An RSA key with the exponent 1: the signature is the encoded message itself.

    It has both methods by which a signature can be checked.
    """

    def recover_data_from_signature(self, signature: bytes, *_: object) -> bytes:
        if not signature.startswith(PADDING):
            raise InvalidSignature
        return signature.removeprefix(PADDING)

    def verify(self, signature: bytes, *_: object) -> None:
        self.recover_data_from_signature(signature)


def jwk(number: int) -> dict[str, str]:
    """A published RSA key of 2048 bits, to which nobody has the private one."""
    modulus = random.Random(number).getrandbits(2048) | 1 << 2047 | 1
    n = b64url_encode(modulus.to_bytes(256, "big"))
    return {"kty": "RSA", "alg": "RS256", "use": "sig", "kid": f"{number:021}", "n": n, "e": "AQAB"}


def token(number: int = 0, *, padding: bytes = PADDING) -> str:
    """An access token of Auth0's profile, of about 800 bytes, that only a stub of a key takes."""
    now = int(time.time())
    header = {"alg": "RS256", "typ": "JWT", "kid": f"{0:021}"}
    claims = {
        "iss": ISSUER,
        "sub": f"auth0|{number:024}",
        "aud": [AUDIENCE, f"{ISSUER}userinfo"],
        "iat": now,
        "exp": now + 86_400,
        "scope": "openid profile read:things",
        "azp": "q2hnj2iu5vK0zTfVZ3hXG0yZJbWd1cEx",
        "permissions": ["read:things", "write:things"],
    }
    segments = [json.dumps(each, separators=(",", ":")).encode() for each in (header, claims)]
    signing_input = ".".join(map(b64url_encode, segments))
    signature = padding + DIGEST_INFO + sha256(signing_input.encode()).digest()
    return f"{signing_input}.{b64url_encode(signature)}"


@asynccontextmanager
async def opened(
    *, keys: int = 3, stubbed: bool = True, **options: Any
) -> AsyncIterator[TokenVerifier]:
    """A started verifier of so many keys, which it has refreshed for as long as this runs."""
    document = {"keys": [jwk(number) for number in range(keys)]}
    tenant = httpx.MockTransport(lambda _: httpx.Response(200, json=document))
    verifier = TokenVerifier(
        ISSUER,
        AUDIENCE,
        jwks_uri=f"{ISSUER}.well-known/jwks.json",
        refresh_interval=86_400.0,
        max_stale=86_400.0,
        http_client=lambda: httpx.AsyncClient(transport=tenant),
        on_event=lambda _: None,
        **options,
    )
    if stubbed:  # a refresh keeps the objects of keys that it finds unchanged
        loaded, _ = load_jwk_set(document)
        stubs = tuple(replace(key, public_key=cast("PublicKey", StubKey())) for key in loaded)
        verifier.keys.trust.publish(stubs, (), Instant.now(time))
    async with verifier:
        assert verifier.health().status == "ok", verifier.health()
        assert await refuses(verifier, token(padding=bytes(len(PADDING))))
        assert await refuses(verifier, token()) is not stubbed
        yield verifier


async def refuses(verifier: TokenVerifier, compact: str) -> bool:
    """Whether it refuses the signature; any other error comes out."""
    try:
        await verifier.verify(compact)
    except InvalidSignatureError:
        return True
    return False


# --- memory, each figure in a process of its own ---


async def resident(*, read: bool) -> dict[str, float]:
    """Megabytes that the process has grown by after so many distinct tokens.

    read: each result's claims and scopes are read once, as an application does. They are made then.
    """
    grown = {}
    async with opened(token_cache_size=CACHED) as verifier:
        begin = rss()
        for number in range(1, FLOOD[-1] + 1):
            await verified(verifier, number, read)
            if number in FLOOD:
                grown[f"{number:,} tokens"] = rss() - begin
    return grown


async def allocated(*, read: bool) -> dict[str, float]:
    """Megabytes that Python has allocated after as many tokens as the cache holds."""
    async with opened(token_cache_size=CACHED) as verifier:
        tracemalloc.start()
        for number in range(CACHED):
            await verified(verifier, number, read)
        return {"tracemalloc": tracemalloc.get_traced_memory()[0] / MEGABYTE}


async def verified(verifier: TokenVerifier, number: int, read: bool) -> None:
    result = await verifier.verify(token(number))
    if read:
        _ = result.claims, result.scopes


def rss() -> float:
    """Megabytes of this process that are in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MEGABYTE


MEASURES = {"allocated": allocated, "resident": resident}


def memory() -> dict[str, dict[str, float]]:
    """Megabytes by row and column of the table."""
    rows = {"results as they are made": "", "claims and scopes read": "--read"}
    return {
        row: {
            column: megabytes
            for measure in MEASURES
            for column, megabytes in json.loads(
                output("-m", "benchmarks.footprint", "--measure", measure, *read.split())
            ).items()
        }
        for row, read in rows.items()
    }


# --- import time ---


def import_times() -> dict[str, float]:
    """Seconds that a process takes, imports and all, and the median ratio less a bare process."""
    for code in IMPORTS.values():
        output("-c", code)  # compiles, and fills the disk's cache
    rounds = [{name: seconds(code) for name, code in IMPORTS.items()} for _ in range(ROUNDS)]
    net = [
        (each["jwks_guard"] - each["bare"]) / (each["httpx + jwt"] - each["bare"])
        for each in rounds
    ]
    medians = {name: statistics.median(each[name] for each in rounds) for name in IMPORTS}
    return {**medians, "ratio": statistics.median(net)}


def seconds(code: str) -> float:
    began = time.perf_counter()
    output("-c", code)
    return time.perf_counter() - began


def output(*arguments: str) -> str:
    """What a Python process prints.

    It has compiled modules from an earlier process, ours like the others, whatever the environment
    says about writing them.
    """
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(BUILT / "bytecode")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, *arguments]
    ran = subprocess.run(command, check=True, env=environment, stdout=subprocess.PIPE, timeout=120)
    return ran.stdout.decode()


# --- the report ---


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure memory and import time.")
    parser.add_argument("--measure", choices=MEASURES, help=argparse.SUPPRESS)
    parser.add_argument("--read", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(asyncio.run(MEASURES[arguments.measure](read=arguments.read))))
        return
    print(heading())
    megabytes = memory()
    print_memory(megabytes)
    times = import_times()
    print_imports(times)
    save("footprint", {"megabytes": megabytes, "import_seconds": times})


def print_memory(megabytes: dict[str, dict[str, float]]) -> None:
    print(
        f"\nMB (10**6 bytes) for a cache of {CACHED:,} results; at most {MEMORY_TARGET} is wanted."
    )
    print(f"Tokens are distinct, of {len(token())} bytes. After the first column: growth of RSS.")
    columns = next(iter(megabytes.values()))
    print(f"{'':<26}" + "".join(f"{column:>16}" for column in columns))
    for row, figures in megabytes.items():
        print(f"{row:<26}" + "".join(f"{figure:16.1f}" for figure in figures.values()))


def print_imports(times: dict[str, float]) -> None:
    print(f"\nms for a process that imports this, median of {ROUNDS} rounds, alternately")
    print(f"{'':<26}{'as measured':>16}{'less bare':>16}")
    for name in IMPORTS:
        net = (times[name] - times["bare"]) * 1e3
        print(f"{name:<26}{times[name] * 1e3:16.1f}{net:16.1f}")
    print(f"jwks_guard / httpx + jwt, less bare: {times['ratio']:.2f} (wanted: {IMPORT_TARGET})")
    brought = json.loads(output("-c", BROUGHT))
    print("besides httpx and jwt it imports " + ", ".join(brought))
    web = sorted({"starlette", "rich"}.intersection(brought))
    print(f"of starlette and rich: {', '.join(web) or 'neither'}")


if __name__ == "__main__":
    main()
