"""The URL of one instance of the fleet: how it is asked, and which processes answer there."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from http import HTTPStatus
from itertools import groupby
from urllib.parse import urlsplit

from jwks_guard.fleet.http_messages import INSTANCE_HEADER, MAX_MESSAGE_BYTES
from jwks_guard.fleet.soundness import MAX_DECISIONS, is_replica
from jwks_guard.net.clients import Clients
from jwks_guard.net.exchange import ExchangeError, exchange, new_request

_REMEMBERED_IDS = 16
_LOOKS = 4
_WHY = {
    401: "it answered 401: it does not know the secret, or these are not its operations routes, or "
    "they are not in the exclude_paths of its middleware",
    403: "the secret does not allow it",
    404: "no operations routes with operations_auth are there",
}
_FULL = f"it holds {MAX_DECISIONS} decisions and takes no more"


class EndpointError(Exception):
    """The instance could not be asked, or gave no answer that can be used; says why."""


class Endpoint:
    """Where an instance is asked, with `secret`; each call is waited for `timeout` seconds."""

    def __init__(self, url: str, secret: str, timeout: float, clients: Clients) -> None:
        self.url = url.removesuffix("/")
        self.name = urlsplit(url).netloc
        self._authorization = f"Bearer {secret}"
        self._timeout = timeout
        self._clients = clients
        self._ids: deque[str] = deque(maxlen=_REMEMBERED_IDS)

    def __repr__(self) -> str:
        return f"Endpoint({self.url!r})"

    @property
    def several(self) -> str | None:
        """The error where several processes answer in turn, if they do.

        After a restart no earlier one returns.
        """
        in_turn = [instance for instance, _ in groupby(self._ids)]
        if len(set(in_turn)) == len(in_turn):
            return None
        return (
            f"{self.url}: several processes answer at this URL, and which one can't be chosen. A "
            "fleet over HTTP is of single-process instances: with several workers use RedisFleet"
        )

    async def look(self) -> None:
        """Ask again and again, so that several processes are noticed."""
        with suppress(TimeoutError):  # what was seen so far counts
            async with asyncio.timeout(self._timeout):
                for _ in range(_LOOKS):
                    one, other = await asyncio.gather(self._seen(), self._seen())
                    self._note(*one, *other)

    async def ask(
        self, method: str, path: str, body: bytes | None = None, seconds: float = 0.0
    ) -> bytes:
        """The body of a good answer; raises EndpointError.

        A second call is made at once, as it finds the first one of several workers busy. Not more:
        of many connections that come together one worker takes all.
        """
        asking = self._asked(method, path, body, seconds or self._timeout)
        asked, seen = await asyncio.gather(asking, self._seen(), return_exceptions=True)
        if isinstance(asked, BaseException):
            raise asked
        instance, content = asked
        self._note(instance, *(seen if isinstance(seen, list) else ()))
        return content

    async def _seen(self) -> list[str]:
        """Which process takes one more connection, if one does."""
        try:
            instance, _ = await self._asked("HEAD", "/state", None, self._timeout)
        except EndpointError:
            return []
        return [instance]

    async def _asked(
        self, method: str, path: str, body: bytes | None, seconds: float
    ) -> tuple[str, bytes]:
        """Which process answered, and with what; raises EndpointError."""
        headers = {
            "Authorization": self._authorization,
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "Connection": "close",  # for another worker to answer next, if there are several
        }
        try:
            request = new_request(method, self.url + path, headers, body)
            async with self._clients.opened() as client:
                reply = await exchange(client, request, timeout=seconds, limit=MAX_MESSAGE_BYTES)
        except ExchangeError as error:
            raise EndpointError(str(error)) from None
        instance = reply.headers.get(INSTANCE_HEADER.lower(), "")
        if reply.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            raise EndpointError(_why_too_large(instance, len(body or b"")))
        if reply.status != HTTPStatus.OK:
            raise EndpointError(_WHY.get(reply.status, f"it answered {reply.status}"))
        if is_replica(instance) is None:
            raise EndpointError(_WHY[404])
        return instance, reply.body

    def _note(self, *instances: str) -> None:
        """Remember who answered; different ones that answered at once did so in turn."""
        self._ids.extend(instances)
        if len(set(instances)) > 1:
            self._ids.append(instances[0])


def _why_too_large(instance: str, sent: int) -> str:
    """Why a message is too large: an instance says so of many decisions, too, a proxy does not."""
    if instance and sent <= MAX_MESSAGE_BYTES:
        return _FULL
    return (
        f"it, or a proxy before it, takes no message of {sent} bytes; the operations routes take "
        f"{MAX_MESSAGE_BYTES}. Raise the proxy's limit, or use RedisFleet"
    )
