"""The table of requests that every integration answers alike, as far as gRPC can send them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import grpc
import pytest

from jwks_guard.integrations.grpc import AioGuardInterceptor, GuardInterceptor, call_token
from tests.integrations.grpc_serving import KINDS, Loop, call, handlers, served_in_threads
from tests.integrations.issuing import SPENT, Issuing, issuing
from tests.integrations.requests import CASES, GUARDS, LET_IN, Case

CODES = {
    400: grpc.StatusCode.UNAUTHENTICATED,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
}


def can_be_sent(case: Case) -> bool:
    """Whether it is a matter of metadata, in which only ASCII can stand; gRPC calls are POSTs."""
    origins = case.path in ("cookie", "either") and any(
        name == "Cookie" for name, _ in case.headers
    )
    plain = all(value.isascii() for _, value in case.headers)
    return plain and not (origins or case.query or case.body or case.method == "HEAD")


SENT = [case for case in CASES if can_be_sent(case)]


def who() -> bytes:
    token = call_token.get()
    return b"anonymous" if token is None else str(token.subject).encode()


def threads() -> grpc.GenericRpcHandler:
    def stream(_: Any, __: object) -> Iterator[bytes]:
        yield who()

    def unary(_: Any, __: object) -> bytes:
        return who()

    return handlers(**{kind: stream if kind.endswith("stream") else unary for kind in KINDS})


def tasks() -> grpc.GenericRpcHandler:
    async def generator(_: Any, __: object) -> Any:
        yield who()

    async def writer(_: Any, context: Any) -> None:
        await context.write(who())

    async def unary(_: Any, __: object) -> bytes:
        return who()

    return handlers(
        unary_unary=unary, unary_stream=generator, stream_unary=unary, stream_stream=writer
    )


@pytest.fixture(scope="module")
def issued() -> Iterator[Issuing]:
    with issuing() as made:
        yield made


@pytest.fixture(scope="module", params=["threads", "tasks"])
def channels(request: pytest.FixtureRequest, issued: Issuing) -> Iterator[dict[str, grpc.Channel]]:
    """For each guard of the table a channel to a server of its own."""
    with ExitStack() as running:
        if request.param == "threads":
            made = {path: _in_threads(path, issued, running) for path in GUARDS}
        else:
            loop = Loop()
            running.callback(loop.close)
            made = {path: _in_tasks(path, issued, loop, running) for path in GUARDS}
        for number in range(SPENT):
            token = f"Bearer {issued.unknown(number)}"
            with pytest.raises(grpc.RpcError):
                call(made["throttled"], "unary_unary", (("authorization", token),))
        yield made


def _in_threads(path: str, issued: Issuing, running: ExitStack) -> grpc.Channel:
    verifier = issued.sync_verifier(path)
    running.callback(verifier.close)
    guard = GuardInterceptor(verifier, **GUARDS[path])
    return running.enter_context(served_in_threads(threads(), guard))


def _in_tasks(path: str, issued: Issuing, loop: Loop, running: ExitStack) -> grpc.Channel:
    verifier = issued.verifier(path)
    running.callback(lambda: loop.run(verifier.aclose()))
    guard = AioGuardInterceptor(verifier, **GUARDS[path])
    return running.enter_context(loop.served(tasks(), guard))


@pytest.mark.parametrize("case", SENT, ids=lambda each: each.name.replace(" ", "-"))
def test_call_is_answered_as_the_http_request_is(
    case: Case, channels: dict[str, grpc.Channel], issued: Issuing
) -> None:
    metadata = tuple((k.lower(), v.format_map(issued.tokens)) for k, v in case.headers)
    channel = channels[case.path]
    if case in LET_IN:
        anonymous = case.name == "no token where none is needed"
        expected = [b"anonymous" if anonymous else b"auth0|alice"]
        assert [call(channel, kind, metadata) for kind in KINDS] == [expected] * 4
        return
    for kind in KINDS:
        with pytest.raises(grpc.RpcError) as refused:
            call(channel, kind, metadata)
        answer: Any = refused.value
        assert answer.code() is CODES[case.status]
        trailing = dict(answer.trailing_metadata())
        assert trailing.get("www-authenticate") == case.challenge
        assert ("retry-after" in trailing) is (case.status in (429, 503))
        assert len(trailing) == 1
        assert answer.details().endswith(".") or case.path == "debug"


def test_table_has_every_code() -> None:
    assert {CODES[case.status] for case in SENT if case not in LET_IN} == set(CODES.values())
