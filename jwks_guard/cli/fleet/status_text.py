"""What a fleet trusts and refuses, key by key, in lines that fit 80 columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.text import Text

from jwks_guard.cli.fleet.session import Seen
from jwks_guard.cli.fleet.tables import STATUS_STYLES, ago
from jwks_guard.cli.keys.table import print_prose
from jwks_guard.cli.words import counted, date, printable
from jwks_guard.readiness.state import InstanceState
from jwks_guard.readiness.usage import RECENT

NO_INSTANCE = (
    "No instance reports. Look whether the issuer (with its slash at the end), the fleet and its "
    "prefix are those of the instances."
)
_MOST_REFUSED = 10
_MOST_NAMED = 3
_KEPT_REASON = 200  # characters


def print_status(seen: Seen, console: Console) -> None:
    """Print each instance that reports, those that are silent in one line, and each key."""
    when = date(seen.at, seen.at).partition(",")[0]
    console.print(Text(f"{printable(seen.issuer)}   {when}", "bold"), soft_wrap=True)
    if not seen.states:
        print_prose(NO_INSTANCE, console)
    for state in seen.live:
        _print_instance(state, seen.at, console)
    if seen.silent:
        print_prose(silence(seen), console, hanging="  ", style="red")
    refused = [*seen.refused_since]
    for kid in (*seen.trusted_kids, *refused[:_MOST_REFUSED]):
        console.print()
        console.print(Text(printable(kid), "bold"), soft_wrap=True)
        for line in key_lines(seen, kid):
            print_prose(line, console, "  ", "    ", _style(line))
    if (more := len(refused) - _MOST_REFUSED) > 0:
        console.print(f"\n{counted(more, 'more refused key')}: --json lists them.")


def key_lines(seen: Seen, kid: str) -> Iterator[str]:
    """Who refuses and trusts the key, how much it is used, and who decided about it."""
    for word, group in (
        ("refused", [state for state in seen.live if kid in state.refused]),
        ("trusted", [state for state in seen.live if _trusts(state, kid)]),
    ):
        if group:
            yield f"{word} by {_who(group, seen)}"
    if since := [state.refused[kid] for state in seen.live if kid in state.refused]:
        yield f"refused since {date(min(since), seen.at)}"
    if seen.live and not any(kid in s.refused or _trusts(s, kid) for s in seen.live):
        yield "trusted by no instance that reports"
    usages = [state.usage[kid] for state in seen.states if kid in state.usage]
    if usages:
        last = max((usage.last_seen or 0.0 for usage in usages), default=0.0)
        tokens = counted(sum(usage.recent for usage in usages), "token")
        yield f"{tokens} accepted in {RECENT}, the last one {ago(last or None, seen.at)}"
    if (decision := seen.distrusted.get(kid)) is not None:
        reason = decision.reason[:_KEPT_REASON]
        by = f" by {decision.by}" if decision.by else ""
        yield f"distrusted {ago(decision.at, seen.at)}{by}: {reason}"


def silence(seen: Seen) -> str:
    """Which instances are silent, and for how long, in one line."""
    shown = [f"{state.name} {_last_heard(state, seen.at)}" for state in seen.silent[:_MOST_NAMED]]
    if (more := len(seen.silent) - _MOST_NAMED) > 0:
        shown.append(f"{more} more")
    return f"{counted(len(seen.silent), 'silent instance')}: {', '.join(shown)}"


def _print_instance(state: InstanceState, now: float, console: Console) -> None:
    head = Text.assemble(printable(state.name), "  ", (state.status, STATUS_STYLES[state.status]))
    console.print(head, soft_wrap=True)
    confirmed = f"keys confirmed {ago(state.confirmed_at, now)}"
    line = f"{confirmed}, reported {ago(state.reported_at, now)}"
    if state.version:
        line += f", version {state.version}"
    print_prose(line, console, "  ", "    ")
    if state.last_error:
        print_prose(state.last_error, console, "  ", "    ")


def _who(group: Sequence[InstanceState], seen: Seen) -> str:
    if len(group) == len(seen.live):
        return "every instance that reports" if len(group) > 1 else group[0].name
    named = ", ".join(state.name for state in group[:_MOST_NAMED])
    more = len(group) - _MOST_NAMED
    named += f" and {more} more" if more > 0 else ""
    return f"{len(group)} of {counted(len(seen.live), 'instance')}: {named}"


def _trusts(state: InstanceState, kid: str) -> bool:
    return kid in state.kids and kid not in state.refused


def _last_heard(state: InstanceState, now: float) -> str:
    return f"({ago(state.reported_at, now)})" if state.reported_at else "(never heard)"


def _style(line: str) -> str:
    if line.startswith("refused"):
        return "red"
    return "green" if line.startswith("trusted by") and "no instance" not in line else ""
