"""Real gRPC servers, of threads and of asyncio, and calls of all four kinds to them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Thread
from typing import Any, TypeVar

import grpc
import grpc.aio

from tests.support import PATIENCE

T = TypeVar("T")
Metadata = tuple[tuple[str, str], ...]

OPTIONS = [("grpc.max_metadata_size", 65_536), ("grpc.absolute_max_metadata_size", 65_536)]
"""Else gRPC itself refuses metadata of 16 KB, and may refuse 8 KB."""

KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")


def handlers(**behaviors: Callable[..., Any]) -> grpc.GenericRpcHandler:
    """The methods of the service `acme.Things`, each named by the kind of call that it is."""
    made = {
        name: getattr(grpc, f"{name}_rpc_method_handler")(behavior)
        for name, behavior in behaviors.items()
    }
    return grpc.method_handlers_generic_handler("acme.Things", made)


def call(channel: grpc.Channel, kind: str, metadata: Metadata = ()) -> list[bytes]:
    """The responses of a call that sends `a`, or as a stream `a` and `b`."""
    method = getattr(channel, kind)(f"/acme.Things/{kind}")
    sent = iter([b"a", b"b"]) if kind.startswith("stream") else b"a"
    answer = method(sent, metadata=metadata, timeout=PATIENCE)
    return list(answer) if kind.endswith("stream") else [answer]


@contextmanager
def served_in_threads(
    handler: grpc.GenericRpcHandler,
    *interceptors: grpc.ServerInterceptor,
    threads: int = 4,
) -> Iterator[grpc.Channel]:
    """A channel to a server of threads."""
    with ThreadPoolExecutor(threads) as pool:
        server = grpc.server(pool, interceptors=list(interceptors), options=OPTIONS)
        server.add_generic_rpc_handlers([handler])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                yield channel
        finally:
            server.stop(None).wait(PATIENCE)


class Loop:
    """An event loop in a thread of its own, for servers of grpc.aio."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(PATIENCE)

    def close(self) -> None:
        self.run(self._end_tasks())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        self._loop.close()

    async def _end_tasks(self) -> None:
        """A client may have its answer before the server's task has ended."""
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    @contextmanager
    def served(
        self, handler: grpc.GenericRpcHandler, *interceptors: grpc.aio.ServerInterceptor
    ) -> Iterator[grpc.Channel]:
        """A channel to a server on this loop."""

        async def start() -> tuple[grpc.aio.Server, int]:
            server = grpc.aio.server(
                ThreadPoolExecutor(2), interceptors=interceptors, options=OPTIONS
            )
            server.add_generic_rpc_handlers([handler])
            port = server.add_insecure_port("127.0.0.1:0")
            await server.start()
            return server, port

        server, port = self.run(start())
        try:
            with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                yield channel
        finally:
            self.run(server.stop(None))
