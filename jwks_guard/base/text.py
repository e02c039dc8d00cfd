"""Untrusted text, made safe to show."""

from __future__ import annotations


def printable(text: str) -> str:
    r"""`text` in printable ASCII, everything else escaped as in \x1b or \u202e.

    Escape sequences in a claim would steer the terminal, and bidirectional marks and look-alike
    letters would show another text than the one that is compared.
    """
    return "".join(c if " " <= c <= "~" else c.encode("unicode_escape").decode() for c in text)
