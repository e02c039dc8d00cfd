"""What an adapter hands to the worker.

An adapter is a module with `PACKAGES`, the distributions whose versions belong to its figures, and
`consumer(issuer, jwks_uri, audience, algorithms)`, an async context manager that gives a consumer
made as the library's own documentation shows, with the library's defaults.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Consumer:
    """One verifier of access tokens.

    `verify` returns for a good token and raises for any other; it may be a coroutine function.
    `settle` waits for what became due when the clock was turned; `distrust` revokes a kid here and
    now. Both are None where the library has no such thing.
    """

    verify: Callable[[str], object]
    settle: Callable[[], Awaitable[object]] | None = None
    distrust: Callable[[str], Awaitable[object]] | None = None
