"""What `jwks-guard console` says when it is ready: where it is, and how to log in."""

from __future__ import annotations

import os
import shlex
import sys
import threading
import webbrowser

from rich.console import Console

from jwks_guard.cli.console.demo.stage import DemoStage
from jwks_guard.cli.words import printable


def introduce(url: str, issuer: str, secret: str | None, manages: bool) -> None:
    """Print the address, and the secret if one was made; it is shown nowhere else."""
    console = _output()
    console.print(f"The console of {printable(issuer)} is at {url}")
    if not manages:
        console.print(
            "The Management API is not configured: keys can be distrusted, not rotated or revoked."
        )
    if secret is not None:
        console.print("No log-in is configured, so this secret was made for this run alone:")
        console.print(f"    {secret}")
    console.print("Ctrl-C ends it.")


def introduce_demo(url: str, stage: DemoStage) -> None:
    """Print the address, both secrets, and how the commands reach the same tenant and fleet."""
    console = _output()
    console.print("A local tenant, two guarded processes, clients that call them, and the console:")
    console.print(f"    {url}")
    console.print(f"    operator secret  {stage.operator_secret}")
    console.print(f"    viewer secret    {stage.viewer_secret}")
    console.print(
        f"Tokens live {stage.token_lifetime:.0f} s and a key has to be quiet for "
        f"{stage.quiet_seconds:.0f} s, so a rotation can be finished in a few minutes."
    )
    console.print("The commands see the same, in another terminal:")
    console.print(f"    export JWKS_GUARD_CONFIG={shlex.quote(str(stage.config))}")
    console.print("    jwks-guard status")
    console.print("Ctrl-C ends all of it.")


def open_browser(url: str) -> None:
    """Open `url` where there is a display: elsewhere a browser would take the terminal."""
    displays = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if displays or sys.platform in ("darwin", "win32"):
        # Some browsers run until they are closed, and nothing waits for them.
        threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()


def _output() -> Console:
    return Console(highlight=False, soft_wrap=True, markup=False)
