"""The fault switches of a local tenant."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import cycle
from typing import TYPE_CHECKING, TypeAlias

from starlette.responses import JSONResponse, RedirectResponse, Response

from jwks_guard.testing import delivery
from jwks_guard.testing.metadata import jwks_response
from jwks_guard.testing.settings import JWKS_PATH
from jwks_guard.testing.switches import Switches
from jwks_guard.testing.waiting import Hold, Signal

if TYPE_CHECKING:
    from jwks_guard.testing.keyring import Keyring

Answer: TypeAlias = Callable[[], Response]
Pause: TypeAlias = Callable[[], Awaitable[None]]

_MUCH = 8 * 1024 * 1024  # bytes; a JWK Set has a few thousand


@dataclass(frozen=True, slots=True)
class Plan:
    """What happens to one request: an answer in place of the usual one, a pause, the delivery."""

    answer: Answer | None
    pause: Pause | None
    deliver: delivery.Delivery


class Faults:
    """Makes a local tenant misbehave, until `clear` or for the next `times` requests of `path`.

    `path` is the JWKS by default, "*" is every path. A request meets up to three faults, one of
    each stage: its answer is replaced (`status`, `garbage`, `redirect`, `empty`, `rollback`,
    `flap`), then waits (`hold`, `delay`), then travels (`age`, `oversized`, `gzip_bomb`, `drip`,
    `truncated`, `reset`). Within a stage the fault switched on last wins, and the one before it is
    back when its `times` are used up. Where the answer is not replaced the request has its usual
    effect: a `rotate` whose answer is reset did rotate.
    """

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring
        self._answers: Switches[Answer] = Switches()
        self._pauses: Switches[Pause] = Switches()
        self._deliveries: Switches[delivery.Delivery] = Switches()
        self._ended = Signal()
        self._holds: list[Hold] = []

    def clear(self) -> None:
        """Switch every fault off; what is held, delayed or dripping goes out at once."""
        ended, self._ended = self._ended, Signal()
        holds, self._holds = self._holds, []
        self._answers.clear()
        self._pauses.clear()
        self._deliveries.clear()
        ended.set()
        for hold in holds:
            hold.release()

    def take(self, path: str) -> Plan:
        """What is to happen to a request that has come in for `path`."""
        return Plan(
            answer=self._answers.take(path),
            pause=self._pauses.take(path),
            deliver=self._deliveries.take(path) or delivery.whole,
        )

    def status(
        self,
        code: int,
        *,
        retry_after: int | str | None = None,
        times: int | None = None,
        path: str = JWKS_PATH,
    ) -> None:
        """Answer with an error; `retry_after` is in seconds or an HTTP-date."""
        headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
        body = {"statusCode": code, "error": "Fault", "message": "Switched on for a test"}
        self._answers.on(lambda: JSONResponse(body, code, headers), path, times)

    def garbage(
        self,
        content: bytes = b"<!doctype html><title>Maintenance</title>",
        *,
        content_type: str = "text/html",
        times: int | None = None,
        path: str = JWKS_PATH,
    ) -> None:
        """Answer 200 with `content`, whatever that is."""
        self._answers.on(lambda: Response(content, media_type=content_type), path, times)

    def redirect(
        self,
        location: str = "https://elsewhere.test/jwks.json",
        *,
        times: int | None = None,
        path: str = JWKS_PATH,
    ) -> None:
        """Answer 302 to `location`."""
        self._answers.on(lambda: RedirectResponse(location, 302), path, times)

    def empty(self, *, times: int | None = None) -> None:
        """Serve a JWK Set without keys."""
        self._answers.on(
            lambda: jwks_response(replace(self._keyring.published, keys=())), JWKS_PATH, times
        )

    def rollback(
        self, versions: int = 1, *, age: int | None = 30, times: int | None = None
    ) -> None:
        """Serve the set as it was `versions` changes before now, as a stale CDN edge does.

        With 0 the set stays as it is now, whatever changes later. Raises LookupError if it has not
        changed that often.
        """
        answer = partial(jwks_response, self._keyring.version(versions), age=age)
        self._answers.on(answer, JWKS_PATH, times)

    def flap(self, versions: int = 1, *, age: int | None = 30, times: int | None = None) -> None:
        """Serve in turn the set as `rollback` does and the set of the moment."""
        old = partial(jwks_response, self._keyring.version(versions), age=age)
        edges: Iterator[Answer] = cycle([old, lambda: jwks_response(self._keyring.published)])
        self._answers.on(lambda: next(edges)(), JWKS_PATH, times)

    def hold(self, *, times: int | None = None, path: str = JWKS_PATH) -> Hold:
        """Make the answers and keep them back until the returned hold is released."""
        hold = Hold()
        self._holds.append(hold)
        self._pauses.on(hold.passed, path, times)
        return hold

    def delay(self, seconds: float, *, times: int | None = None, path: str = JWKS_PATH) -> None:
        """Make the answer and send it `seconds` later, by the real clock."""
        self._pauses.on(partial(delivery.pause, seconds, self._ended), path, times)

    def age(self, seconds: int, *, times: int | None = None, path: str = JWKS_PATH) -> None:
        """Add this `Age` to the answer (RFC 9111 section 5.1)."""
        self._deliveries.on(delivery.aged(seconds), path, times)

    def oversized(
        self, size: int = _MUCH, *, times: int | None = None, path: str = JWKS_PATH
    ) -> None:
        """Pad the answer with `size` bytes of white space: valid JSON, but too much of it."""
        self._deliveries.on(delivery.padded(size), path, times)

    def gzip_bomb(
        self, size: int = _MUCH, *, times: int | None = None, path: str = JWKS_PATH
    ) -> None:
        """Pad it in the same way, and compress it to a thousandth of that."""
        self._deliveries.on(delivery.compressed(size), path, times)

    def drip(
        self,
        size: int = 16,
        interval: float = 0.05,
        *,
        times: int | None = None,
        path: str = JWKS_PATH,
    ) -> None:
        """Send `size` bytes of the body every `interval` seconds of the real clock."""
        self._deliveries.on(delivery.drip(size, interval, self._ended), path, times)

    def truncated(self, *, times: int | None = None, path: str = JWKS_PATH) -> None:
        """Send half of the body that Content-Length announces and close the connection."""
        self._deliveries.on(delivery.half, path, times)

    def reset(self, *, times: int | None = None, path: str = JWKS_PATH) -> None:
        """Reset the connection instead of answering."""
        self._deliveries.on(delivery.nothing, path, times)
