"""What keeps a fleet from using its Redis, in words, and what to do about it."""

from __future__ import annotations

import re

from redis.asyncio.sentinel import MasterNotFoundError
from redis.exceptions import (
    AskError,
    AuthenticationError,
    AuthenticationWrongNumberOfArgsError,
    BusyLoadingError,
    ClusterDownError,
    MovedError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    TryAgainError,
)
from redis.exceptions import (
    ConnectionError as NoConnectionError,
)
from redis.exceptions import (
    TimeoutError as NoAnswerError,
)

_CLIENT = re.compile(r"<redis\.asyncio\.client\.Redis\(.*?\bhost=([^,]*),port=(\d+).*?\)>\)>\)> - ")
"""How redis-py shows a Sentinel in a list of errors: some 1,000 characters of its settings."""
_DISAGREEING = (
    "is a cluster that does not agree on which node has the fleet's keys: look at `CLUSTER NODES`; "
    "it is tried again"
)
_MOVING = "is a cluster that is moving the fleet's keys to another node: it is tried again"
_DOWN = "is a cluster that is down: look at `CLUSTER INFO` and `CLUSTER NODES`"
_UNREACHABLE = (
    "can't be reached: look whether it runs, at the URL (rediss:// is with TLS), and at the network"
)
_CAUSES: dict[type[BaseException] | str, str] = {
    "no password is set": "has no password: leave it out of the URL, or set one there",
    # Of a Sentinel, in a list of errors:
    "AuthenticationError": "is behind Sentinels that refuse the login: write sentinel_password=, "
    "and sentinel_username= where they have users, into the URL",
    "unknown command 'SENTINEL'": "is no Sentinel, as the URL says: write the port of the "
    "Sentinels (26379 by default), or redis:// for this server itself",
    "CERTIFICATE_VERIFY_FAILED": "shows a certificate that is not trusted: name its CA in the URL "
    "by ssl_ca_certs=, and the host as the certificate does",
    "[SSL": "does not speak TLS as the URL says: write redis:// for a server without TLS",
    "unknown command 'HELLO'": "does not know HELLO, as one older than 6.0: leave protocol= out of "
    "the URL",
    "SELECT is not allowed in cluster mode": "is a cluster, which has database 0 alone: leave the "
    "number of the database out of the URL",
    "DB index is out of range": "has no database of that number: write another into the URL",
    AuthenticationWrongNumberOfArgsError: "knows no user names: leave the user name out of the "
    "URL: 'redis://:password@host'",
    AuthenticationError: "refuses the login: correct user name and password in the URL, with "
    "special characters percent-encoded",
    NoPermissionError: "forbids its user something: give the user the rights that the "
    "documentation lists",
    ReadOnlyError: "is a replica, which takes no writes: give the URL of the primary, a URL with "
    "all nodes, or redis+sentinel://",
    MovedError: _DISAGREEING,
    "MOVED ": _DISAGREEING,
    AskError: _MOVING,
    TryAgainError: _MOVING,
    "TRYAGAIN ": _MOVING,
    ClusterDownError: _DOWN,
    "CLUSTERDOWN ": _DOWN,
    BusyLoadingError: "is loading its data: it is tried again",
    OutOfMemoryError: "is full: give it more memory (maxmemory)",
    MasterNotFoundError: "is not known to any Sentinel that answers: look at their addresses and "
    "the service name in the URL, and at `SENTINEL MASTERS`",
    NoConnectionError: _UNREACHABLE,
    NoAnswerError: _UNREACHABLE,
    TimeoutError: _UNREACHABLE,
    ConnectionError: _UNREACHABLE,
}
"""A kind of error, or a part of its text, and what that says of Redis, with what to do about it.

An older redis-py has no kinds of their own for what the node of a cluster answers.
"""
_QUOTED = ", with args beginning with"
"""What follows in a server's answer is what it was sent, the password in HELLO among it."""


def cause_of(error: BaseException) -> str:
    """What is wrong, in one sentence without its full stop."""
    answer = str(error).partition(_QUOTED)[0].replace("`", "'").rstrip(".")
    said = _CLIENT.sub(r"\1:\2: ", answer) or type(error).__name__
    return f"The fleet's Redis {_explained(error, said)} ({said})"


def _explained(error: BaseException, said: str) -> str:
    for sign, cause in _CAUSES.items():
        if sign in said if isinstance(sign, str) else isinstance(error, sign):
            return cause
    return "can't be used: look at what it holds, and at its log"
