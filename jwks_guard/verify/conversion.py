"""A claims set as a type of the application: a msgspec Struct, a dataclass or a TypedDict."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, NoReturn, TypeVar

import msgspec
from msgspec.inspect import DataclassType, StructType, TypedDictType, type_info

from jwks_guard.errors import ConfigurationError, InvalidClaimError

T = TypeVar("T")

# The one shape of msgspec's messages that never holds a value; "Invalid enum value 'x'" does.
_TYPES_DIFFER = re.compile(r"Expected (`[^`]+`, got `[^`]+`) - at `\$\.([^`]+)`")
_PATH = re.compile(r" - at (?:`key` in )?`\$\.([^`]+)`$")


class _UnknownTypeError(Exception):
    """A field has a type that msgspec can't make."""


def convert(claims: dict[str, Any], kind: type[T]) -> T:
    """Give `claims` as `kind`, which may keep parts of them; claims that it lacks are left out.

    Raises InvalidClaimError for claims that do not fit, ConfigurationError for a `kind` that
    msgspec can't make of an object.
    """
    names = _usable_names(kind)
    try:
        return msgspec.convert(claims, kind, str_keys=True, dec_hook=_refuse)
    except (_UnknownTypeError, TypeError) as error:
        raise _unusable(kind, error) from error
    except msgspec.ValidationError as error:
        # Without what caused it, which may hold a claim's value.
        raise _mismatch(claims, kind, names, error) from None


def _refuse(kind: type[Any], _: object) -> NoReturn:
    raise _UnknownTypeError(f"msgspec knows no type {kind.__qualname__}")


def _usable_names(kind: Any) -> dict[str, bool]:
    try:
        return _names(kind)
    except (TypeError, NameError, AttributeError) as error:  # annotations that can't be resolved
        raise _unusable(kind, error) from error


@lru_cache(maxsize=128)
def _names(kind: Any) -> dict[str, bool]:
    """Give the claims that `kind` takes, and whether each is required."""
    info = type_info(kind)
    if not isinstance(info, StructType | DataclassType | TypedDictType):
        raise TypeError("it is no msgspec.Struct, dataclass or TypedDict")
    if isinstance(info, StructType) and info.array_like:
        raise TypeError("it is array_like, and claims are an object")
    return {field.encode_name: field.required for field in info.fields}


def _unusable(kind: type[Any], error: Exception) -> ConfigurationError:
    return ConfigurationError(f"claims_as can't make {_name_of(kind)}: {error}.")


def _mismatch(
    claims: dict[str, Any], kind: type[Any], names: dict[str, bool], error: Exception
) -> InvalidClaimError:
    for name, required in names.items():
        if required and name not in claims:
            return InvalidClaimError(
                f"The `{name}` claim is missing, which {_name_of(kind)} requires.", name
            )
    text = str(error)
    path = _PATH.search(text)
    name = _claim_in(path[1], names) if path is not None else ""
    if not name:
        return InvalidClaimError(f"The claims do not fit {_name_of(kind)}.", "")
    # A message with a cause is of the application's own __post_init__.
    differ = _TYPES_DIFFER.fullmatch(text) if error.__cause__ is None else None
    why = f": expected {differ[1]} at `{differ[2]}`" if differ is not None else ""
    return InvalidClaimError(f"The `{name}` claim does not fit {_name_of(kind)}{why}.", name)


def _claim_in(path: str, names: dict[str, bool]) -> str:
    """Give the claim that a path begins with; names may hold dots, as URLs do."""
    found = [name for name in names if re.match(rf"{re.escape(name)}(?:[.\[]|$)", path)]
    return max(found, key=len, default="")


def _name_of(kind: type[Any]) -> str:
    return getattr(kind, "__qualname__", "a value that is no type")
