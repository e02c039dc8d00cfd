"""How much memory the parsed JSON of a token takes (CPython)."""

from __future__ import annotations

# With what `freeze` makes of it when it is read. An object: the dict, its copy and a mapping proxy,
# with tables for four members. An array: the list and a tuple. A value in one of these: its place
# and the largest scalar but for its text. A member also has a name.
_OBJECT, _TABLES, _ARRAY, _VALUE, _NAME = 408, 216, 136, 80, 104
_FEW = 40
"""So many are charged also where they may be in texts: to leave those out takes longer."""
_BACKSLASH = ord("\\")  # to look for b"\\" takes ten times as long: it is tried as a number first
_ALL_BUT_STRUCTURE = bytes(set(range(256)).difference(b"{[,"))


def footprint(text: bytes, members: int) -> int:
    """Give the bytes that a JSON object and its frozen copy take, or up to five times as many.

    text: the JSON. members: how many the object has, once it is parsed; at least one.

    Two bytes of JSON may make a dict (`{}`), so the length of a token says little about it. What
    follows from its punctuation is found faster than by looking at its values.
    """
    escaped = _BACKSLASH in text
    structure = text.translate(None, _ALL_BUT_STRUCTURE)
    objects, names = structure.count(b"{"), members
    if objects > 1 or len(structure) > _FEW:
        # Names of groups may have more commas in them than the rest of the token.
        outside = text.replace(b"\\\\", b"").replace(b'\\"', b"") if escaped else text
        outside = b"".join(outside.split(b'"')[::2])
        structure = outside.translate(None, _ALL_BUT_STRUCTURE)
        objects, names = structure.count(b"{"), outside.count(b":")
    # All containers together have one value more than there are commas in each, also empty ones.
    size = objects * _OBJECT + len(structure) * _VALUE + names * _NAME
    size += structure.count(b"[") * _ARRAY
    if members > 3:  # then the tables are charged with them
        size -= _TABLES
    # One character outside ASCII, which may be escaped, makes four bytes of each in its string, and
    # what encodes such a string leaves the UTF-8 in it.
    return size + (len(text) if text.isascii() and not escaped else 5 * len(text))
