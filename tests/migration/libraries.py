"""The libraries of docs/migration.md, the rows of each, and the two sides of one at a tenant."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from benchmarks.environments import node_modules, python_for
from jwks_guard.testing import LocalTenant
from tests.migration import token_rows as tokens
from tests.migration.key_rows import KEYS
from tests.migration.sides import Command, Outcome, Pair, Row, running
from tests.process.programs import PROJECT, require_program
from tests.support import HandClock

HERE = Path(__file__).parent
PAGE = PROJECT / "docs" / "migration.md"
HELPERS = "its helpers"
RUNNER = ["-m", "tests.migration.runner"]


@dataclass(frozen=True)
class Library:
    """What its blocks are marked with on the page, and what is done to it.

    `heading` is that of its changes; `whole` says that the changes of all are its own, too.
    """

    name: str
    rows: Mapping[str, Row] = field(repr=False)
    kind: Literal["python", "node"] = "python"
    entra: bool = False
    whole: bool = True
    path: str = "/things"

    @property
    def heading(self) -> str:
        return "Its helpers" if self.name == HELPERS else self.name

    def block(self, side: Literal["before", "after"]) -> str:
        """The code of one side."""
        marked = rf"<!-- {self.name}: {side} -->\s*```(?:python|js)\n(.*?)```"
        (code,) = re.findall(marked, PAGE.read_text(), re.DOTALL)
        return str(code)

    def table(self) -> str:
        """The page's table of outcomes."""
        marked = rf"<!-- {self.name}: outcomes -->\n(.*?\n)\n"
        (table,) = re.findall(marked, PAGE.read_text(), re.DOTALL)
        return str(table)

    def written(self, outcomes: Mapping[str, Outcome]) -> str:
        """The table as the page has to show it."""
        head = [f"| | {self.name} | jwks_guard |", "|---|---|---|"]
        lines = (f"| {row} | {theirs} | {ours} |" for row, (theirs, ours) in outcomes.items())
        return "".join(f"{line}\n" for line in [*head, *lines])

    def claims(self, tenant: LocalTenant, clock: HandClock) -> dict[str, Any]:
        """What every token of such an issuer has."""
        if not self.entra:
            return {"scope": "read:things"}
        begun = int(clock.time()) - 60
        scopes = {"scp": "read:things", "scope": None}
        return {"ver": "2.0", "nbf": begun, "aud": tenant.audience, **scopes}

    @contextmanager
    def running(self, home: Path) -> Iterator[Pair]:
        """Both sides at a tenant of their own; `home` is an empty folder."""
        clock = HandClock()
        with ExitStack() as ends:
            tenant = ends.enter_context(LocalTenant(tls=True, clock=clock))
            authority = home / "ca.pem"
            authority.write_text(tenant.ca_certificate)
            trusted = {"SSL_CERT_FILE": str(authority), "NODE_EXTRA_CA_CERTS": str(authority)}
            before = running(self._command(home), self.block("before"), clock, trusted)
            theirs = ends.enter_context(before)
            ours = ends.enter_context(running(OURS, self.block("after"), clock, trusted))
            yield Pair(theirs, ours, tenant, clock, self.claims(tenant, clock))

    def _command(self, home: Path) -> Command:
        if self.kind == "python":
            return [python_for("migration"), *RUNNER]
        require_program("node", "apt-get install -y nodejs")
        require_program("npm", "apt-get install -y npm")
        clients = PROJECT / "tests" / "testing" / "clients" / "package.json"
        packages = node_modules(clients, "node-clients")
        assert packages is not None
        # Node looks for packages beside the file that imports them.
        shutil.copy(HERE / "runner.mjs", home)
        (home / "node_modules").symlink_to(packages / "node_modules")
        return ["node", home / "runner.mjs"]


OURS = [sys.executable, *RUNNER]
PLAIN = {**tokens.SIGNED, **KEYS}
LIBRARIES = [
    Library("PyJWT", PLAIN),
    Library("python-jose", PLAIN),
    Library("Authlib", PLAIN),
    Library("auth0-fastapi-api", {**tokens.SIGNED, **tokens.WEB, **tokens.AUTH0, **KEYS}),
    Library(
        "fastapi-azure-auth", {**tokens.SIGNED, **tokens.WEB, **tokens.ENTRA, **KEYS}, entra=True
    ),
    Library(
        "express-oauth2-jwt-bearer", {**tokens.SIGNED, **tokens.WEB, **tokens.AUTH0, **KEYS}, "node"
    ),
    Library(HELPERS, tokens.HELPERS, "node", whole=False, path="/any"),
]
