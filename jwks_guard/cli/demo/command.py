"""`jwks-guard demo`: the library's main job on a local tenant, told and measured."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from time import perf_counter, time

import httpx
import typer
from rich.console import Console
from rich.text import Text

from jwks_guard import JWKSGuardError, TokenVerifier
from jwks_guard.cli.demo.findings import Finding
from jwks_guard.cli.demo.stage import LONGEST_SECONDS, Stage, direct_client, opened
from jwks_guard.cli.demo.story import STORY, Step
from jwks_guard.testing import LocalTenant, ManualClock

_COLUMN = 42  # characters for what is expected


def demo() -> None:
    """Show on a local tenant what rotation, revocation and an outage do to a guarded API.

    Everything runs on this machine and ends by itself.

    Exit status: 0 every expectation held, 1 one did not.
    """
    console = Console(highlight=False, soft_wrap=True)
    console.print("A tenant, an API that trusts its keys, and a bad day.", style="bold")
    raise typer.Exit(0 if asyncio.run(_played(console)) else 1)


async def _played(console: Console) -> bool:
    # The time of day stands still: no budget grows and no key ages while a slow machine works.
    clock = ManualClock(time())
    async with LocalTenant(clock=clock) as tenant:
        verifier = TokenVerifier(
            tenant.issuer, tenant.audience, http_client=direct_client, clock=clock
        )
        async with opened(tenant, verifier) as stage:
            console.print(f"tenant {tenant.issuer}   API {stage.api}", style="dim")
            return await tell(STORY, stage, console)


async def tell(
    story: Sequence[Step], stage: Stage, console: Console, longest: float = LONGEST_SECONDS
) -> bool:
    """Play `story` on `stage` and print each finding as it comes; whether all of them held.

    A step that fails, or that `longest` seconds of the whole don't suffice for, has not held.
    """
    begin = perf_counter()
    deadline = asyncio.get_running_loop().time() + longest
    findings: list[Finding] = []

    def report(finding: Finding) -> None:
        findings.append(finding)
        console.print(_line(finding))

    for number, step in enumerate(story, 1):
        console.print(_heading(number, step, perf_counter() - begin))
        await _play(step, stage, deadline, report)
    failed = sum(not finding.held for finding in findings)
    console.print(_conclusion(len(findings), failed, perf_counter() - begin))
    return failed == 0


async def _play(
    step: Step, stage: Stage, deadline: float, report: Callable[[Finding], None]
) -> None:
    try:
        async with asyncio.timeout_at(deadline):
            async for finding in step.play(stage):
                report(finding)
    except (httpx.HTTPError, JWKSGuardError, TimeoutError) as error:
        report(Finding(False, "the step comes to its end", type(error).__name__))
    finally:
        stage.tenant.faults.clear()


def _heading(number: int, step: Step, seconds: float) -> Text:
    return Text.assemble(
        (f"\n{number}  {step.title}", "bold"),
        (f"  [{seconds:.1f} s]\n   {step.plot}", "dim"),
    )


def _line(finding: Finding) -> Text:
    mark = ("ok", "green") if finding.held else ("NO", "bold red")
    return Text.assemble(
        "   ", mark, f"  {finding.expected:<{_COLUMN}}  ", (finding.measured, "cyan")
    )


def _conclusion(number: int, failed: int, seconds: float) -> Text:
    if failed:
        return Text(f"\n{failed} of {number} expectations did not hold.", "bold red")
    return Text(f"\nAll {number} expectations held, in {seconds:.1f} s.", "bold green")
