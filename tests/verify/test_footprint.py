"""What is charged for parsed JSON is never less than Python allocates for it."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jwks_guard.jose.claims import freeze
from jwks_guard.jose.compact import json_object
from jwks_guard.verify.cache import LARGEST_RESULT
from jwks_guard.verify.footprint import footprint

COPIES = 20
SLACK = 5
"""So many times as much may be charged, so that counting is cheap."""
NAMES = [f"{number:03x}" for number in range(1000)]


def array(element: str) -> str:
    return '{"m":[' + ",".join([element] * (12_000 // (len(element) + 1))) + "]}"


def members(value: str) -> str:
    return "{" + ",".join(f'"{name}":{value}' for name in NAMES) + "}"


def nested(opening: str, closing: str) -> str:
    return array(opening * 60 + "1" + closing * 60)


SHAPES = {
    "objects in objects": array('{"a":{}}'),
    "empty objects": array("{}"),
    "empty arrays": array("[]"),
    "nested arrays": nested("[", "]"),
    "nested objects": nested('{"a":', "}"),
    "nested objects with empty names": nested('{"":', "}"),
    "integers": array("999"),
    "floats": array("1.5"),
    "short strings": array('"ab"'),
    "short strings outside ASCII": array('"\u00e9a"'),
    "short strings of four bytes a character": array('"\U0001f600a"'),
    "a long string": f'{{"m":"{"a" * 12_000}"}}',
    "a long string of four bytes a character": f'{{"m":"\U0001f600{"a" * 12_000}"}}',
    "the same escaped": f'{{"m":"\\ud83d\\ude00{"a" * 12_000}"}}',
    "members": members("1.5"),
    "members with arrays": members("[]"),
    "members with objects": members('{"a":1}'),
    "tables just enlarged": array("{" + ",".join(f'"{name}":1.5' for name in NAMES[:11]) + "}"),
    "numbers of 300 digits": array("9" * 300),
    "permissions": array('"read:resource-of-tenant"'),
}


def allocated(encoded: bytes) -> tuple[float, dict[str, Any]]:
    """Bytes that Python allocates for one of several copies, with what is made when it is read."""
    kept: list[object] = [None] * COPIES
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(COPIES):
            value = json_object(encoded)
            msgspec.json.encode(value)  # as an application may, and then strings keep their UTF-8
            kept[number] = (value, freeze(value))
        return (tracemalloc.get_traced_memory()[0] - before) / COPIES, value
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_charge_covers_what_is_allocated_and_is_at_most_five_times_that(shape: str) -> None:
    encoded = shape.encode()
    real, value = allocated(encoded)
    assert real <= footprint(encoded, len(value)) <= SLACK * real


GROUP = "CN=Admins,OU=Groups,OU=EU,DC=corp,DC=example,DC=com"
CLIENTS = {f"client-{number}": {"roles": [f"role-{n}" for n in range(10)]} for number in range(10)}
TEXTS_LIKE_STRUCTURE = {
    "distinguished names": {"groups": [GROUP] * 60, "realm_access": {"roles": ["a", "b"]}},
    "prose": {"about": "one, two, three: " * 200, "address": {"country": "NL"}},
    "prose alone": {"about": "one, two, three: " * 500},
    "JSON in a text": {"a": json.dumps([{"id": n, "of": [1, 2]} for n in range(60)]), "b": {}},
    "escapes": {"a": '\\",\\\\",' * 500, "b": {"c": "\\"}},
    "roles of many clients": {"resource_access": CLIENTS},
}


@pytest.mark.parametrize("claims", TEXTS_LIKE_STRUCTURE.values(), ids=TEXTS_LIKE_STRUCTURE)
def test_what_texts_hold_is_not_charged_as_structure(claims: dict[str, Any]) -> None:
    encoded = json.dumps(claims).encode()
    real, value = allocated(encoded)
    assert real <= footprint(encoded, len(value)) < LARGEST_RESULT


SCALARS = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False)
TEXTS = st.text(max_size=20) | st.sampled_from(
    ['"', "\\", '\\"', '"\\', "\\\\", ",:[{", ":" * 9, "\U0001f600"]
)
JSON = st.recursive(
    SCALARS | TEXTS,
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(TEXTS, inner, max_size=6),
    max_leaves=30,
)


@settings(max_examples=40)
@given(value=st.dictionaries(TEXTS, JSON, max_size=8), ascii_only=st.booleans())
def test_charge_covers_what_any_object_takes(value: dict[str, Any], ascii_only: bool) -> None:
    encoded = json.dumps(value, ensure_ascii=ascii_only).encode(errors="surrogatepass")
    try:
        real, parsed = allocated(encoded)
    except ValueError:  # a lone surrogate, or an integer beyond a float
        return
    assert real <= footprint(encoded, len(parsed))
