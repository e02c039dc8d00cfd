from __future__ import annotations

import asyncio
import io
import os
import re
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from hashlib import blake2b
from pathlib import Path

import httpx
import pytest
from rich.console import Console
from typer.testing import CliRunner

from jwks_guard import TokenVerifier, VerifiedToken
from jwks_guard.cli.app import app
from jwks_guard.cli.demo.command import tell
from jwks_guard.cli.demo.findings import Finding
from jwks_guard.cli.demo.stage import Stage, direct_client, opened
from jwks_guard.cli.demo.story import Step
from jwks_guard.testing import LocalTenant
from jwks_guard.verify.verification import Verification
from tests.process.programs import run_to_end
from tests.support import PATIENCE

COMMAND = Path(sys.executable).with_name("jwks-guard")

Play = Callable[[Stage], AsyncIterator[Finding]]

KEY_LINES = [
    r"ok  a token of the tenant: accepted +200 in [\d.]+ ms",
    r"ok  first token of the new key: accepted +200 in [\d.]+ ms",
    r"ok  no fetch for it: it was known beforehand +0 JWKS fetches",
    r"ok  token of the old key: still accepted +200 in [\d.]+ ms",
    r"ok  its first 20 requests, at once: accepted +20 x 200, slowest \d+ ms",
    r"ok  one fetch for all of them +1 JWKS fetch",
    r"ok  a stolen token: accepted, and now cached +200 in [\d.]+ ms",
    r"ok  clients hammer with it: refused at once +[\d.]+ ms after distrust\(\)",
    r"ok  accepted until then, and never afterwards +[1-9]\d* before, 0 of [1-9]\d* after",
    r"ok  the API refreshes and takes the set +taken",
    r"ok  a token of that key: still refused +401 revoked_key",
    r"ok  the edge falls back: the old set is not +not taken",
    r"ok  signed by another key: refused +401 invalid_signature",
    r"ok  20 good tokens while it hangs: accepted +20 x 200, slowest \d+ ms",
    r"ok  at most 5 fetches for them +[1-5] JWKS fetch(es)?",
]


def broken_lines(output: str) -> list[str]:
    return re.findall(r"^   NO  (.+?)  ", output, re.MULTILINE)


def test_demo_in_a_process_of_its_own_holds_every_expectation_and_says_so_in_plain_text() -> None:
    environment = {name: v for name, v in os.environ.items() if name != "FORCE_COLOR"}
    run = run_to_end([COMMAND, "demo"], env=environment)
    assert (run.returncode, run.stderr) == (0, ""), broken_lines(run.stdout)
    for line in KEY_LINES:
        assert re.search(line, run.stdout), line
    assert re.search(r"All \d+ expectations held, in [\d.]+ s\.\n$", run.stdout)
    assert broken_lines(run.stdout) == []
    assert "\x1b" not in run.stdout
    assert run.stdout.isascii()
    assert max(map(len, run.stdout.splitlines())) <= 80


def test_demo_leaves_nothing_running() -> None:
    threads = set(threading.enumerate())
    run = CliRunner().invoke(app, ["demo"])
    assert run.exit_code == 0, run.output
    assert set(threading.enumerate()) == threads
    ports = {int(port) for port in re.findall(r"http://127\.0\.0\.1:(\d+)/", run.output)}
    assert len(ports) == 2
    for port in ports:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)


async def shrug(*_: object, **__: object) -> None:
    """Distrusts nothing."""


def look_up_whatever_became_of_the_key(
    verification: Verification, compact: str | bytes
) -> VerifiedToken | tuple[bytes, bytes | None]:
    token = compact.encode() if isinstance(compact, str) else compact
    name = blake2b(token).digest()
    return verification._cache.get(name) or (token, name)


SABOTAGE = [
    (
        "jwks_guard.verify.verifier.TokenVerifier.distrust",
        shrug,
        "clients hammer with it: refused at once",
    ),
    (
        "jwks_guard.verify.verification.Verification.look_up",
        look_up_whatever_became_of_the_key,
        "accepted until then, and never afterwards",
    ),
    (
        "jwks_guard.keys.refresh.origin",
        lambda _answer, _previous, started: started,
        "the edge falls back: the old set is not",
    ),
    (
        "jwks_guard.verify.verification.signature_check",
        lambda *_: lambda *_: None,
        "signed by another key: refused",
    ),
    (
        "jwks_guard.keys.freshness.TokenBucket.take",
        lambda *_: True,
        "at most 5 fetches for them",
    ),
]


@pytest.mark.parametrize(("target", "fault", "line"), SABOTAGE, ids=[each[2] for each in SABOTAGE])
def test_demo_of_a_broken_library_says_what_did_not_hold_and_exits_1(
    monkeypatch: pytest.MonkeyPatch, target: str, fault: object, line: str
) -> None:
    monkeypatch.setattr(target, fault)
    run = CliRunner().invoke(app, ["demo"])
    assert run.exit_code == 1, run.output
    broken = broken_lines(run.output)
    assert line in broken
    assert "a token of the tenant: accepted" not in broken  # else it is another fault that shows
    assert f"{len(broken)} of " in run.output.splitlines()[-1]
    assert run.output.endswith(" expectations did not hold.\n")


class FailingVerifier(TokenVerifier):
    async def verify(self, compact: str | bytes) -> VerifiedToken:
        raise RuntimeError


@pytest.fixture(scope="module")
def tenant() -> Iterator[LocalTenant]:
    with LocalTenant(algorithm="ES256") as tenant:
        yield tenant


def staged(
    tenant: LocalTenant, kind: type[TokenVerifier] = TokenVerifier
) -> AbstractAsyncContextManager[Stage]:
    verifier = kind(tenant.issuer, tenant.audience, algorithms=["ES256"], http_client=direct_client)
    return opened(tenant, verifier)


async def told(stage: Stage, *plays: Play, longest: float = PATIENCE) -> tuple[bool, str]:
    console = Console(file=io.StringIO(), soft_wrap=True)
    story = [Step("A title", "What happens.", play) for play in plays]
    held = await tell(story, stage, console, longest)
    assert isinstance(console.file, io.StringIO)
    return held, console.file.getvalue()


async def holds(_: Stage) -> AsyncIterator[Finding]:
    yield Finding(True, "this", "that")


async def test_step_that_fails_is_a_finding_and_the_story_goes_on(tenant: LocalTenant) -> None:
    async def fails(stage: Stage) -> AsyncIterator[Finding]:
        stage.tenant.faults.status(503)
        yield Finding(True, "this", "that")
        raise httpx.ReadError("gone")

    async with staged(tenant) as stage:
        held, output = await told(stage, fails, holds)
        assert await stage.refresh()  # the fault went with its step
    assert not held
    assert re.search(r"NO  the step comes to its end +ReadError\n", output)
    assert re.search(r"ok  this +that\n", output)
    assert "1 of 3 expectations did not hold." in output


async def test_step_that_hangs_ends_with_the_time_of_the_story(tenant: LocalTenant) -> None:
    async def hangs(stage: Stage) -> AsyncIterator[Finding]:
        await asyncio.Event().wait()
        yield Finding(True, "never", "never")

    async with staged(tenant) as stage:
        held, output = await told(stage, holds, hangs, longest=0.1)
    assert not held
    assert re.search(r"NO  the step comes to its end +TimeoutError\n", output)


async def test_answer_that_is_no_refusal_is_measured_by_its_status(
    tenant: LocalTenant, caplog: pytest.LogCaptureFixture
) -> None:
    async with staged(tenant, FailingVerifier) as stage:
        answer = await stage.call(tenant.token())
    assert answer.verdict == "500"
    assert "RuntimeError" in caplog.text


async def test_api_whose_tenant_is_down_still_comes_up(tenant: LocalTenant) -> None:
    tenant.faults.status(503)
    async with staged(tenant) as stage:
        tenant.faults.clear()
        assert not stage.verifier.keys.kids
        assert await stage.refresh()
        assert (await stage.call(tenant.token())).verdict == "200"
