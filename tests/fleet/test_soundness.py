"""What is taken of the decisions and states that lie outside of a process."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jwks_guard.distrust.state import MAX_NUMBER, Decision, Distrust, State
from jwks_guard.fleet.soundness import (
    MAX_BY_CHARS,
    MAX_DECISIONS,
    MAX_ENTRIES_PER_KEY,
    MAX_REASON_CHARS,
    MAX_STATE_BYTES,
    encoded_state,
    require_few,
    sound,
    states_in,
)
from jwks_guard.jose.header import MAX_KID_CHARS
from jwks_guard.readiness.clients import MAX_CHARS, MAX_CLIENTS, ClientUsage
from jwks_guard.readiness.state import InstanceState
from jwks_guard.readiness.usage import KeyUsage

ISSUER = "https://tenant.test/"
NAME = (ISSUER, "k")
REPLICA, PRINT = "0" * 32, "p" * 43
LEAKED = Decision(1, "leaked", 1.0, "here:1")


def test_a_sound_flag_is_taken_as_it_is() -> None:
    flag = Distrust({REPLICA: LEAKED}, {"f" * 32: Decision(MAX_NUMBER)}, frozenset({PRINT}))
    assert sound(NAME, flag) == flag


@pytest.mark.parametrize("number", [-1, 0, MAX_NUMBER + 1])
def test_a_number_out_of_range_neither_decides_nor_lifts(number: int) -> None:
    odd = {REPLICA: Decision(number)}
    assert sound(NAME, Distrust(made=odd)) is None
    assert sound(NAME, Distrust(lifted=odd)) is None


@pytest.mark.parametrize("replica", ["", "0" * 31, "0" * 33, "0" * 31 + "\n", "F" * 32, "é" * 32])
def test_what_is_no_replica_neither_decides_nor_lifts(replica: str) -> None:
    assert sound(NAME, Distrust(made={replica: LEAKED})) is None
    assert sound(NAME, Distrust(lifted={replica: LEAKED})) is None


@pytest.mark.parametrize("odd", ["", "-", "p" * 42, "p" * 44, PRINT + "\n", "=" * 43, "é" * 43])
def test_what_is_no_thumbprint_is_left_out(odd: str) -> None:
    assert sound(NAME, Distrust(thumbprints=frozenset({odd}))) is None
    made = {REPLICA: LEAKED}
    assert sound(NAME, Distrust(made, {}, frozenset({odd, PRINT}))) == Distrust(
        made, {}, frozenset({PRINT})
    )


@pytest.mark.parametrize("name", [("", "k"), (ISSUER, ""), (ISSUER, "k" * (MAX_KID_CHARS + 1))])
def test_a_key_that_no_token_can_name_is_left_out(name: tuple[str, str]) -> None:
    assert sound(name, Distrust(made={REPLICA: LEAKED})) is None


def test_long_words_are_shortened_and_their_decision_counts() -> None:
    long = Decision(3, "r" * 100_000, 1.0, "b" * 100_000)
    flag = sound(NAME, Distrust(made={REPLICA: long}))
    assert flag is not None
    assert flag.made == {REPLICA: Decision(3, "r" * MAX_REASON_CHARS, 1.0, "b" * MAX_BY_CHARS)}


@pytest.mark.parametrize("at", [-1.0, 1e300, float("inf"), float("nan")])
def test_an_instant_that_is_no_date_is_forgotten_and_its_decision_counts(at: float) -> None:
    flag = sound(NAME, Distrust(made={REPLICA: Decision(3, "leaked", at)}))
    assert flag is not None
    assert flag.made == {REPLICA: Decision(3, "leaked", 0.0)}


def test_more_keys_than_a_fleet_distrusts_are_refused() -> None:
    flag = Distrust(made={REPLICA: LEAKED})
    held = State({(ISSUER, str(number)): flag for number in range(MAX_DECISIONS)})
    require_few(held, held.merged({(ISSUER, "0"): flag}))
    with pytest.raises(OSError, match="more than"):
        require_few(held, held.merged({NAME: flag}))


def test_more_replicas_than_ever_decide_about_a_key_are_refused() -> None:
    made = {f"{number:032x}": LEAKED for number in range(MAX_ENTRIES_PER_KEY)}
    held = State({NAME: Distrust(made)})
    require_few(State(), held)
    with pytest.raises(OSError, match="more than"):
        require_few(held, held.merged({NAME: Distrust(lifted={"f" * 32: LEAKED})}))


def state(**changes: Any) -> InstanceState:
    usual: dict[str, Any] = {
        "instance": "0" * 32,
        "host": "here:1",
        "issuer": ISSUER,
        "started_at": 1.0,
        "reported_at": 2.0,
        "status": "ok",
        "confirmed_at": 1.5,
        "trusted_until": 3.0,
        "kids": ("a", "b"),
        "refused": {"c": 1.0},
        "usage": {
            "a": KeyUsage(1, 2, 3, 4.0, 5.0, clients=(ClientUsage("shop", "org_1", 1),)),
        },
    }
    return InstanceState(**usual | changes)


def test_a_state_is_read_as_it_was_written() -> None:
    assert states_in([encoded_state(state()), None], ISSUER) == (state(),)
    assert states_in([encoded_state(state())], "https://other.test/") == ()


@given(st.lists(st.binary() | st.none()))
def test_what_is_no_state_is_passed_over(values: list[bytes | None]) -> None:
    assert states_in([*values, encoded_state(state())], ISSUER) == (state(),)


def test_a_state_that_could_upset_its_reader_is_passed_over() -> None:
    for odd in (
        state(host="here\x1b[2J"),
        state(version="0.1\x1b[2J"),
        state(instance="a\nb"),
        state(reported_at=1e300),
        state(started_at=-1.0),
        state(refused={"c": 1e300}),
        state(trusted_until=-1e300),
        state(usage={"a": KeyUsage(latest_expiry=1e300)}),
        state(usage={"a": KeyUsage(longest_lifetime=-1.0)}),
        state(usage={"a": KeyUsage(other_clients=-1)}),
        state(usage={"a": KeyUsage(clients=(ClientUsage("hides others", None, -9),))}),
        state(usage={"a": KeyUsage(accepted=10**308)}),
        state(usage={"a": KeyUsage(recent=-1)}),
        state(usage={"a": KeyUsage(clients=(ClientUsage("a\x1b[2J", None, 1),))}),
        state(usage={"a": KeyUsage(clients=(ClientUsage("a", "o" * (MAX_CHARS + 1), 1),))}),
        state(usage={"a": KeyUsage(clients=(ClientUsage("a", None, 1),) * (MAX_CLIENTS + 1))}),
    ):
        assert states_in([msgspec.json.encode(odd)], ISSUER) == ()


def test_a_count_that_is_too_long_to_be_written_once_it_is_added_is_passed_over() -> None:
    """Two of 4,300 digits make one that Python does not write: it would end an incident."""
    counted = state(usage={"a": KeyUsage(clients=(ClientUsage("a", None, 12345),))})
    huge = msgspec.json.encode(counted).replace(b"12345", b"9" * 4300)
    assert states_in([huge], ISSUER) == ()


def test_a_state_that_would_be_too_long_to_be_read_is_shortened() -> None:
    refused = {f"{number:04}" + "k" * 500: float(number) for number in range(5000)}
    encoded = encoded_state(state(refused=refused))
    assert len(encoded) <= MAX_STATE_BYTES
    (read,) = states_in([encoded], ISSUER)
    assert max(read.refused.values()) == 4999.0


def test_names_of_clients_give_way_before_an_acknowledgement_does() -> None:
    names = tuple(ClientUsage(f"{n:0100}", "o" * MAX_CHARS, 1) for n in range(MAX_CLIENTS))
    usage = {f"k{number}": KeyUsage(9, clients=names, other_clients=1) for number in range(256)}
    encoded = encoded_state(state(usage=usage))
    assert len(encoded) <= MAX_STATE_BYTES
    (read,) = states_in([encoded], ISSUER)
    assert read.refused == {"c": 1.0}
    assert read.usage["k255"] == KeyUsage(9, other_clients=MAX_CLIENTS + 1)
