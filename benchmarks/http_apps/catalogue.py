"""The apps that are measured: each guard in the framework that it is made for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from benchmarks.environments import PEERS, node_modules, python_for

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
MANIFEST = HERE / "package.json"
NODE = "node"
OUR_PACKAGE = "jwks-guard"
OURS = "starlette"  # with this working tree, both Python frameworks and PyJWT: what all is held to

OUR_GUARD = "jwks_guard"
UNGUARDED, BARE = "unguarded", "a bare signature check"
MIDDLEWARE, DEPENDENCY = "a middleware that does nothing", "a dependency that does nothing"

# An access log would cost one server more than another.
_UVICORN = "--workers 1 --loop uvloop --http httptools --no-access-log --log-level warning"


@dataclass(frozen=True, slots=True)
class App:
    """One app: its file, the framework whose unguarded app it is compared with, its environment.

    `package` is what its version is taken from. `https_issuer` is for a guard that takes no other.
    `floor` names the app of the same form that does nothing, which is the least that it can cost.
    """

    name: str
    framework: str
    entry: str
    environment: str
    package: str
    settings: Mapping[str, str] = field(default_factory=dict)
    https_issuer: bool = False
    floor: str | None = None

    @property
    def title(self) -> str:
        """What people read."""
        return f"{self.framework}: {self.name}"

    @property
    def guarded(self) -> bool:
        """Whether it asks for a token."""
        return self.name not in (UNGUARDED, BARE, MIDDLEWARE, DEPENDENCY)

    @property
    def plain(self) -> bool:
        """Whether it is our guard as documented first, and no variant of it."""
        return self.name == OUR_GUARD

    @property
    def version(self) -> str:
        """The pinned version of its package, or none for what is in this working tree."""
        pins = _node_pins() if self.environment == NODE else _python_pins(self.environment)
        return pins.get(self.package, "")

    def command(self, port: int) -> list[str]:
        """How it is served; makes its environment first. Raises `UnavailableError`."""
        if self.environment == NODE:
            return ["node", str(HERE / self.entry)]
        module = f"{__package__}.{self.entry}:app"
        python = _python_for(f"http-{self.environment}")
        return [str(python), "-m", "uvicorn", module, "--port", str(port), *_UVICORN.split()]

    def variables(self) -> dict[str, str]:
        """Its environment variables besides those that name the tenant."""
        if self.environment != NODE:
            return dict(self.settings)
        home = node_modules(MANIFEST, "http-node")
        if home is None:
            raise UnavailableError("node and npm are not installed")
        # In development Express and its parts do more work for an error than in production.
        return {"NODE_PATH": str(home / "node_modules"), "NODE_ENV": "production", **self.settings}


class UnavailableError(Exception):
    """An app that can't be measured on this machine, and why."""


# Asked for once a run: an environment must not be made anew while a server runs in it.
_python_for = cache(python_for)


def _python_pins(environment: str) -> dict[str, str]:
    lines = (PEERS / f"http-{environment}.txt").read_text().splitlines()
    pins = (line.split()[0].partition("==") for line in lines if "==" in line)
    return {name.partition("[")[0]: version for name, _, version in pins}


def _node_pins() -> dict[str, str]:
    pins: dict[str, str] = json.loads(MANIFEST.read_text())["dependencies"]
    return pins


APPS = (
    App(UNGUARDED, "Starlette", "starlette_plain", OURS, "starlette"),
    App(MIDDLEWARE, "Starlette", "starlette_middleware", OURS, "starlette"),
    App(OUR_GUARD, "Starlette", "starlette_jwks_guard", OURS, OUR_PACKAGE, floor=MIDDLEWARE),
    App(
        f"{OUR_GUARD}, cache off",
        "Starlette",
        "starlette_jwks_guard",
        OURS,
        OUR_PACKAGE,
        {"TOKEN_CACHE_SIZE": "0"},
        floor=MIDDLEWARE,
    ),
    App(BARE, "Starlette", "starlette_bare", OURS, "cryptography", floor=MIDDLEWARE),
    App(
        "FastMCP's bearer middleware",
        "Starlette",
        "starlette_fastmcp",
        "fastmcp",
        "fastmcp",
        {"FASTMCP_LOG_LEVEL": "ERROR"},  # else it prints a line for every refusal
        floor=MIDDLEWARE,
    ),
    App(UNGUARDED, "FastAPI", "fastapi_plain", OURS, "fastapi"),
    App(MIDDLEWARE, "FastAPI", "fastapi_middleware", OURS, "fastapi"),
    App(DEPENDENCY, "FastAPI", "fastapi_dependency", OURS, "fastapi"),
    App(OUR_GUARD, "FastAPI", "fastapi_jwks_guard", OURS, OUR_PACKAGE, floor=MIDDLEWARE),
    App(
        f"{OUR_GUARD}, one dependency",
        "FastAPI",
        "fastapi_jwks_guard_dependency",
        OURS,
        OUR_PACKAGE,
        floor=DEPENDENCY,
    ),
    App(
        "auth0-fastapi-api",
        "FastAPI",
        "fastapi_auth0",
        "auth0",
        "auth0-fastapi-api",
        https_issuer=True,
        floor=DEPENDENCY,
    ),
    App("PyJWT, async dependency", "FastAPI", "fastapi_pyjwt", OURS, "pyjwt", floor=DEPENDENCY),
    App(
        "PyJWT, dependency in a thread",
        "FastAPI",
        "fastapi_pyjwt",
        OURS,
        "pyjwt",
        {"THREADS": "1"},
        floor=DEPENDENCY,
    ),
    App(UNGUARDED, "Express", "express_plain.cjs", NODE, "express"),
    App(
        "express-oauth2-jwt-bearer",
        "Express",
        "express_auth0.cjs",
        NODE,
        "express-oauth2-jwt-bearer",
    ),
    App("express-jwt with jwks-rsa", "Express", "express_jwt.cjs", NODE, "express-jwt"),
    App(UNGUARDED, "Fastify", "fastify_plain.cjs", NODE, "fastify"),
    App("fastify-jwt-jwks", "Fastify", "fastify_jwks.cjs", NODE, "fastify-jwt-jwks"),
)
