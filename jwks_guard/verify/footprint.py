"""How much memory the parsed JSON of a token takes (CPython)."""

from __future__ import annotations

# With what `freeze` makes of it when it is read. An object: the dict, its copy and a mapping proxy,
# with tables for four members or more, and of each member a name and the largest scalar but for
# its text. An array: the list and a tuple, and of each element the same.
_OBJECT, _MEMBER, _TABLE, _TABLE_MEMBERS = 192, 184, 72, 4
_ARRAY, _ELEMENT = 136, 80
_BACKSLASH = ord("\\")  # to look for b"\\" takes ten times as long: it is tried as a number first
_ALL_BUT_STRUCTURE = bytes(set(range(256)).difference(b"{[,"))
_FEW = 40
"""So many are charged also where they may be in texts: to leave those out takes longer."""


def footprint(text: bytes, members: int) -> int:
    """Give the bytes that a JSON object and its frozen copy take, or up to five times as many.

    text: the JSON. members: how many the object has, once it is parsed.

    Two bytes of JSON may make a dict (`{}`), so the length of a token says little about it. What
    follows from its punctuation is found faster than by looking at its values.
    """
    escaped = _BACKSLASH in text
    structure, named = text.translate(None, _ALL_BUT_STRUCTURE), members
    if len(structure) > _FEW or structure.count(b"{") > 1:
        # Names of groups may have more commas in them than the rest of the token.
        outside = text.replace(b"\\\\", b"").replace(b'\\"', b"") if escaped else text
        outside = b"".join(outside.split(b'"')[::2])
        structure, named = outside.translate(None, _ALL_BUT_STRUCTURE), outside.count(b":")
    objects, arrays = structure.count(b"{"), structure.count(b"[")
    # In all containers together: one more than there are commas in each, also in an empty one.
    contained = len(structure)
    size = objects * _OBJECT + arrays * _ARRAY
    size += contained * _ELEMENT + named * (_MEMBER - _ELEMENT)
    # Each object but the outermost one may have one member.
    size += (objects - 1) * (_TABLE_MEMBERS - 1) * _TABLE
    if members < _TABLE_MEMBERS:
        size += (_TABLE_MEMBERS - members) * _TABLE
    # One character outside ASCII, which may be escaped, makes four bytes of each in its string, and
    # what encodes such a string leaves the UTF-8 in it.
    return size + (len(text) if text.isascii() and not escaped else 5 * len(text))
