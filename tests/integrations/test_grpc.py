"""gRPC servers: which method needs what, where the token is, and how long a call may go on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from jwks_guard import (
    ConfigurationError,
    InvalidClaimError,
    Refusal,
    SyncTokenVerifier,
    problem_json,
)
from jwks_guard.integrations.grpc import (
    AioGuardInterceptor,
    GuardInterceptor,
    call_token,
    get_token,
)
from jwks_guard.testing import LocalTenant
from tests.integrations.grpc_serving import (
    KINDS,
    Loop,
    Metadata,
    call,
    handlers,
    served_in_threads,
)
from tests.integrations.pages import blocks
from tests.process.programs import program, wait_until
from tests.support import PATIENCE, HandClock, verifier_of

UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED


@pytest.fixture
def verifier(tenant: LocalTenant, clock: HandClock) -> Iterator[SyncTokenVerifier]:
    def client() -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=tenant.transport)

    made = SyncTokenVerifier(tenant.issuer, tenant.audience, http_client=client, clock=clock)
    with made:
        yield made


@pytest.fixture(scope="module")
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()


def bearer(token: str) -> Metadata:
    return (("authorization", f"Bearer {token}"),)


def code_of(channel: grpc.Channel, kind: str, metadata: Metadata = ()) -> grpc.StatusCode:
    try:
        call(channel, kind, metadata)
    except grpc.RpcError as error:
        code: grpc.StatusCode = error.code()
        return code
    return grpc.StatusCode.OK


class TeapotError(InvalidClaimError):
    http_status = 418


def brew(_: object) -> None:
    raise TeapotError("short and stout", "")


def unsendable(*_: object) -> Refusal:
    return Refusal(401, ((b"www-authenticate", 'Bearer realm="ü"'.encode()),), b"")


def subject(_: Any, __: object) -> bytes:
    return str(get_token().subject).encode()


def seen(_: Any, __: object) -> bytes:
    return repr(call_token.get()).encode()


def echo(requests: Iterator[bytes], _: object) -> Iterator[bytes]:
    yield from requests


class Talk:
    """A call with streams both ways that is begun, and goes on as a test wants."""

    def __init__(self, channel: grpc.Channel, token: str) -> None:
        self._sent: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        method: Any = channel.stream_stream("/acme.Things/stream_stream")
        requests = iter(self._sent.get, None)
        self.call: Any = method(requests, metadata=bearer(token), timeout=PATIENCE)

    def __enter__(self) -> Talk:
        return self

    def __exit__(self, *_: object) -> None:
        self._sent.put(None)
        self.call.cancel()

    def say(self, message: bytes) -> bytes:
        self._sent.put(message)
        answer: bytes = next(self.call)
        return answer

    def ends_with(self) -> grpc.StatusCode:
        """The code that it ends with, by itself."""
        with pytest.raises(grpc.RpcError):
            next(self.call)
        code: grpc.StatusCode = self.call.code()
        return code


def test_methods_ask_for_what_their_service_and_they_themselves_need(
    tenant: LocalTenant, verifier: SyncTokenVerifier
) -> None:
    guard = GuardInterceptor(
        verifier,
        methods={
            "/acme.Things/unary_stream": {"required_scopes": ["write"]},
            "/acme.Things/*": {"required_scopes": ["read"]},
        },
        exclude_methods=["/acme.Things/stream_stream", "/grpc.health.v1.Health/*"],
    )

    def stream(request: Any, context: object) -> Iterator[bytes]:
        yield subject(request, context)

    made = handlers(unary_unary=subject, unary_stream=stream, stream_stream=echo)
    reader, writer = bearer(tenant.token(scope="read")), bearer(tenant.token(scope="write"))
    with served_in_threads(made, guard) as channel:
        assert code_of(channel, "unary_unary", reader) is grpc.StatusCode.OK
        assert code_of(channel, "unary_unary", writer) is grpc.StatusCode.PERMISSION_DENIED
        assert code_of(channel, "unary_stream", reader) is grpc.StatusCode.PERMISSION_DENIED
        assert code_of(channel, "unary_stream", writer) is grpc.StatusCode.PERMISSION_DENIED
        both = bearer(tenant.token(scope="read write"))
        assert code_of(channel, "unary_stream", both) is grpc.StatusCode.OK
        assert code_of(channel, "stream_stream") is grpc.StatusCode.OK
        assert code_of(channel, "stream_unary", both) is grpc.StatusCode.UNIMPLEMENTED


def test_method_of_an_excluded_service_that_has_an_entry_needs_a_token(
    verifier: SyncTokenVerifier,
) -> None:
    guard = GuardInterceptor(
        verifier,
        methods={"/acme.Things/unary_unary": {"any_scopes": ["admin"]}},
        exclude_methods=["/acme.Things/*"],
    )
    with served_in_threads(handlers(unary_unary=seen, stream_stream=echo), guard) as channel:
        assert code_of(channel, "unary_unary") is UNAUTHENTICATED
        assert code_of(channel, "stream_stream") is grpc.StatusCode.OK


def test_what_a_method_asks_for_no_anonymous_call_has(
    tenant: LocalTenant, verifier: SyncTokenVerifier
) -> None:
    methods: Any = {"/acme.Things/unary_unary": {"required_scopes": ["read"]}}
    guard = GuardInterceptor(verifier, optional=True, methods=methods)
    with served_in_threads(handlers(unary_unary=seen, stream_unary=seen), guard) as channel:
        assert call(channel, "stream_unary") == [b"None"]
        assert code_of(channel, "unary_unary") is UNAUTHENTICATED
        reader = bearer(tenant.token(scope="read"))
        assert code_of(channel, "unary_unary", reader) is grpc.StatusCode.OK


@pytest.mark.parametrize(
    "options",
    [
        {"exclude_methods": ["acme.Things/Get"]},
        {"exclude_methods": ["/acme.Things/Get*"]},
        {"exclude_methods": ["/*"]},
        {"exclude_methods": "/acme.Things/Get"},
        {"methods": {"/acme.Things": {}}},
        {"methods": {"/a.B/C": {"required_scopes": "read"}}},
        {"methods": {"/a.B/C": {}}, "exclude_methods": ["/a.B/C"]},
    ],
)
def test_method_that_can_not_be_meant_so_is_a_configuration_error(
    options: Any, verifier: SyncTokenVerifier
) -> None:
    with pytest.raises(ConfigurationError):
        GuardInterceptor(verifier, **options)


def test_token_of_one_call_is_not_seen_by_the_next_in_the_same_thread(
    tenant: LocalTenant, verifier: SyncTokenVerifier
) -> None:
    guard = GuardInterceptor(verifier, exclude_methods=["/acme.Things/stream_unary"])
    made = handlers(unary_unary=subject, stream_unary=seen)
    with served_in_threads(made, guard, threads=1) as channel:
        assert call(channel, "unary_unary", bearer(tenant.token())) == [b"auth0|alice"]
        assert call(channel, "stream_unary") == [b"None"]


def test_handler_of_a_call_without_token_that_asks_for_it_is_told_why() -> None:
    with pytest.raises(ConfigurationError, match="exclude_methods"):
        get_token()


def test_call_that_waits_for_keys_keeps_no_other_from_being_accepted(
    tenant: LocalTenant, verifier: SyncTokenVerifier
) -> None:
    unknown = tenant.forged_token(kid="not-there")
    guard = GuardInterceptor(verifier, exclude_methods=["/acme.Things/stream_unary"])
    made = handlers(unary_unary=subject, stream_unary=seen)
    held = tenant.faults.hold()
    with served_in_threads(made, guard) as channel:
        method: Any = channel.unary_unary("/acme.Things/unary_unary")
        waiting = method.future(b"", metadata=bearer(unknown), timeout=PATIENCE)
        assert call(channel, "stream_unary") == [b"None"]
        assert not waiting.done()
        held.release()
        assert waiting.code() is UNAUTHENTICATED


def test_stream_takes_and_sends_no_message_once_its_key_is_distrusted(
    tenant: LocalTenant, verifier: SyncTokenVerifier
) -> None:
    taken: list[bytes] = []

    def answer(requests: Iterator[bytes], _: object) -> Iterator[bytes]:
        for request in requests:
            taken.append(request)
            yield request

    made = handlers(stream_stream=answer)
    guard = GuardInterceptor(verifier)
    with served_in_threads(made, guard) as channel, Talk(channel, tenant.token()) as talk:
        assert talk.say(b"a") == b"a"
        verifier.distrust(tenant.key().kid, reason="leaked", force=True)
        with pytest.raises(grpc.RpcError):
            talk.say(b"b")
        assert talk.call.code() is UNAUTHENTICATED
    assert taken == [b"a"]


def test_handler_that_ignores_the_end_of_its_call_sends_nothing_more(
    tenant: LocalTenant, verifier: SyncTokenVerifier
) -> None:
    distrusted = threading.Event()

    def stubborn(requests: Iterator[bytes], _: object) -> Iterator[bytes]:
        yield b"first"
        distrusted.wait(PATIENCE)
        try:
            list(requests)
        except Exception:  # noqa: BLE001 - what a handler may do
            yield b"second"
        yield b"third"

    made = handlers(stream_stream=stubborn)
    guard = GuardInterceptor(verifier)
    with served_in_threads(made, guard) as channel, Talk(channel, tenant.token()) as talk:
        assert talk.say(b"a") == b"first"
        verifier.distrust(tenant.key().kid, reason="leaked", force=True)
        distrusted.set()
        assert talk.ends_with() is UNAUTHENTICATED


def test_handler_that_sends_by_itself_is_guarded(
    tenant: LocalTenant, verifier: SyncTokenVerifier
) -> None:
    def watch(_: bytes, __: object, send: Any) -> None:
        send(str(get_token().subject).encode())
        send(None)

    watch.experimental_non_blocking = True  # type: ignore[attr-defined]  # as grpc reads it
    made = handlers(unary_stream=watch)
    with served_in_threads(made, GuardInterceptor(verifier)) as channel:
        assert code_of(channel, "unary_stream") is UNAUTHENTICATED
        assert call(channel, "unary_stream", bearer(tenant.token())) == [b"auth0|alice"]


def test_refusal_in_another_format_keeps_its_text_or_has_none(verifier: SyncTokenVerifier) -> None:
    def teapot(answer: Any, _: object) -> Any:
        return type(answer)(418, (), b"short and stout")

    for on_refusal, details in (
        (problem_json, "This request needs a bearer token."),
        (teapot, ""),
    ):
        guard = GuardInterceptor(verifier, on_refusal=on_refusal)
        with served_in_threads(handlers(unary_unary=subject), guard) as channel:
            with pytest.raises(grpc.RpcError) as refused:
                call(channel, "unary_unary")
            answer: Any = refused.value
            assert (answer.code(), answer.details()) == (UNAUTHENTICATED, details)


@pytest.mark.parametrize("option", [{"claim_checks": [brew]}, {"on_refusal": unsendable}])
def test_refusal_that_grpc_has_no_form_for_is_unauthenticated(
    option: Any, verifier: SyncTokenVerifier, tenant: LocalTenant
) -> None:
    sent = bearer(tenant.token() if "claim_checks" in option else "junk")
    with served_in_threads(
        handlers(unary_unary=subject), GuardInterceptor(verifier, **option)
    ) as channel:
        assert code_of(channel, "unary_unary", sent) is UNAUTHENTICATED


class Idle:
    """Async handlers that answer once and then wait without an end; `ended` once cancelled."""

    def __init__(self) -> None:
        self.ended = threading.Event()

    async def writer(self, requests: Any, context: Any) -> None:
        try:
            async for request in requests:
                await context.write(request)
        finally:
            self.ended.set()

    async def generator(self, requests: Any, _: object) -> Any:
        try:
            yield b"a"
            await asyncio.Event().wait()
        finally:
            self.ended.set()

    async def stubborn(self, requests: Any, context: Any) -> None:
        async for request in requests:
            try:
                await context.write(request)
                await asyncio.Event().wait()
            except asyncio.CancelledError:  # in either: the client has a message early
                self.ended.set()


@pytest.mark.parametrize("behavior", ["writer", "generator", "stubborn"])
def test_idle_stream_of_asyncio_ends_once_its_key_is_distrusted(
    behavior: str, tenant: LocalTenant, clock: HandClock, loop: Loop
) -> None:
    verifier, idle = verifier_of(tenant, clock), Idle()
    made = handlers(stream_stream=getattr(idle, behavior))
    with loop.served(made, AioGuardInterceptor(verifier)) as channel:
        with Talk(channel, tenant.token()) as talk:
            assert talk.say(b"a") == b"a"
            kid = tenant.key().kid
            loop.run(verifier.distrust(kid, reason="leaked", force=True))
            assert talk.ends_with() is UNAUTHENTICATED
            assert "invalid_token" in dict(talk.call.trailing_metadata())["www-authenticate"]
        assert idle.ended.wait(PATIENCE)
    loop.run(verifier.aclose())


@pytest.mark.parametrize(
    ("kind", "behavior"),
    [("unary_unary", "one"), ("unary_stream", "many"), ("unary_unary", "in_a_thread")],
)
def test_message_that_comes_after_its_key_was_distrusted_reaches_no_handler(
    kind: str, behavior: str, tenant: LocalTenant, clock: HandClock, loop: Loop
) -> None:
    """The token is verified when the call begins, and the message may come any time later."""
    verifier, seen = verifier_of(tenant, clock), list[bytes]()

    async def one(request: bytes, _: object) -> bytes:
        seen.append(request)
        return b"done"

    async def many(request: bytes, _: object) -> Any:
        seen.append(request)
        yield b"done"

    def in_a_thread(request: bytes, _: object) -> bytes:
        seen.append(request)
        return b"done"

    behaviors = {"one": one, "many": many, "in_a_thread": in_a_thread}
    made = handlers(**{kind: behaviors[behavior]})
    verified = threading.Event()

    class Noticing(AioGuardInterceptor):
        async def intercept_service(self, continuation: Any, details: Any) -> Any:
            handler = await super().intercept_service(continuation, details)
            verified.set()
            return handler

    with loop.served(made, Noticing(verifier)) as channel:
        sent: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        method: Any = channel.stream_stream(f"/acme.Things/{kind}")
        call: Any = method(iter(sent.get, None), metadata=bearer(tenant.token()), timeout=PATIENCE)
        assert verified.wait(PATIENCE)
        kid = tenant.key().kid
        loop.run(verifier.distrust(kid, reason="leaked", force=True))
        sent.put(b"late")
        sent.put(None)
        with pytest.raises(grpc.RpcError):
            list(call)
        assert (call.code(), seen) == (UNAUTHENTICATED, [])
    loop.run(verifier.aclose())


def test_stream_that_is_refused_while_it_sends_its_first_message_ends(
    tenant: LocalTenant, clock: HandClock, loop: Loop
) -> None:
    verifier = verifier_of(tenant, clock)

    async def write(_: Any, context: Any) -> None:
        verifier.keys.decisions.decide(tenant.key().kid, reason="leaked", force=True)
        await context.write(b"a")
        await asyncio.Event().wait()

    made = handlers(stream_stream=write)
    with (
        loop.served(made, AioGuardInterceptor(verifier)) as channel,
        Talk(channel, tenant.token()) as talk,
    ):
        first = contextlib.suppress(grpc.RpcError)  # it may be sent or not
        with first:
            assert next(talk.call) == b"a"
        with pytest.raises(grpc.RpcError):
            next(talk.call)
        assert talk.call.code() is UNAUTHENTICATED
    loop.run(verifier.aclose())


@pytest.mark.parametrize(
    ("seconds", "code"),
    [(3700.0, grpc.StatusCode.UNAVAILABLE), (100.0, UNAUTHENTICATED)],
    ids=["trust runs out", "the token expires"],
)
def test_idle_stream_of_asyncio_ends_when_time_is_over(
    seconds: float, code: grpc.StatusCode, tenant: LocalTenant, clock: HandClock, loop: Loop
) -> None:
    verifier, idle = verifier_of(tenant, clock), Idle()
    made = handlers(stream_stream=idle.writer)
    with loop.served(made, AioGuardInterceptor(verifier)) as channel:
        lifetime = 60 if code is UNAUTHENTICATED else 86_400
        with Talk(channel, tenant.token(claims={"exp": int(clock.time()) + lifetime})) as talk:
            assert talk.say(b"a") == b"a"
            clock.advance(seconds)
            assert talk.ends_with() is code
    loop.run(verifier.aclose())


def test_client_that_does_not_read_keeps_no_handler_alive(
    tenant: LocalTenant, clock: HandClock, loop: Loop
) -> None:
    verifier, ended = verifier_of(tenant, clock), threading.Event()

    async def flood(_: Any, context: Any) -> None:
        try:
            while True:
                await context.write(b"x" * 1_000_000)
        finally:
            ended.set()

    made = handlers(unary_stream=flood)
    with loop.served(made, AioGuardInterceptor(verifier)) as channel:
        method: Any = channel.unary_stream("/acme.Things/unary_stream")
        flooded = method(b"", metadata=bearer(tenant.token()), timeout=PATIENCE)
        assert next(flooded)
        loop.run(verifier.distrust(tenant.key().kid, reason="leaked", force=True))
        assert ended.wait(PATIENCE)
        with pytest.raises(grpc.RpcError):
            list(flooded)
        assert flooded.code() is UNAUTHENTICATED
    loop.run(verifier.aclose())


def test_client_that_hangs_up_ends_the_handler(
    tenant: LocalTenant, clock: HandClock, loop: Loop
) -> None:
    verifier, idle = verifier_of(tenant, clock), Idle()
    made = handlers(stream_stream=idle.writer)
    with loop.served(made, AioGuardInterceptor(verifier)) as channel:
        with Talk(channel, tenant.token()) as talk:
            assert talk.say(b"a") == b"a"
        assert idle.ended.wait(PATIENCE)
    loop.run(verifier.aclose())


def test_handlers_of_threads_in_a_server_of_asyncio_have_the_token_and_look_at_it(
    tenant: LocalTenant, clock: HandClock, loop: Loop
) -> None:
    verifier = verifier_of(tenant, clock)

    def answer(requests: Iterator[bytes], context: object) -> Iterator[bytes]:
        for request in requests:
            yield subject(request, context)

    made = handlers(unary_unary=subject, stream_stream=answer, stream_unary=seen)
    guard = AioGuardInterceptor(verifier, exclude_methods=["/acme.Things/stream_unary"])
    with loop.served(made, guard) as channel:
        good = tenant.token()
        assert call(channel, "unary_unary", bearer(good)) == [b"auth0|alice"]
        assert call(channel, "stream_unary") == [b"None"]
        with Talk(channel, good) as talk:
            assert talk.say(b"a") == b"auth0|alice"
            loop.run(verifier.distrust(tenant.key().kid, reason="leaked", force=True))
            with pytest.raises(grpc.RpcError):
                talk.say(b"b")
            assert talk.call.code() is UNAUTHENTICATED
    loop.run(verifier.aclose())


def test_refused_call_reaches_no_interceptor_behind_and_reads_no_message(
    tenant: LocalTenant, clock: HandClock, loop: Loop
) -> None:
    verifier, asked = verifier_of(tenant, clock), []

    class Behind(grpc.aio.ServerInterceptor):
        async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
            asked.append(handler_call_details.method)
            return await continuation(handler_call_details)

    async def unary(_: Any, __: object) -> bytes:
        return subject(_, __)

    guard = AioGuardInterceptor(verifier)
    with loop.served(handlers(unary_unary=unary), guard, Behind()) as channel:
        assert [code_of(channel, kind) for kind in KINDS] == [UNAUTHENTICATED] * 4
        assert asked == []
        assert call(channel, "unary_unary", bearer(tenant.token())) == [b"auth0|alice"]
        assert asked == ["/acme.Things/unary_unary"]
        assert code_of(channel, "stream_unary", bearer(tenant.token())) is (
            grpc.StatusCode.UNIMPLEMENTED
        )
    loop.run(verifier.aclose())


def test_example_guards_its_methods() -> None:
    with LocalTenant(algorithm="ES256") as local:
        local.faults.status(503)
        with example(local) as channel:

            def code(method: str, metadata: Metadata = ()) -> grpc.StatusCode:
                called: Any = channel.unary_unary(f"/acme.Things/{method}")
                found: grpc.StatusCode = called.future(b"", metadata=metadata).code()
                return found

            good = bearer(local.token())
            assert code("Owner", good) is grpc.StatusCode.UNAVAILABLE
            assert code("Check") is grpc.StatusCode.OK
            assert code("Owner") is UNAUTHENTICATED
        local.faults.clear()
        with example(local) as channel:
            method: Any = channel.unary_unary("/acme.Things/Owner")
            assert method(b"", metadata=good, timeout=PATIENCE) == b"auth0|alice"
            assert code("Owner", bearer(local.token(claims={"exp": 1}))) is UNAUTHENTICATED
            assert code("Owner", bearer("bad")) is UNAUTHENTICATED
            watch: Any = channel.unary_stream("/acme.Things/Watch")
            poor = bearer(local.token(scope="openid"))
            refused = watch(b"", metadata=poor, timeout=PATIENCE)
            assert refused.code() is grpc.StatusCode.PERMISSION_DENIED
            assert 'scope="read:things"' in dict(refused.trailing_metadata())["www-authenticate"]
            begun = watch(b"", metadata=bearer(local.token(scope="read:things")), timeout=PATIENCE)
            assert next(begun) == b"watching"
            begun.cancel()
            leaked = local.key().kid
            local.rotate()
            local.revoke(leaked)
            wait_until(lambda: code("Owner", good) is UNAUTHENTICATED)


@contextmanager
def example(tenant: LocalTenant) -> Iterator[grpc.Channel]:
    environ = {
        **os.environ,
        "JWKS_GUARD_ISSUER": tenant.issuer,
        "JWKS_GUARD_AUDIENCE": tenant.audience,
        "JWKS_GUARD_REFRESH_INTERVAL": "0.5",
    }
    with program("-m", "examples.grpc_server", "0", env=environ) as running:
        assert running.stdout is not None
        port = running.stdout.readline().split()[-1]
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel


def test_short_version_guards_a_server() -> None:
    with (
        LocalTenant(algorithm="ES256") as local,
        blocks("docs/frameworks.md", local, "grpc") as (made,),
    ):
        made.server.add_generic_rpc_handlers([handlers(unary_unary=subject)])
        _guards(made, local, "unary_unary")


def test_page_of_the_documentation_runs() -> None:
    with LocalTenant(algorithm="ES256") as local, blocks("docs/grpc.md", local) as found:
        *_, tested = found
        tested.test_scope_is_required(local)


async def test_server_of_asyncio_on_the_page_answers_its_client(tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/socket"
    with LocalTenant(algorithm="ES256") as local, blocks("docs/grpc.md", local) as found:
        _, of_tasks, client, _ = found
        serving = asyncio.create_task(of_tasks.serve(address))
        try:
            channel = grpc.aio.insecure_channel(address)
            await asyncio.wait_for(channel.channel_ready(), PATIENCE)
            await channel.close()
            said = await asyncio.to_thread(client.write, local.token(), address)
            assert said == b"written for auth0|alice"
            with pytest.raises(grpc.RpcError) as refused:
                await asyncio.to_thread(client.write, local.forged_token(), address)
            assert refused.value.code() is UNAUTHENTICATED
        finally:
            serving.cancel()
            await asyncio.wait([serving])


def _guards(made: Any, tenant: LocalTenant, kind: str) -> None:
    port = made.server.add_insecure_port("127.0.0.1:0")
    made.server.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            assert code_of(channel, kind) is UNAUTHENTICATED
            assert call(channel, kind, bearer(tenant.token(sub="auth0|bob"))) == [b"auth0|bob"]
    finally:
        made.server.stop(None).wait(PATIENCE)
        made.verifier.close()
