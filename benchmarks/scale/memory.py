"""The memory of this process once it holds so many things: run by `megabytes_of`."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import tempfile
from pathlib import Path

from benchmarks.footprint import rss
from benchmarks.scale.decisions import verifier_with_decisions
from benchmarks.scale.issuers import many_issuers
from benchmarks.scale.verifiers import document, loaded, published, verifier_of
from jwks_guard.jose.jwk import MAX_KEYS


async def keys(size: int) -> float:
    """Of one issuer; those that are more than its set may have are put into the view directly."""
    async with verifier_of(document(min(size, MAX_KEYS))) as verifier:
        if size > MAX_KEYS:
            published(verifier, loaded(size))
        return _settled()


async def issuers(size: int) -> float:
    async with many_issuers(size):
        return _settled()


async def decisions(size: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        async with verifier_with_decisions(size, Path(folder)):
            return _settled()


def _settled() -> float:
    gc.collect()
    return rss()


KINDS = {"keys": keys, "issuers": issuers, "decisions": decisions}

if __name__ == "__main__":
    logging.getLogger("jwks_guard").setLevel(logging.ERROR)  # each decision is a warning
    print(asyncio.run(KINDS[sys.argv[1]](int(sys.argv[2]))))
