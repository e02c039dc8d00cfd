"""What the instances say of a decision about one key, as people and programs read it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from jwks_guard.admin import Refusal
from jwks_guard.cli.fleet.session import Seen
from jwks_guard.cli.fleet.status_text import key_lines, silence
from jwks_guard.cli.keys.receipts import HANGING, refusal_line
from jwks_guard.cli.keys.table import print_prose
from jwks_guard.cli.words import counted, printable

_MOST = 10
_UNHEARD = (
    "An instance that is cut off refuses the key when it hears of the decision, and may accept its "
    "tokens until then. `jwks-guard status` shows who refuses it."
)


def print_target(seen: Seen, kid: str, console: Console) -> None:
    """Print what the fleet shows of the key that is about to be decided on."""
    console.print(f"issuer  {printable(seen.issuer)}", soft_wrap=True, markup=False)
    console.print(f"kid     {printable(kid)}", soft_wrap=True, markup=False)
    for line in key_lines(seen, kid):
        print_prose(line, console, "        ", "          ")
    if seen.silent:
        print_prose(silence(seen), console, "        ", "          ")


def print_refusals(kid: str, refusals: Sequence[Refusal], console: Console) -> None:
    """Print which instances refuse the key since when, and which are not known to."""
    refusing = [each for each in refusals if each.error is None]
    missing = [each for each in refusals if each.error is not None]
    headline, style = f"is refused by {counted(len(refusing), 'instance')}.", "bold green"
    if missing:
        style = "bold yellow"
        of_all = f"{len(refusing)} of {counted(len(refusals), 'instance')} acknowledged"
        headline = f"is distrusted, but not every instance is known to refuse it ({of_all})."
    if not refusing:
        headline = "is distrusted, but no instance has acknowledged that."
    print_prose(f"{kid} {headline}", console, style=style)
    for line in [*_some(refusing), *_some(missing)]:
        print_prose(line, console, hanging=HANGING)
    if missing:
        print_prose(_UNHEARD, console)


def print_lift(kid: str, seen: Seen, console: Console) -> None:
    """Print which instances no longer refuse the key, and which still do."""
    refusing = [state for state in seen.live if kid in state.refused]
    lifted = [state for state in seen.live if kid not in state.refused]
    headline, style = f"is no longer refused by {counted(len(lifted), 'instance')}.", "bold green"
    if refusing or seen.silent or not lifted:
        style = "bold yellow"
        headline = "is reinstated, but not every instance is known to have heard of it."
    print_prose(f"{kid} {headline}", console, style=style)
    for state in lifted:
        trusts = "trusts it" if kid in state.kids else "lifted, and its issuer does not list it"
        console.print(Text(f"  {printable(state.name)}: {trusts}"), soft_wrap=True)
    for state in refusing:
        console.print(Text(f"  {printable(state.name)}: still refuses it"), soft_wrap=True)
    if seen.silent:
        print_prose(silence(seen), console, "  ", "    ")


def refusal_document(refusals: Sequence[Refusal]) -> dict[str, Any]:
    """The refusals as JSON-compatible data; `since` in ISO 8601."""
    return {
        "refused_everywhere": all(each.error is None for each in refusals),
        "refusals": [
            {
                "instance": each.who,
                "since": None if each.since is None else each.since.isoformat(),
                "error": each.error,
            }
            for each in refusals
        ],
    }


def _some(refusals: Iterable[Refusal]) -> Iterator[str]:
    """A line for each, and one for those that are too many to read."""
    lines = [refusal_line(each) for each in refusals]
    yield from lines[:_MOST]
    if (more := len(lines) - _MOST) > 0:
        yield f"{HANGING}and {counted(more, 'more instance')}; --json lists them"
