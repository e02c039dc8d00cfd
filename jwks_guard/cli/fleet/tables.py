"""Tables of the instances of a fleet, as people read them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, JustifyMethod, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from jwks_guard.base.durations import span
from jwks_guard.cli.words import counted, printable
from jwks_guard.readiness.state import LIVE_SECONDS, InstanceState
from jwks_guard.readiness.usage import RECENT, KeyUsage

_UNLIMITED = 1_000  # characters
_MOST_REFUSED = 5
STATUS_STYLES = {"ok": "green", "degraded": "yellow", "unavailable": "bold red"}
_INSTANCE = ("instance", "status", "confirmed")
_KEY = (f"in {RECENT}", "last accepted", "refused since")
_OF_KID = ("kid", "state", *_KEY)


def output(*, stderr: bool = False) -> Console:
    """A console as wide as the terminal; without one as COLUMNS says, or of 80 columns."""
    return Console(stderr=stderr, highlight=False)


@dataclass(frozen=True, slots=True)
class InstancesTable:
    """One row for each instance: its keys, and how often it has accepted a token of `kid`.

    Where that is too wide, each instance has two lines instead.
    """

    states: tuple[InstanceState, ...]
    kid: str
    now: float

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The table, or else the lines."""
        table = _table((*_INSTANCE, *_KEY))
        for state in _sorted(self.states):
            table.add_row(*_of_instance(state, self.now), *_of_key(state, self.kid, self.now))
        if _fits(table, console, options):
            yield table
            return
        for state in _sorted(self.states):
            yield _head(state, self.now)
            yield Padding(self._of_key(state), (0, 0, 0, 2))

    def _of_key(self, state: InstanceState) -> Text:
        usage, refused = state.usage.get(self.kid, KeyUsage()), state.refused.get(self.kid)
        last = f", the last one {ago(usage.last_seen, self.now)}" if usage.last_seen else ""
        says = f"{counted(usage.recent, 'token')} accepted in {RECENT}{last}"
        return Text(says if refused is None else f"{says}; refused {ago(refused, self.now)}")


@dataclass(frozen=True, slots=True)
class KidsTable:
    """One row for each kid of each instance; of what is refused and gone, only the latest.

    Where that is too wide, each instance has a line and a table of its own.
    """

    states: tuple[InstanceState, ...]
    now: float

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The one table, or else those of the instances."""
        whole = self._whole()
        if _fits(whole, console, options):
            yield whole
            return
        for state in _sorted(self.states):
            yield _head(state, self.now)
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


def _fits(table: Table, console: Console, options: ConsoleOptions) -> bool:
    unlimited = options.update(max_width=_UNLIMITED)
    return console.measure(table, options=unlimited).maximum <= options.max_width


def _head(state: InstanceState, now: float) -> Text:
    name, status, confirmed = _of_instance(state, now)
    return Text.assemble(name, "  ", status, ", confirmed ", confirmed)


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
    heard = f"silent, {ago(state.reported_at, now)}" if state.reported_at else "never heard"
    status = heard if silent else state.status
    return [
        _text(state.name),
        Text(status, "red" if silent else STATUS_STYLES[status]),
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
