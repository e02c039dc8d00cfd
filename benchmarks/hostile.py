"""What it costs to refuse hostile input, next to what it costs to accept a token.

    python -m benchmarks.hostile

Tokens are refused and accepted alternately in one process, with real RS256 keys and without the
result cache. Their shapes are those of somebody who knows the kid of a published key and the limits
on length. Key sets are as large as they may be; for them it is measured how long the event loop
stands still, while it does nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256

import httpx
from cryptography.hazmat.primitives.asymmetric import ec

from benchmarks.machine import heading
from benchmarks.results import save
from benchmarks.rounds import Rounds, at_most, turned
from benchmarks.stubbed import http_scope, jwk
from jwks_guard import JWKSGuardError, Register, TokenVerifier
from jwks_guard.asgi import JWKSGuardMiddleware
from jwks_guard.jose.compact import b64url_encode
from jwks_guard.keys.fetch import OFF_LOOP_BYTES
from jwks_guard.testing import LocalTenant

ROUNDS, CALLS = max(2, at_most(30)), 20
MOST = 16_384  # bytes: max_token_bytes
SET_BYTES = 524_288  # max_jwks_bytes
PLAIN, ACCEPTED = "plain forged token", "accepted, cache off"
SETS_ROUNDS = at_most(5)


# --- tokens ---


def repeated(element: bytes, size: int) -> bytes:
    """A JSON array of `element`, of about so many bytes."""
    return b"[" + b",".join([element] * max(1, size // (len(element) + 1))) + b"]"


def deep(opening: bytes, closing: bytes, levels: int = 58) -> bytes:
    return opening * levels + b"1" + closing * levels


def forged_tokens(kid: bytes) -> dict[str, str]:
    """A token of each shape, none of them signed by the key that it names."""
    signature = b64url_encode(os.urandom(256))
    claims = b64url_encode(b'{"iss":"https://acme.eu.auth0.com/","sub":"auth0|1","exp":4102444800}')

    def token(header: bytes, payload: str = claims, end: str = signature) -> str:
        return f"{b64url_encode(header)}.{payload}.{end}"

    def extra(value: bytes) -> str:
        return token(b'{"alg":"RS256","kid":"%s","x":%s}' % (kid, value))

    good = b'{"alg":"RS256","typ":"JWT","kid":"%s"}' % kid
    room = 6000  # of the header's 8192 bytes in base64url
    names = b",".join(b'"%x":1' % number for number in range(600))
    duplicates = b",".join([b'"kid":"%s"' % kid] * (room // (len(kid) + 9)))
    payload_room = (MOST - 600) * 3 // 4
    shapes = {
        PLAIN: token(good),
        "header: nested arrays": extra(repeated(deep(b"[", b"]"), room)),
        "header: nested objects": extra(repeated(deep(b'{"a":', b"}"), room)),
        "header: objects": extra(repeated(b'{"a":{}}', room)),
        "header: numbers": extra(repeated(b"2.2250738585072011e-308", room)),
        "header: one number": extra(b"9" * room),
        "header: escapes": extra(b'"' + b"\\u0061" * (room // 6) + b'"'),
        "header: white space": extra(b" " * room + b"1"),
        "header: many members": extra(b"{" + names + b"}"),
        "header: duplicate members": token(b'{"alg":"RS256",' + duplicates + b"}"),
        "header: certificate chain": extra(repeated(b'"' + b"M" * 1900 + b'"', room)),
        "header: bottomless nesting": extra(b"[" * room),
        "header: crit": token(b'{"alg":"RS256","kid":"%s","crit":["b64"]}' % kid),
        "header: wrong alg": token(b'{"alg":"HS256","kid":"%s"}' % kid),
        "header: long kid": token(b'{"alg":"RS256","kid":"%s"}' % (b"k" * room)),
        "header: too long": extra(repeated(deep(b"[", b"]"), 11_000)),
        "payload: nested arrays": token(
            good, b64url_encode(repeated(deep(b"[", b"]"), payload_room))
        ),
        "payload: objects": token(good, b64url_encode(repeated(b'{"a":{}}', payload_room))),
        "payload: numbers": token(good, b64url_encode(repeated(b"1.5", payload_room))),
        "signature: long": token(good, end=b64url_encode(os.urandom(payload_room))),
        "signature: padding": token(good, end=signature + "=="),
        "no token: dots": "." * MOST,
        "no token: letters": "a" * MOST,
        "no token: one byte too long": "a" * (MOST + 1),
        "no token: outside ASCII": "\u00e9" * (MOST // 2),
    }
    assert max(len(each) for name, each in shapes.items() if "too long" not in name) <= MOST
    return shapes


async def refuse(verifier: TokenVerifier, token: str) -> None:
    try:
        await verifier.verify(token)
    except JWKSGuardError:
        return
    sys.exit("a forged token was accepted")


async def token_rounds() -> Rounds:
    """Seconds per call of each shape, and of accepting."""
    rounds = Rounds()
    with LocalTenant(in_process=True) as tenant:
        client = httpx.AsyncClient(transport=tenant.transport)
        async with TokenVerifier(
            tenant.issuer,
            tenant.audience,
            jwks_uri=tenant.jwks_uri,
            http_client=client,
            token_cache_size=0,
            on_event=lambda _: None,
        ) as verifier:
            good = tenant.token()
            shapes = forged_tokens(tenant.key().kid.encode())
            await verifier.verify(good)
            for _ in range(6):  # its look-ups are spent
                await refuse(verifier, unknown())
            cases = [ACCEPTED, "unknown kid", *shapes]
            for number in range(-2, ROUNDS):
                for case in turned(cases, number):
                    token = unknown() if case == "unknown kid" else shapes.get(case, good)
                    began = time.perf_counter()
                    for _ in range(CALLS):
                        if case == ACCEPTED:
                            await verifier.verify(token)
                        else:
                            await refuse(verifier, token)
                    if number >= 0:
                        rounds.add(case, (time.perf_counter() - began) / CALLS)
    return rounds


def unknown() -> str:
    """A token that names a kid which nobody has published, another one each time."""
    header = b'{"alg":"RS256","kid":"%s"}' % os.urandom(12).hex().encode()
    return f"{b64url_encode(header)}.e30.{b64url_encode(os.urandom(256))}"


# --- Authorization headers ---

HEADERS = {
    PLAIN: b"",  # filled in
    "Authorization: commas": b"Bearer " + b"," * 65_000,
    "Authorization: spaces": b"Bearer" + b" " * 65_000,
    "Authorization: padding": b"Bearer a" + b"=" * 65_000,
    "Authorization: another scheme": b"Digest " + b'a="b", ' * 9_000,
    "Authorization: 65 KB": b"Bearer " + b"a" * 65_000,
    "Authorization: 1000 of them": b"Bearer a.b.c",
}


async def header_rounds() -> Rounds:
    """The same for what the ASGI guard refuses."""
    rounds = Rounds()
    with LocalTenant(in_process=True) as tenant:
        client = httpx.AsyncClient(transport=tenant.transport)
        async with TokenVerifier(
            tenant.issuer, tenant.audience, jwks_uri=tenant.jwks_uri, http_client=client
        ) as verifier:
            guard = JWKSGuardMiddleware(_application, verifier=verifier)
            plain = forged_tokens(tenant.key().kid.encode())[PLAIN]
            for number in range(-2, ROUNDS):
                for case in turned(tuple(HEADERS), number):
                    scope = http_scope(plain)
                    if case != PLAIN:
                        times = 1000 if "1000" in case else 1
                        scope["headers"] = [(b"authorization", HEADERS[case])] * times
                    began = time.perf_counter()
                    for _ in range(CALLS):
                        await guard({**scope}, _receive, _send)
                    if number >= 0:
                        rounds.add(case, (time.perf_counter() - began) / CALLS)
    return rounds


async def _application(*_: object) -> None:
    sys.exit("a request without a token reached the application")


async def _receive() -> dict[str, object]:
    return {"type": "http.disconnect"}


async def _send(_: object) -> None:
    pass


# --- key sets ---


@dataclass(frozen=True, slots=True)
class Block:
    """How long the event loop stood still for one key set, in milliseconds: median and longest."""

    keys: str
    first: float
    first_longest: float
    again: float
    again_longest: float


def key_sets() -> dict[str, bytes]:
    """Bodies of the largest allowed size, and one of the largest that is parsed on the loop."""
    curve = [ec.generate_private_key(ec.SECP521R1()).public_key().public_numbers() for _ in "abc"]
    rsa = [jwk(number)["n"] for number in range(20)]

    def ed25519(number: int, kid: str) -> object:
        x = b64url_encode(sha256(b"%d" % number).digest())
        return {"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": x}

    def p521(number: int, _: str) -> object:
        point = curve[number % len(curve)]
        x, y = (b64url_encode(each.to_bytes(66, "big")) for each in (point.x, point.y))
        return {"kty": "EC", "crv": "P-521", "kid": f"{number:x}", "x": x, "y": y}

    def filled(make: Callable[[int, str], object], kid: str | None = None) -> bytes:
        jwks, size, number = [], 11, 0
        while size < SET_BYTES:
            each = json.dumps(make(number, kid or f"{number:x}"), separators=(",", ":")).encode()
            jwks.append(each)
            size, number = size + len(each) + 1, number + 1
        return b'{"keys":[' + b",".join(jwks[:-1]) + b"]}"

    last = json.dumps(ed25519(0, "a"), separators=(",", ":")).encode()

    def junk(element: bytes, size: int = SET_BYTES) -> bytes:
        return b'{"keys":' + repeated(element, size - 300)[:-1] + b"," + last + b"]}"

    return {
        "three RSA keys": json.dumps({"keys": [jwk(number) for number in range(3)]}).encode(),
        "RSA": filled(lambda n, kid: {**jwk(0), "kid": kid, "n": rsa[n % 20]}),
        "P-521": filled(p521),
        "Ed25519": filled(ed25519),
        "Ed25519, one kid": filled(ed25519, "a"),
        "unusable keys": junk(b'{"kid":"k"}'),
        "no keys: nested arrays": junk(deep(b"[", b"]")),
        "no keys: nested objects": junk(deep(b'{"a":', b"}")),
        "no keys: empty objects": junk(b"{}"),
        "the same, parsed on the loop": junk(b"{}", OFF_LOOP_BYTES),
        "one key, members": b'{"keys":[{'
        + b",".join(b'"%x":1' % n for n in range(45_000))
        + b"}]}",
    }


async def blocked(body: bytes) -> tuple[float, float]:
    """The longest pause of the loop, in ms, at the first fetch of a set and at the second one."""
    longest, last, running = 0.0, time.perf_counter(), True

    async def beat() -> None:
        nonlocal longest, last
        while running:
            await asyncio.sleep(0)
            now = time.perf_counter()
            longest, last = max(longest, now - last), now

    transport = httpx.MockTransport(lambda _: httpx.Response(200, content=body))
    verifier = TokenVerifier(
        "https://issuer.example/",
        "api",
        jwks_uri="https://issuer.example/jwks",
        http_client=httpx.AsyncClient(transport=transport),
        algorithms=("EdDSA", "RS256", "ES512"),
        background=False,
        register=Register(),
        on_event=lambda _: None,
    )
    task = asyncio.create_task(beat())
    figures = []
    for fetch in (verifier.start, verifier.keys.refresh):
        await asyncio.sleep(0.02)
        longest = 0.0
        with suppress(JWKSGuardError):  # a set without a key that can be used
            await fetch()
        await asyncio.sleep(0.02)
        figures.append(longest * 1e3)
    running = False
    await task
    await verifier.aclose()
    return figures[0], figures[1]


def key_set_blocks() -> list[Block]:
    blocks = []
    for name, body in key_sets().items():
        assert len(body) <= SET_BYTES, (name, len(body))
        pairs = [asyncio.run(blocked(body)) for _ in range(SETS_ROUNDS)]
        first, again = zip(*pairs, strict=True)
        median = statistics.median
        blocks.append(Block(name, median(first), max(first), median(again), max(again)))
    return blocks


# --- the report ---


def print_tokens(title: str, rounds: Rounds, cases: list[str]) -> float:
    """Print each case beside the plain forged token; the worst ratio."""
    print(f"\n{title}; median of {ROUNDS} rounds of {CALLS} calls, alternately")
    print(f"{'':<32}{'us':>9}{'plain, us':>11}{'ratio':>8}{'spread of it':>16}")
    worst = 0.0
    for case in cases:
        ratio, spread = rounds.ratio(case, PLAIN), rounds.spread(case, PLAIN)
        worst = max(worst, ratio if case != ACCEPTED else 0.0)
        print(
            f"{case:<32}{rounds.microseconds(case):9.1f}{rounds.microseconds(PLAIN):11.1f}"
            f"{ratio:8.2f}{spread[0]:9.2f}-{spread[1]:.2f}"
        )
    return worst


def print_blocks(blocks: list[Block]) -> None:
    print(
        f"\nKey sets of up to {SET_BYTES:,} bytes: ms for which the event loop stands still, "
        f"median and longest of {SETS_ROUNDS}"
    )
    print(f"{'':<32}{'first fetch':>18}{'the same again':>20}")
    for each in blocks:
        print(
            f"{each.keys:<32}{each.first:9.1f} {each.first_longest:8.1f}"
            f"{each.again:11.1f} {each.again_longest:8.1f}"
        )


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    logging.disable()  # each refusal has its line
    print(heading())
    tokens, headers = asyncio.run(token_rounds()), asyncio.run(header_rounds())
    shapes = [ACCEPTED, "unknown kid", *forged_tokens(b"any")]
    worst = [
        print_tokens("Tokens, verified without the result cache", tokens, shapes),
        print_tokens("Requests that the ASGI guard refuses", headers, list(HEADERS)),
    ]
    blocks = key_set_blocks()
    print_blocks(blocks)
    longest = max(max(each.first, each.again) for each in blocks)
    print(
        f"\nthe costliest refusal takes {max(worst):.2f} times as long as the plain one; "
        f"the longest pause is {longest:.1f} ms"
    )
    figures = {
        "tokens": {case: [tokens.microseconds(case), tokens.ratio(case, PLAIN)] for case in shapes},
        "requests": {
            case: [headers.microseconds(case), headers.ratio(case, PLAIN)] for case in HEADERS
        },
        "key_sets": {each.keys: [each.first, each.again] for each in blocks},
    }
    save("hostile", figures)


if __name__ == "__main__":
    main()
