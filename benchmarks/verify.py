"""One verification against the bare signature check, run alternately in one process.

`make bench` prints the machine, the versions and both sides of every ratio. Each figure is the
median over rounds; a round times each side over the same number of calls.
"""

from __future__ import annotations

import asyncio
import platform
import statistics
import time
from collections.abc import Awaitable, Callable
from importlib.metadata import version

from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256

from jwks_guard import SyncTokenVerifier, TokenVerifier
from jwks_guard.jose.compact import b64url_decode, split
from jwks_guard.testing import LocalTenant

ROUNDS, CALLS = 40, 250


def bare_check(tenant: LocalTenant, token: str) -> Callable[[], None]:
    """The signature check alone, on decoded bytes: the floor that nobody can be under."""
    key = tenant.key().private_key.public_key()
    assert isinstance(key, RSAPublicKey)
    _, _, signature_segment, signing_input = split(token.encode())
    signature, padding, digest = b64url_decode(signature_segment), PKCS1v15(), SHA256()
    return lambda: key.verify(signature, signing_input, padding, digest)


async def timed(call: Callable[[str], Awaitable[object]], tokens: list[str]) -> float:
    began = time.perf_counter()
    for token in tokens:
        await call(token)
    return (time.perf_counter() - began) / len(tokens)


def timed_sync(call: Callable[[str], object], tokens: list[str]) -> float:
    began = time.perf_counter()
    for token in tokens:
        call(token)
    return (time.perf_counter() - began) / len(tokens)


async def measured(tenant: LocalTenant) -> dict[str, list[float]]:
    uncached = TokenVerifier(tenant.issuer, tenant.audience, token_cache_size=0)
    cached = TokenVerifier(tenant.issuer, tenant.audience, on_event=lambda event: None)
    sync = SyncTokenVerifier(tenant.issuer, tenant.audience)
    same = [tenant.token()] * CALLS
    check = bare_check(tenant, same[0])
    seconds: dict[str, list[float]] = {}
    async with uncached, cached:
        for round_number in range(ROUNDS):
            new = [tenant.token(sub=f"auth0|{round_number}-{call}") for call in range(CALLS)]
            for name, figure in (
                ("bare signature check", timed_sync(lambda _: check(), same)),
                ("verify, cache off", await timed(uncached.verify, new)),
                ("verify, cache on, every token new", await timed(cached.verify, new)),
                ("verify, cached", await timed(cached.verify, same)),
                ("sync verify, cached", timed_sync(sync.verify, same)),
            ):
                seconds.setdefault(name, []).append(figure)
    sync.close()
    return seconds


def main() -> None:
    with LocalTenant() as tenant:
        size = len(tenant.token())
        seconds = asyncio.run(measured(tenant))
    packages = ", ".join(f"{name} {version(name)}" for name in ("cryptography", "pyjwt", "msgspec"))
    print(f"{platform.machine()}, Python {platform.python_version()}, {packages}")
    print(f"RS256, 2048 bits, a token of {size} bytes; median of {ROUNDS} rounds of {CALLS} calls")
    floor = seconds.pop("bare signature check")
    print(f"{'bare signature check':<36}{statistics.median(floor) * 1e6:8.2f} us")
    for name, figures in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(figures, floor, strict=True))
        print(f"{name:<36}{statistics.median(figures) * 1e6:8.2f} us{ratio:8.2f} x the bare check")


if __name__ == "__main__":
    main()
