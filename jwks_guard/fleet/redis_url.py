"""The URL of the fleet's Redis: one node or several, or Sentinels that know the primary."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from errno import ENOTDIR
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import parse_qsl, unquote, urlsplit

from redis.asyncio import Redis
from redis.asyncio.connection import ConnectionPool, parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from jwks_guard.errors import ConfigurationError
from jwks_guard.net.environment import require_certificates

ANSWER_SECONDS = 1.0
_RESP = {"protocol": 2}
"""Unless the URL says otherwise: every server knows it, and it needs no HELLO. The default of
redis-py depends on its version."""
_OPTIONS = frozenset(
    [
        *("client_name", "db", "protocol"),
        *("ssl_ca_certs", "ssl_ca_path", "ssl_cert_reqs", "ssl_certfile", "ssl_check_hostname"),
        *("ssl_keyfile", "ssl_min_version"),
    ]
)
"""Those that don't undo how long an answer is waited for, and when it is asked for again."""
_OF_SENTINELS = frozenset(["sentinel_username", "sentinel_password"])
_FORM = re.compile(
    r"(?P<scheme>rediss?)(?P<sentinel>\+sentinel)?://(?:(?P<user>[^/?@]*)@)?(?P<hosts>[^/?@]+)"
    r"(?P<path>/[^?]*)?(?:\?(?P<query>.*))?"
)
_PORT, _SENTINEL_PORT = 6379, 26379
Node: TypeAlias = tuple[str, int]


@dataclass(frozen=True, slots=True)
class RedisURL:
    """What a URL says.

    `nodes` are tried in turn; with a `service` they are the Sentinels, and on a Unix socket there
    is one None.
    """

    nodes: tuple[Node | None, ...]
    service: str | None = None
    _options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    _sentinel_options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def client(self, node: Node | None) -> Redis:
        """A client of one node; it connects when it is used."""
        where = {} if node is None else {"host": node[0], "port": node[1]}
        pool = ConnectionPool(
            **{**_RESP, **self._options, **where, **_patience()}, decode_responses=False
        )
        return Redis.from_pool(pool)

    def sentinel(self) -> Sentinel | None:
        """A client of the Sentinels, where there are some."""
        if self.service is None:
            return None
        tls = {name: value for name, value in self._options.items() if name.startswith("ssl_")}
        secure = "connection_class" in self._options
        return Sentinel(  # type: ignore[no-untyped-call]
            list(self.nodes),
            sentinel_kwargs={
                **_RESP,
                **tls,
                **self._sentinel_options,
                **_patience(),
                "ssl": secure,
            },
        )


def _patience() -> dict[str, Any]:
    return {
        "socket_timeout": ANSWER_SECONDS,
        "socket_connect_timeout": ANSWER_SECONDS,
        "retry": Retry(NoBackoff(), 0),
    }


def parsed(url: str) -> RedisURL:
    """Read the URL; raises ConfigurationError, which does not show it."""
    try:
        read = _on_a_socket(url) if url.startswith("unix://") else _on_the_network(url)
        read.client(read.nodes[0]).connection_pool.make_connection()  # type: ignore[no-untyped-call]
    except ConfigurationError:
        raise
    except (ValueError, TypeError, AttributeError, RedisError):
        raise ConfigurationError(
            "url must be a Redis URL like 'rediss://user:password@host:6379/0', with every special "
            "character of the password percent-encoded. Several nodes are written "
            "'redis://host-1:6379,host-2:6379/0', and Sentinels "
            "'redis+sentinel://host-1:26379,host-2:26379/service-name/0'."
        ) from None
    return read


def _on_a_socket(url: str) -> RedisURL:
    _require_allowed(urlsplit(url).query, _OPTIONS)
    return RedisURL((None,), None, dict(parse_url(url)))


def _on_the_network(url: str) -> RedisURL:
    if (form := _FORM.fullmatch(url)) is None:
        raise ValueError(url)
    query, path, service = form["query"] or "", unquote((form["path"] or "")[1:]), None
    if form["sentinel"]:
        service, _, path = path.partition("/")
        if not service:
            raise ConfigurationError(
                "url names Sentinels, and not which service they are asked for: write it behind "
                "them, as in 'redis+sentinel://host-1:26379,host-2:26379/mymaster/0'."
            )
    if not re.fullmatch(r"[0-9]*", path):
        raise ValueError(url)
    own = _require_allowed(query, _OPTIONS | _OF_SENTINELS if service else _OPTIONS)
    port = _SENTINEL_PORT if service else _PORT
    nodes = tuple(_node(each, port) for each in form["hosts"].split(","))
    user = f"{form['user']}@" if form["user"] else ""
    read = dict(parse_url(f"{form['scheme']}://{user}redis/{path}?{query}"))
    options = {name: value for name, value in read.items() if name not in _OF_SENTINELS}
    if form["scheme"] == "rediss":
        _require_tls_files(options)
    sentinel = {n.removeprefix("sentinel_"): own[n] for n in _OF_SENTINELS if n in own}
    return RedisURL(nodes, service, options, sentinel)


def _node(text: str, port: int) -> Node:
    there = urlsplit(f"//{text}")
    if not there.hostname:
        raise ValueError(text)
    return unquote(there.hostname), there.port or port


def _require_allowed(query: str, allowed: frozenset[str]) -> dict[str, str]:
    """The options of a query; raises ConfigurationError for others than the allowed ones."""
    given = dict(parse_qsl(query, keep_blank_values=True))
    if not allowed.issuperset(given):
        raise ConfigurationError(
            "url has an option that is not allowed. It may have these: "
            f"{', '.join(sorted(allowed))}."
        )
    return given


def _require_tls_files(options: Mapping[str, Any]) -> None:
    """Raise ConfigurationError for certificates and keys that can't be read."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ca_file, ca_path = options.get("ssl_ca_certs"), options.get("ssl_ca_path")
    cert, key = options.get("ssl_certfile"), options.get("ssl_keyfile")
    names = "ssl_ca_certs or ssl_ca_path"
    try:
        if ca_file is None and ca_path is None:
            require_certificates()
        else:
            context.load_verify_locations(ca_file, ca_path)
            if ca_path is not None and not Path(ca_path).is_dir():  # OpenSSL does not mind
                raise NotADirectoryError(ENOTDIR, "no such folder")
        names = "ssl_certfile or ssl_keyfile"
        if cert is not None or key is not None:
            context.load_cert_chain(cert or "", key, password=lambda: "")  # never ask a terminal
    except OSError as error:  # of which ssl.SSLError is one
        why = "it holds none in PEM" if isinstance(error, ssl.SSLError) else error.strerror
        raise ConfigurationError(
            f"url names something as {names} that can't be used: {why}. Write the path of "
            "PEM files that this process can read."
        ) from None
