"""`claims_as`: the claims set as a type of the application."""

from __future__ import annotations

import dataclasses
import enum
import traceback
from collections.abc import Mapping
from contextlib import suppress
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    NotRequired,
    TypedDict,
    TypeVar,
    assert_type,
)

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jwks_guard import ConfigurationError, InvalidClaimError, VerifiedToken

T = TypeVar("T")
ROLES = "https://acme.com/roles"
CLAIMS: dict[str, Any] = {
    "sub": "auth0|1",
    "exp": 1_800_000_000,
    ROLES: ["admin"],
    "address": {"city": "Bern", "codes": [1, 2]},
    "tags": {"1": "a"},
}
SECRET = "s3cret"


def token(**claims: Any) -> VerifiedToken:
    return VerifiedToken({"alg": "ES256", "kid": "a"}, {**CLAIMS, **claims}, None, 1e10)


class Address(msgspec.Struct):
    city: str
    codes: list[int] = []


class Profile(msgspec.Struct):
    sub: str
    address: Address
    roles: list[str] = msgspec.field(name=ROLES)
    plan: str = "free"


@dataclasses.dataclass(frozen=True)
class Subject:
    sub: str
    exp: float
    address: dict[str, Any] | None = None


Roles = TypedDict(
    "Roles", {"sub": str, "https://acme.com/roles": list[str], "plan": NotRequired[str]}
)


class Nested(msgspec.Struct, Generic[T]):
    address: T


def test_struct_dataclass_and_typed_dict_are_made_from_the_claims() -> None:
    profile = token().claims_as(Profile)
    assert_type(profile, Profile)
    assert profile == Profile("auth0|1", Address("Bern", [1, 2]), ["admin"])
    subject = token().claims_as(Subject)
    assert_type(subject, Subject)
    assert subject == Subject("auth0|1", 1_800_000_000, CLAIMS["address"])
    roles = token().claims_as(Roles)
    assert_type(roles, Roles)
    assert roles == {"sub": "auth0|1", "https://acme.com/roles": ["admin"]}
    assert token().claims_as(Nested[Address]).address.city == "Bern"


def test_keys_of_an_object_may_be_numbers() -> None:
    class Tags(msgspec.Struct):
        tags: dict[int, str]

    assert token().claims_as(Tags).tags == {1: "a"}


def test_what_one_request_changes_the_next_does_not_see() -> None:
    class Loose(msgspec.Struct):
        address: dict[str, Any]
        roles: Any = msgspec.field(name=ROLES)

    one = token()
    for _ in range(2):
        loose = one.claims_as(Loose)
        assert loose.address == {"city": "Bern", "codes": [1, 2]}
        assert loose.roles == ["admin"]
        loose.address["city"] = "changed"
        loose.address["codes"].append(3)
        loose.roles.append("changed")
        subject = one.claims_as(Subject)
        assert subject.address is not None
        subject.address.clear()
        roles = one.claims_as(Roles)
        roles["https://acme.com/roles"].append("changed")
    assert one.claims == token().claims
    assert one.to_dict() == CLAIMS


class Tier(enum.Enum):
    GOLD = "gold"


class Card(msgspec.Struct, tag="card"):
    number: int = 0


class Cash(msgspec.Struct, tag="cash"):
    amount: int = 0


class Talkative(msgspec.Struct):
    word: str

    def __post_init__(self) -> None:
        raise ValueError(f"bad {self.word} - at `$.{self.word}`")


class Imitating(msgspec.Struct):
    word: str

    def __post_init__(self) -> None:
        raise TypeError(f"Expected `{self.word}`, got `str` - at `$.word`")


class Everything(msgspec.Struct):
    enum: Tier = Tier.GOLD
    literal: Literal["gold"] = "gold"
    tagged: Card | Cash = msgspec.field(default_factory=Cash)
    pattern: Annotated[str, msgspec.Meta(pattern="^a$")] = "a"
    short: Annotated[str, msgspec.Meta(max_length=2)] = "a"
    number: int = 0
    numbers: list[int] = []
    mapping: dict[str, int] = {}
    keyed: dict[int, str] = {}
    keyed_by_tier: dict[Tier, str] = {}
    talkative: Talkative | None = None
    imitating: Imitating | None = None
    any_mapping: Mapping[str, int] = {}


class Closed(msgspec.Struct, forbid_unknown_fields=True):
    x: int = 0


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        (Everything, "enum", SECRET),
        (Everything, "literal", SECRET),
        (Everything, "tagged", {"type": SECRET}),
        (Everything, "tagged", SECRET),
        (Everything, "pattern", SECRET),
        (Everything, "short", SECRET),
        (Everything, "number", SECRET),
        (Everything, "number", [SECRET]),
        (Everything, "number", {SECRET: SECRET}),
        (Everything, "numbers", [1, SECRET]),
        (Everything, "mapping", {SECRET: SECRET}),
        (Everything, "keyed", {SECRET: SECRET}),
        (Everything, "keyed_by_tier", {SECRET: SECRET}),
        (Everything, "talkative", {"word": SECRET}),
        (Everything, "imitating", {"word": SECRET}),
        (Everything, "any_mapping", {SECRET: SECRET}),
        (Talkative, "word", SECRET),
        (Imitating, "word", SECRET),
        (Closed, SECRET, SECRET),
    ],
)
def test_mismatch_names_the_claim_and_shows_no_value(
    kind: type[Any], name: str, value: Any
) -> None:
    with pytest.raises(InvalidClaimError) as refusal:
        token(**{name: value}).claims_as(kind)
    assert refusal.value.claim == ("" if kind in (Talkative, Closed) else name)
    assert kind.__name__ in str(refusal.value)
    assert SECRET not in "".join(traceback.format_exception(refusal.value))


@pytest.mark.parametrize(
    ("claims", "claim", "why"),
    [
        ({ROLES: ["a", 1]}, ROLES, f": expected `str`, got `int` at `{ROLES}[1]`"),
        ({"address": {"city": None}}, "address", ": expected `str`, got `null` at `address.city`"),
        ({"address": []}, "address", ": expected `object`, got `array` at `address`"),
        ({"address": {}}, "address", ""),
    ],
)
def test_mismatch_of_types_says_where_and_what_was_expected(
    claims: dict[str, Any], claim: str, why: str
) -> None:
    with pytest.raises(InvalidClaimError) as refusal:
        token(**claims).claims_as(Profile)
    assert refusal.value.claim == claim
    assert str(refusal.value) == f"The `{claim}` claim does not fit Profile{why}."


def test_claim_that_is_missing_is_named() -> None:
    class Wanting(msgspec.Struct):
        nickname: str

    with pytest.raises(InvalidClaimError, match=r"missing, which .*Wanting requires") as refusal:
        token().claims_as(Wanting)
    assert refusal.value.claim == "nickname"


@pytest.mark.parametrize("value", ["1", 1.5, True, None])
def test_types_are_strict(value: Any) -> None:
    with pytest.raises(InvalidClaimError):
        token(number=value).claims_as(Everything)


class Foreign:
    pass


class HasForeign(msgspec.Struct):
    sub: Foreign


class Unresolved(msgspec.Struct):
    sub: "NotThere"  # type: ignore[name-defined]  # noqa: F821, UP037


class Untagged(msgspec.Struct):
    sub: Profile | Address


class Row(NamedTuple):
    sub: str


class Array(msgspec.Struct, array_like=True):
    sub: str


@pytest.mark.parametrize(
    "kind",
    [
        *(int, str, list[str], dict[str, Any], Row, Array, Foreign, Any, None, "Profile", [1], 5),
        *(Profile | None, HasForeign, Unresolved, Untagged, Profile("", Address(""), [])),
    ],
)
def test_type_that_cannot_be_made_of_claims_is_a_configuration_error(kind: Any) -> None:
    for _ in range(2):
        with pytest.raises(ConfigurationError, match=r"^claims_as can't make ") as error:
            token().claims_as(kind)
        assert "auth0|1" not in str(error.value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(
    st.dictionaries(
        st.sampled_from([*CLAIMS, *(field.name for field in msgspec.structs.fields(Everything))]),
        json_values,
    )
)
def test_any_claims_are_converted_or_refused_by_our_error(claims: dict[str, Any]) -> None:
    any_token = VerifiedToken({}, claims, None, 1e10)
    for kind in (Everything, Profile, Subject, Roles):
        with suppress(InvalidClaimError):
            any_token.claims_as(kind)
