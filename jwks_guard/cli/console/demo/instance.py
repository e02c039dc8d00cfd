"""One guarded process of the demo; it ends when its standard input is closed.

So none is left, however the command that started it ends.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
import threading

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from jwks_guard import TokenVerifier
from jwks_guard.asgi import JWKSGuardMiddleware, StaticSecrets, operations
from jwks_guard.base.settings_reader import variable


def _app() -> Starlette:
    verifier = TokenVerifier.from_env()
    secret = StaticSecrets.from_file(os.environ[variable("fleet_secret_file")])

    def things(request: Request) -> JSONResponse:
        return JSONResponse({"things": [], "for": request.user.identity})

    mounted = Mount("/ops", operations(verifier, operations_auth=secret))
    app = Starlette(routes=[mounted, Route("/things", things)])
    app.add_middleware(JWKSGuardMiddleware, verifier=verifier, exclude_paths=["/ops/*"])
    return app


def main() -> None:
    """Serve on the listening socket whose descriptor is the first argument."""
    logging.getLogger("jwks_guard").addHandler(logging.NullHandler())  # the console shows it
    server = uvicorn.Server(
        uvicorn.Config(
            _app(), lifespan="on", ws="none", log_level="warning", timeout_graceful_shutdown=1
        )
    )

    def end_with_stdin() -> None:
        sys.stdin.buffer.read()
        server.should_exit = True

    threading.Thread(target=end_with_stdin, daemon=True).start()
    with socket.socket(fileno=int(sys.argv[1])) as listener:
        asyncio.run(server.serve([listener]))


if __name__ == "__main__":
    main()
