"""Signing keys as people read them: a table like the dashboard's, and one key in full."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime

from rich.console import Console
from rich.text import Text

from jwks_guard.admin import SigningKey
from jwks_guard.cli.words import printable, shown

_STYLES = {"next": "cyan", "current": "green", "previously used": "", "revoked": "dim"}
_HEADINGS = ("kid", "state", "fingerprint", "since (UTC)", "until (UTC)")
_KID, _FINGERPRINT = 0, 2  # their columns: where it is narrow, each gets a line of its own
_GAP = 2
_LONGEST_LINE = 100
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


def sorted_keys(keys: Iterable[SigningKey]) -> list[SigningKey]:
    """The keys in the dashboard's order: next, current, previously used, revoked; latest first."""
    states = list(_STYLES)
    latest_first = sorted(keys, key=lambda key: _end(key) or _LONG_AGO, reverse=True)
    return sorted(latest_first, key=lambda key: states.index(key.state))


def print_table(keys: Sequence[SigningKey], console: Console) -> None:
    """Print `keys`, in two groups: those that are valid, and those that were revoked."""
    rows = [_row(key) for key in keys]
    widths = [max(map(len, column)) for column in zip(_HEADINGS, *rows, strict=True)]
    apart = _apart(widths, console.width)
    console.print(_line(_HEADINGS, widths, apart, "dim"), soft_wrap=True)
    for title, revoked in (("Valid keys", False), ("Revoked keys", True)):
        group = [each for each in zip(keys, rows, strict=True) if each[0].revoked is revoked]
        if group:
            console.print(Text(f"\n{title}", "bold"))
        for key, cells in group:
            console.print(_line(cells, widths, apart, _STYLES[key.state]), soft_wrap=True)


def print_key(key: SigningKey, console: Console) -> None:
    """Print every member of `key`, and what its certificate says."""
    members = [(name, text) for name, text in _members(key) if text]
    width = max(len(name) for name, _ in members)
    for name, text in members:
        style = _STYLES[key.state] if name == "state" else ""
        line = Text.assemble((f"{name:<{width}}  ", "dim"), (printable(text), style))
        console.print(line, soft_wrap=True)


def utc(moment: datetime | None, timespec: str = "minutes") -> str:
    """A date in UTC, as people write it; empty if there is none."""
    if moment is None:
        return ""
    with suppress(OverflowError):  # in the year 1 or 9999: still to be shown
        moment = moment.astimezone(UTC).replace(tzinfo=None)
    return moment.isoformat(" ", timespec)


def print_prose(
    text: str, console: Console, indent: str = "", hanging: str = "", style: str = ""
) -> None:
    """Print a paragraph of at most 100 columns; `hanging` is the indent of its further lines."""
    wrapped = textwrap.fill(
        printable(text),
        min(console.width, _LONGEST_LINE),
        initial_indent=indent,
        subsequent_indent=hanging,
        break_long_words=False,
        break_on_hyphens=False,
    )
    console.print(Text(wrapped, style), soft_wrap=True)


def _members(key: SigningKey) -> Iterator[tuple[str, str]]:
    yield "kid", key.kid
    yield "state", key.state
    yield "fingerprint", key.fingerprint or ""
    yield "thumbprint", key.thumbprint or ""
    for name in ("current_since", "current_until", "revoked_at"):
        moment = utc(getattr(key, name), "seconds")
        yield name, moment and f"{moment} UTC"
    try:
        certificate = key.certificate
        yield "certificate", certificate.subject.rfc4514_string()
        yield "  valid from", f"{utc(certificate.not_valid_before_utc, 'seconds')} UTC"
        yield "  valid until", f"{utc(certificate.not_valid_after_utc, 'seconds')} UTC"
    except ValueError:
        yield "certificate", "can't be read"
    if key.pkcs7:
        yield "pkcs7", f"{len(key.pkcs7)} characters, in --json"
    for name, value in key.extra.items():
        yield printable(name), shown(value)


def _row(key: SigningKey) -> tuple[str, ...]:
    since, until = utc(key.current_since), utc(_end(key))
    cells = (key.kid, key.state, key.fingerprint or "", since, until)
    return tuple(map(printable, cells))


def _end(key: SigningKey) -> datetime | None:
    return key.revoked_at if key.revoked else key.current_until


def _apart(widths: Sequence[int], width: int) -> tuple[int, ...]:
    """The columns that get a line of their own, so that rows fit."""
    for apart in ((), (_FINGERPRINT,)):
        kept = [each for column, each in enumerate(widths) if column not in apart]
        if sum(kept) + _GAP * (len(kept) - 1) <= width:
            return apart
    return _KID, _FINGERPRINT


def _line(cells: Sequence[str], widths: Sequence[int], apart: Sequence[int], style: str) -> Text:
    """The cells in one line; those that are `apart` above and below it."""
    padded = [f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True)]
    kept = [cell for column, cell in enumerate(padded) if column not in apart]
    line = (" " * _GAP).join(kept).rstrip()
    lines = [(f"{cells[_KID]}\n  {line}" if _KID in apart else line, style)]
    if _FINGERPRINT in apart and cells[_FINGERPRINT]:
        lines.append((f"\n  {cells[_FINGERPRINT]}", "dim"))
    return Text.assemble(*lines)
