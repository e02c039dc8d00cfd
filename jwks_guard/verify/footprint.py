"""How much memory the parsed JSON of a token takes (CPython)."""

from __future__ import annotations

# With what `freeze` makes of it when it is read. An object: the dict, its copy and a mapping proxy,
# with tables for four members or more, and of each member a name and the largest scalar but for
# its text. An array: the list and a tuple, and of each element the same.
_OBJECT, _MEMBER, _TABLE, _TABLE_MEMBERS = 192, 184, 72, 4
_ARRAY, _ELEMENT = 136, 80
_BACKSLASH = ord("\\")  # to look for b"\\" takes ten times as long: it is tried as a number first
_ALL_BUT_STRUCTURE = bytes(set(range(256)).difference(b"{[,"))


def footprint(text: bytes, members: int) -> int:
    """Give the bytes that a JSON object and its frozen copy take, or up to five times as many.

    text: the JSON. members: how many the object has, once it is parsed.

    Two bytes of JSON may make a dict (`{}`), so the length of a token says little about it. What
    follows from its brackets and commas is found several times as fast as by looking at its values.
    Those within strings count too.
    """
    structure = text.translate(None, _ALL_BUT_STRUCTURE)
    objects, arrays = structure.count(b"{"), structure.count(b"[")
    # What is in all containers but the outermost object: one more than there are commas in each,
    # also in an empty one, so that an object has at least one member.
    inside = len(structure) - members
    size = _OBJECT + members * _MEMBER + arrays * _ARRAY
    if members < _TABLE_MEMBERS:
        size += (_TABLE_MEMBERS - members) * _TABLE
    if objects == 1:
        size += inside * _ELEMENT
    else:
        named = min(inside, text.count(b":") - members)  # or more, as strings have colons too
        size += named * _MEMBER + (inside - named) * _ELEMENT
        size += (objects - 1) * (_OBJECT + (_TABLE_MEMBERS - 1) * _TABLE)
    # One character outside ASCII, which may be escaped, makes four bytes of each in its string, and
    # what encodes such a string leaves the UTF-8 in it.
    plain = text.isascii() and _BACKSLASH not in text
    return size + (len(text) if plain else 5 * len(text))
