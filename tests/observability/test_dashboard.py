"""The dashboard is one by Grafana's own schema, of which a package has the models."""

from __future__ import annotations

import enum
import json
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

BOARD = Path(__file__).parents[2] / "examples" / "operations" / "dashboard.json"


def faults(board: dict[str, Any]) -> list[str]:
    """What the schema does not know, and values of another type than it says."""
    register_default_plugins()
    read = Dashboard.from_json(board)
    return [*lost(board, json.loads(JSONEncoder().encode(read))), *mistyped(read, "board")]


def lost(given: Any, read: Any, at: str = "board") -> Iterator[str]:
    """The members of `given` that are not in what was `read` of it."""
    if isinstance(given, dict) and isinstance(read, dict):
        for name, value in given.items():
            yield from lost(value, read.get(name), f"{at}.{name}")
    elif isinstance(given, list) and isinstance(read, list):
        for number, (one, other) in enumerate(zip(given, read, strict=True)):
            yield from lost(one, other, f"{at}[{number}]")
    elif given != read:
        yield f"{at} is not in the schema"


def mistyped(model: Any, at: str) -> Iterator[str]:
    """The attributes of `model`, and of the models in it, that are not of their type."""
    for name, hint in typing.get_type_hints(type(model)).items():
        yield from mismatches(getattr(model, name), hint, f"{at}.{name}")


def mismatches(value: Any, hint: Any, at: str) -> Iterator[str]:
    kind, inner = typing.get_origin(hint), typing.get_args(hint)
    if kind in (typing.Union, types.UnionType):
        found = [[*mismatches(value, each, at)] for each in inner]
        yield from min(found, key=len)
    elif kind is list and isinstance(value, list):
        for number, each in enumerate(value):
            yield from mismatches(each, inner[0], f"{at}[{number}]")
    elif kind is dict and isinstance(value, dict):
        for name, each in value.items():
            yield from mismatches(each, inner[1], f"{at}.{name}")
    elif kind is typing.Literal or (isinstance(hint, type) and issubclass(hint, enum.Enum)):
        if value not in (inner or [member.value for member in hint]):
            yield f"{at} is {value!r}"
    elif hint not in (Any, object) and not isinstance(value, float_too(kind or hint)):
        yield f"{at} is {value!r}"
    elif type(value).__module__.startswith("grafana_foundation_sdk"):
        yield from mistyped(value, at)


def float_too(kind: Any) -> Any:
    """What passes for `kind`: JSON does not tell 1 from 1.0."""
    return (int, float) if kind is float else kind


def test_dashboard_is_one_by_the_schema() -> None:
    assert faults(json.loads(BOARD.read_text())) == []


def test_check_by_the_schema_finds_names_and_types_that_it_does_not_know() -> None:
    board = json.loads(BOARD.read_text())
    board["panels"][0]["gridPos"]["width"] = 12
    board["panels"][1]["title"] = 5
    board["panels"][2]["targets"][0]["epxr"] = "up"
    board["templating"]["list"][1]["refresh"] = "always"
    assert faults(board) == [
        "board.panels[0].gridPos.width is not in the schema",
        "board.panels[2].targets[0].epxr is not in the schema",
        "board.panels[1].title is 5",
        "board.templating.list_val[1].refresh is 'always'",
    ]


def test_no_two_panels_have_one_id_or_one_place() -> None:
    panels = json.loads(BOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [
        (panel["gridPos"]["x"] + x, panel["gridPos"]["y"] + y)
        for panel in panels
        for x in range(panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["h"])
    ]
    assert len(set(places)) == len(places)
