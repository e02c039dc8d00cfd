from __future__ import annotations

import pytest
from starlette.types import Message, Scope

from jwks_guard.asgi.subprotocol import (
    SubprotocolOffer,
    answering_bearer,
    hide_token,
    read_offer,
)
from jwks_guard.errors import InvalidRequestError


@pytest.mark.parametrize(
    ("subprotocols", "offer"),
    [
        ([], SubprotocolOffer(None, ())),
        (["chat", "Bearer", "abc"], SubprotocolOffer(None, ("chat", "Bearer", "abc"))),
        (["bearer", "abc.def"], SubprotocolOffer(b"abc.def", ())),
        (["bearer", "abc.def", "chat"], SubprotocolOffer(b"abc.def", ("chat",))),
        (["chat", "bearer", "abc.def", "v2"], SubprotocolOffer(b"abc.def", ("chat", "v2"))),
    ],
)
def test_the_token_is_what_follows_bearer(subprotocols: list[str], offer: SubprotocolOffer) -> None:
    assert read_offer(subprotocols) == offer


@pytest.mark.parametrize(
    "subprotocols",
    [
        ["bearer"],
        ["chat", "bearer"],
        ["bearer", ""],
        ["bearer", "a b"],
        ["bearer", "été"],
        ["bearer", "\udcff"],
        ["bearer", "bearer"],
        ["bearer", "abc", "bearer"],
        ["bearer", "abc", "bearer", "def"],
        ["bearer", "bearer", "abc"],
    ],
)
def test_bearer_without_one_token_is_an_invalid_request(subprotocols: list[str]) -> None:
    with pytest.raises(InvalidRequestError):
        read_offer(subprotocols)


def test_padding_of_a_long_token_is_not_stripped_one_by_one() -> None:
    with pytest.raises(InvalidRequestError, match="too many blanks or padding"):
        read_offer(["bearer", "abc" + "=" * 65_000])
    assert read_offer(["bearer", "a" * 9000 + "=="]).token == b"a" * 9000 + b"=="


def test_the_app_sees_only_the_other_subprotocols() -> None:
    scope: Scope = {
        "subprotocols": ["bearer", "abc", "chat", "v2", "\xff"],
        "headers": [
            (b"sec-websocket-protocol", b"bearer, abc"),
            (b"host", b"api"),
            (b"sec-websocket-protocol", b"chat, v2, \xff"),
        ],
    }
    hide_token(scope, read_offer(scope["subprotocols"]))
    assert scope == {
        "subprotocols": ["chat", "v2", "\xff"],
        "headers": [(b"host", b"api"), (b"sec-websocket-protocol", b"chat, v2, ?")],
    }


def test_without_other_subprotocols_their_header_goes_too() -> None:
    scope = {"subprotocols": [], "headers": [(b"sec-websocket-protocol", b"bearer, abc")]}
    hide_token(scope, SubprotocolOffer(b"abc", ()))
    assert scope == {"subprotocols": [], "headers": []}


@pytest.mark.parametrize(
    ("chosen", "answered"),
    [(None, "bearer"), ("chat", "chat"), ("other", "bearer"), ("abc", "bearer")],
)
async def test_bearer_is_answered_unless_the_app_chose_another_offer(
    chosen: str | None, answered: str
) -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    answer = answering_bearer(send, SubprotocolOffer(b"abc", ("chat",)))
    await answer({"type": "websocket.accept", "subprotocol": chosen, "headers": []})
    await answer({"type": "websocket.send", "text": "hello"})
    assert sent == [
        {"type": "websocket.accept", "subprotocol": answered, "headers": []},
        {"type": "websocket.send", "text": "hello"},
    ]
