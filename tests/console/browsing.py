"""A console in a real server and a real Chromium, with a fleet of two instances over HTTP.

Time goes on by itself; a test that waits for hours turns the clock ahead.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Locator, Page, expect
from starlette.applications import Starlette
from starlette.routing import Mount

from jwks_guard import JWKSGuardError, Register, SyncTokenVerifier
from jwks_guard.admin import ClientCredentials, KeyRotation, SigningKeysClient
from jwks_guard.asgi import operations
from jwks_guard.console import OpenIDConnect, OperatorSecrets, console
from jwks_guard.fleet import HTTPFleet
from jwks_guard.testing import LocalTenant
from jwks_guard.testing.server import ServerThread, listen
from tests.console.support import Server
from tests.support import PATIENCE

OPERATOR = "the-operators-own-secret"
VIEWER = "a-secret-for-viewers-only"
LIFETIME = 600.0
QUIET = 60.0
_FLEET_SECRET = "the-secret-of-the-fleet"
expect.set_options(timeout=PATIENCE * 1000)


class AheadClock:
    """The real time and more: `advance` lets hours pass at once."""

    def __init__(self) -> None:
        self._ahead = 0.0

    def time(self) -> float:
        return time.time() + self._ahead

    def monotonic(self) -> float:
        return time.monotonic() + self._ahead

    def advance(self, seconds: float) -> None:
        self._ahead += seconds


@dataclass(slots=True)
class Stage:
    """What a console is about: a tenant, and two instances that guard its API."""

    clock: AheadClock
    tenant: LocalTenant
    instances: tuple[SyncTokenVerifier, ...]
    urls: tuple[str, ...]
    journal: Path

    def answers(self, token: str) -> set[str]:
        """What the instances say to a token: its kid, or the code of the refusal."""
        return {_answer(each, token) for each in self.instances}

    def used_key(self) -> tuple[str, str]:
        """The kid of the current key, and a token of it that both instances have accepted."""
        kid, token = self.tenant.key().kid, self.tenant.token()
        assert self.answers(token) == {kid}
        return kid, token

    def tokens_expire(self) -> None:
        """Nobody uses a key any more that is not current."""
        for instance in self.instances:
            instance.usage()  # notes when tokens were accepted: before the jump
        self.clock.advance(LIFETIME + QUIET + 30.0)


@contextmanager
def staged(folder: Path) -> Iterator[Stage]:
    clock = AheadClock()
    with ExitStack() as stack:
        options = {"algorithm": "ES256", "clock": clock, "token_lifetime": LIFETIME}
        tenant = stack.enter_context(LocalTenant(**options))  # type: ignore[arg-type]
        served = [stack.enter_context(_instance(tenant, clock)) for _ in range(2)]
        instances, urls = zip(*served, strict=True)
        yield Stage(clock, tenant, instances, urls, folder / "journal.jsonl")


@contextmanager
def _instance(tenant: LocalTenant, clock: AheadClock) -> Iterator[tuple[SyncTokenVerifier, str]]:
    listener = listen("127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/ops"
    with SyncTokenVerifier(
        tenant.issuer,
        tenant.audience,
        algorithms=["ES256"],
        clock=clock,
        refresh_interval=1.0,
        register=Register(),
    ) as verifier:
        app = Starlette(routes=[Mount("/ops", operations(verifier, operations_auth=_FLEET_SECRET))])
        server = ServerThread(app, listener)
        try:
            yield verifier, url
        finally:
            server.stop()


def _answer(verifier: SyncTokenVerifier, token: str) -> str:
    try:
        return verifier.verify(token).kid
    except JWKSGuardError as error:
        return error.code


@dataclass(slots=True)
class Served:
    """A console; `stop` and `start` it as often as a test likes, at the same address."""

    stage: Stage
    login: OperatorSecrets | OpenIDConnect
    _port: int = 0
    _server: Server | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Serve another run of the console: it knows no session of the one before."""
        stage, tenant = self.stage, self.stage.tenant
        fleet = HTTPFleet(stage.urls, secret=_FLEET_SECRET, issuer=tenant.issuer, clock=stage.clock)
        auth = ClientCredentials(tenant.client_id, tenant.client_secret)
        keys = SigningKeysClient(tenant.issuer, auth=auth, clock=stage.clock)
        rotation = KeyRotation(
            keys,
            fleet,
            token_lifetime=timedelta(seconds=LIFETIME),
            quiet_period=timedelta(seconds=QUIET),
            expected_instances=len(stage.urls),
            journal_path=stage.journal,
        )
        app = console(rotation, fleet, login=self.login, clock=stage.clock)
        self._server = Server(app, self._port, closing=[fleet.aclose, keys.aclose])
        self._port = self._server.port

    def stop(self) -> None:
        """End it, with every open page's stream."""
        assert self._server is not None
        self._server.stop()


@contextmanager
def served(stage: Stage, login: OperatorSecrets | OpenIDConnect) -> Iterator[Served]:
    running = Served(stage, login)
    running.start()
    try:
        yield running
    finally:
        running.stop()


@contextmanager
def opened(browser: Browser, console: Served, path: str = "/", **options: Any) -> Iterator[Page]:
    """The console in a profile of its own. Whatever the page reports as an error fails the test."""
    faults: list[str] = []
    with browser.new_context(**options) as context:
        context.set_default_timeout(PATIENCE * 1000)
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda said: faults.append(said.text) if _is_csp(said.text) else None)
        page.goto(console.url + path)
        yield page
    assert not faults


def _is_csp(text: str) -> bool:
    return "Content Security Policy" in text


def log_in(page: Page, stage: Stage, secret: str = OPERATOR, name: str = "Ada") -> None:
    """Fill in the form and send it; the clock is ahead of what limits wrong attempts."""
    stage.clock.advance(60.0)
    page.get_by_label("Your name").fill(name)
    page.get_by_label("Secret").fill(secret)
    page.get_by_role("button", name="Log in").click()


def key(page: Page, kid: str) -> Locator:
    """What the page shows of that key."""
    return page.locator(f"[id='key-{kid}']")


def act(page: Page, kid: str, action: str) -> Locator:
    """Click the action beside the key; gives the dialog that opens."""
    key(page, kid).get_by_role("link", name=f"{action} {kid}", exact=True).click()
    dialog = page.locator("#dialog")
    expect(dialog).to_be_visible()
    return dialog


def fill_in(dialog: Locator, kid: str, reason: str) -> None:
    """The reason, and the end of the kid where it is asked for."""
    dialog.get_by_label("Reason").fill(reason)
    ending = dialog.get_by_label("The last 4 characters of the kid")
    if ending.count():
        ending.fill(kid[-4:])


def tab_to(page: Page, text: str) -> None:
    """Press Tab until an element of that text or label has the focus."""
    for _ in range(100):
        page.keyboard.press("Tab")
        focused = page.evaluate(
            "() => { const e = document.activeElement; const label = e.labels?.[0];"
            " return (label ?? e).textContent.replace(/\\s+/g, ' ').trim(); }"
        )
        if focused == text:
            return
    raise AssertionError(f"no Tab reaches {text!r}")
