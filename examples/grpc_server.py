"""A guarded gRPC server: `python -m examples.grpc_server [PORT]`.

Set JWKS_GUARD_ISSUER and JWKS_GUARD_AUDIENCE first, as `jwks-guard tenant` prints them. Its
messages are bytes, so that nothing has to be generated; a servicer made by protoc is guarded alike.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio

from jwks_guard import TokenVerifier
from jwks_guard.integrations.grpc import AioGuardInterceptor, get_token


async def owner(request: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
    return str(get_token().subject).encode()


async def watch(
    request: bytes, context: grpc.aio.ServicerContext[Any, Any]
) -> AsyncIterator[bytes]:
    """Goes on until the client hangs up, or its token is not accepted any more."""
    yield b"watching"
    await asyncio.Event().wait()


async def check(request: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
    return b"serving"


SERVICE = "acme.Things"
METHODS: dict[str, Any] = {
    "Owner": grpc.unary_unary_rpc_method_handler(owner),
    "Watch": grpc.unary_stream_rpc_method_handler(watch),
    "Check": grpc.unary_unary_rpc_method_handler(check),
}


def server_with(verifier: TokenVerifier) -> grpc.aio.Server:
    guard = AioGuardInterceptor(
        verifier,
        methods={"/acme.Things/Watch": {"required_scopes": ["read:things"]}},
        exclude_methods=["/acme.Things/Check"],
    )
    server = grpc.aio.server(interceptors=[guard])
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, METHODS)])
    return server


async def main(port: int) -> None:
    async with TokenVerifier.from_env() as verifier:
        server = server_with(verifier)
        print(f"port {server.add_insecure_port(f'127.0.0.1:{port}')}", flush=True)
        await server.start()
        try:
            await server.wait_for_termination()
        finally:
            await server.stop(grace=1)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 50051))
