"""How much memory the parsed JSON of a token takes (CPython)."""

from __future__ import annotations

from typing import Any

import msgspec

WORST = 120
"""What a byte of JSON takes at the most, in bytes: an object in an object, `{"":{"":...}}`."""

# With what `freeze` makes of it when it is read. An object: the dict, its copy and a mapping proxy,
# with tables for four members or more, and of each member a name and the largest scalar but for
# its text. An array: the list and a tuple, and of each element the same.
_OBJECT, _MEMBER, _TABLE, _TABLE_MEMBERS = 192, 184, 72, 4
_ARRAY, _ELEMENT = 136, 80
_encode = msgspec.json.Encoder().encode


def footprint(value: dict[str, Any]) -> int:
    """Give the bytes that parsed JSON and its frozen copy take, or up to five times as many.

    Two bytes of JSON may make a dict (`{}`), so the length of a token says little about it.
    """
    text = _encode(value)
    # One character outside ASCII makes four bytes of each in its string, and what encodes such a
    # string leaves the UTF-8 in it.
    return _object(value) + (len(text) if text.isascii() else 5 * len(text))


def _object(value: dict[str, Any]) -> int:
    number = len(value)
    size = _OBJECT + number * _MEMBER
    if number < _TABLE_MEMBERS:
        size += (_TABLE_MEMBERS - number) * _TABLE
    for each in value.values():
        kind = type(each)
        if kind is list:
            size += _array(each)
        elif kind is dict:
            size += _object(each)
    return size


def _array(value: list[Any]) -> int:
    size = _ARRAY + len(value) * _ELEMENT
    for each in value:
        kind = type(each)
        if kind is list:
            size += _array(each)
        elif kind is dict:
            size += _object(each)
    return size
