"""The plan of a change of keys, as people read it before they agree."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from jwks_guard.admin.plans import Move, Plan
from jwks_guard.cli.keys.table import print_prose
from jwks_guard.cli.words import printable


def print_plan(plan: Plan, console: Console) -> None:
    """Print what will happen, and what follows from it."""
    title = Text.assemble((plan.title, "bold"), f"\n{printable(plan.tenant)}\n")
    console.print(title, soft_wrap=True)
    if plan.moves:
        _print_moves(plan.moves, console)
    for consequence in plan.consequences:
        print_prose(consequence, console, "  - ", "    ")
    for url in plan.certificates.values():
        console.print(Text(f"      {printable(url)}", "dim"), soft_wrap=True)


def _print_moves(moves: Sequence[Move], console: Console) -> None:
    names = [printable(move.kid) if move.kid else "a new key" for move in moves]
    name_width, width = max(map(len, names)), max(len(move.before) for move in moves)
    for name, move in zip(names, moves, strict=True):
        text = f"  {name:<{name_width}}  {move.before:<{width}}  ->  "
        style = "bold red" if move.after == "revoked" else "bold"
        console.print(Text.assemble(text, (move.after, style)), soft_wrap=True)
    console.print()
