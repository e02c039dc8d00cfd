"""`make pictures`: the README's pictures of the console and of the commands, from a demo that runs.

The console is the real one, in Chromium, on the demo's tenant, processes and traffic; the commands
are run, and what they print is drawn. The figures in them are those of that run.
"""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright
from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).parent.parent
PICTURES = ROOT / "docs" / "pictures"
TO_LOOK_AT = ROOT / ".bench" / "pictures"
"""For those that the README does not show."""
COMMAND = (sys.executable, "-m", "jwks_guard")
CHROMIUM = "/usr/bin/chromium"
TRAFFIC_SECONDS = 150.0
"""So long clients call before the pictures are taken: then there is something to see."""
WIDE, PHONE = (1280, 1000), (360, 740)
COLUMNS = 100
# The fonts of rich's format are on a server of others; the reader's own monospace does as well.
SVG_FORMAT = re.sub(r"@font-face \{\{.*?\n    \}\}\n", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)


def main() -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    draw("demo", printed("demo"))
    with demo() as said:
        url = found(r"(http://\S+/)", said)
        secret = found(r"operator secret +(\S+)", said)
        config = found(r"JWKS_GUARD_CONFIG=(\S+)", said)
        time.sleep(TRAFFIC_SECONDS)
        draw("watch", printed("watch", "--once", JWKS_GUARD_CONFIG=config))
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=CHROMIUM, args=["--no-sandbox", "--hide-scrollbars"]
            )
            shoot(browser, url, secret, "console-light", "light", WIDE)
            shoot(browser, url, secret, "console-dark", "dark", WIDE)
            shoot(browser, url, secret, "console-phone", "light", PHONE)
            browser.close()


@contextmanager
def demo() -> Iterator[str]:
    """The console's demo while the block runs; gives what it has printed."""
    with subprocess.Popen(
        [*COMMAND, "console", "--demo", "--no-browser", "--port=0"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as process:
        assert process.stdout is not None
        said = ""
        for line in process.stdout:
            said += line
            if line.startswith("Ctrl-C"):
                break
        try:
            yield said
        finally:
            process.send_signal(signal.SIGINT)


def found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    if match is None:
        sys.exit(f"The demo did not start: {text}")
    return match[1]


def shoot(
    browser: Browser, url: str, secret: str, name: str, scheme: str, size: tuple[int, int]
) -> None:
    """The list of keys, as an operator sees it."""
    viewport = {"width": size[0], "height": size[1]}
    with browser.new_context(viewport=viewport, color_scheme=scheme) as context:  # type: ignore[arg-type]
        page = context.new_page()
        page.goto(url)
        page.get_by_label("Your name").fill("Ada")
        page.get_by_label("Secret").fill(secret)
        page.get_by_role("button", name="Log in").click()
        page.wait_for_url("**/keys*")
        page.get_by_text("2 of 2").first.wait_for()
        folder = PICTURES if size == WIDE else TO_LOOK_AT
        page.screenshot(path=folder / f"{name}.png", full_page=size == WIDE)


def printed(*arguments: str, **environment: str) -> str:
    """What the command prints to a terminal, with its colours."""
    terminal = {"FORCE_COLOR": "1", "TERM": "xterm-256color", "COLUMNS": str(COLUMNS)}
    done = subprocess.run(
        [*COMMAND, *arguments],
        env={**os.environ, **terminal, **environment},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout.rstrip("\n")


def draw(name: str, text: str) -> None:
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(text), soft_wrap=False)
    svg = console.export_svg(title=f"jwks-guard {name}", code_format=SVG_FORMAT, unique_id=name)
    (PICTURES / f"{name}.svg").write_text(svg)


if __name__ == "__main__":
    main()
