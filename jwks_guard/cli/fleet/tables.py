"""Tables of the instances of a fleet, as people read them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, JustifyMethod, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from jwks_guard.base.durations import span
from jwks_guard.cli.words import printable
from jwks_guard.readiness.state import LIVE_SECONDS, InstanceState
from jwks_guard.readiness.usage import RECENT, KeyUsage

_WIDE = 1_000  # characters; in a file or a pipe each row is one line
_MOST_REFUSED = 5
_STATUS_STYLES = {"ok": "green", "degraded": "yellow", "unavailable": "bold red"}
_INSTANCE = ("instance", "status", "confirmed")
_KEY = (f"in {RECENT}", "last accepted", "refused since")
_OF_KID = ("kid", "state", *_KEY)


def output(*, stderr: bool = False) -> Console:
    """A console as wide as the terminal; without a terminal, tables are not folded."""
    console = Console(stderr=stderr, highlight=False)
    return console if console.is_terminal else Console(stderr=stderr, highlight=False, width=_WIDE)


def instances_table(states: Iterable[InstanceState], kid: str, now: float) -> Table:
    """One row for each instance: its keys, and how often it has accepted a token of `kid`."""
    table = _table((*_INSTANCE, *_KEY))
    for state in _sorted(states):
        table.add_row(*_of_instance(state, now), *_of_key(state, kid, now))
    return table


@dataclass(frozen=True, slots=True)
class KidsTable:
    """One row for each kid of each instance; of what is refused and gone, only the latest.

    On a terminal that is too narrow for that, each instance has a line and a table of its own.
    """

    states: tuple[InstanceState, ...]
    now: float

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The one table, or else those of the instances."""
        whole = self._whole()
        needed = console.measure(whole, options=options.update(max_width=_WIDE)).maximum
        if needed <= options.max_width:
            yield whole
            return
        for state in _sorted(self.states):
            name, status, confirmed = _of_instance(state, self.now)
            yield Text.assemble(name, "  ", status, ", confirmed ", confirmed)
            table = _table(_OF_KID)
            for row in _key_rows(state, self.now):
                table.add_row(*row)
            yield Padding(table, (0, 0, 0, 2))

    def _whole(self) -> Table:
        table = _table((*_INSTANCE, *_OF_KID))
        for state in _sorted(self.states):
            first: Sequence[Text] = _of_instance(state, self.now)
            for row in _key_rows(state, self.now):
                table.add_row(*first, *row)
                first = [Text()] * len(_INSTANCE)
        return table


def ago(timestamp: float | None, now: float) -> str:
    """How long ago that was, in its largest unit."""
    if timestamp is None:
        return "never"
    count, unit = span(abs(now - timestamp)).split(" ")[:2]
    return f"{count} {unit} ago" if timestamp <= now else f"in {count} {unit}"


def _table(headings: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for heading in headings:
        justify: JustifyMethod = "right" if heading == _KEY[0] else "left"
        table.add_column(heading, justify=justify, overflow="fold")  # no kid is cut
    return table


def _sorted(states: Iterable[InstanceState]) -> list[InstanceState]:
    return sorted(states, key=lambda state: state.name)


def _of_instance(state: InstanceState, now: float) -> list[Text]:
    silent = now - state.reported_at > LIVE_SECONDS
    status = f"silent, {ago(state.reported_at or None, now)}" if silent else state.status
    return [
        _text(state.name),
        Text(status, "red" if silent else _STATUS_STYLES[status]),
        _text(ago(state.confirmed_at, now)),
    ]


def _key_rows(state: InstanceState, now: float) -> list[Sequence[Text]]:
    rows: list[Sequence[Text]] = [
        (_text(kid), _state(state, kid), *_of_key(state, kid, now)) for kid in _kids(state) or [""]
    ]
    if (more := len(_gone(state)) - _MOST_REFUSED) > 0:
        rows.append((Text(f"{more} more", "dim"), Text("refused", "dim")))
    return rows


def _of_key(state: InstanceState, kid: str, now: float) -> list[Text]:
    usage, refused = state.usage.get(kid, KeyUsage()), state.refused.get(kid)
    return [
        _text(str(usage.recent)),
        _text(ago(usage.last_seen, now)),
        _text("" if refused is None else ago(refused, now)),
    ]


def _state(state: InstanceState, kid: str) -> Text:
    if kid in state.refused:
        return Text("refused", "red")
    return Text("trusted", "green") if kid in state.kids else Text("not held" if kid else "", "dim")


def _kids(state: InstanceState) -> list[str]:
    held = [*state.kids, *(kid for kid in state.usage if kid not in state.kids)]
    return [*held, *_gone(state)[:_MOST_REFUSED]]


def _gone(state: InstanceState) -> list[str]:
    """The kids that it refuses, and neither holds nor has used; the latest first."""
    latest_first = sorted(state.refused.items(), key=lambda item: -item[1])
    return [kid for kid, _ in latest_first if kid not in state.kids and kid not in state.usage]


def _text(text: str) -> Text:
    return Text(printable(text))
