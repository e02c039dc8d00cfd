from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from jwks_guard import (
    ConfigurationError,
    InvalidTokenError,
    KeysUnavailableError,
    MalformedTokenError,
    RevokedKeyError,
    SyncTokenVerifier,
    TokenVerifier,
    UnknownKeyError,
)
from jwks_guard.testing import LocalTenant
from jwks_guard.verify.any_loop import AnyLoopVerifier
from tests.support import PATIENCE


@pytest.fixture(scope="module")
def issuer() -> Iterator[LocalTenant]:
    with LocalTenant(algorithm="ES256") as local:
        yield local


@pytest.fixture
def served(issuer: LocalTenant) -> Iterator[LocalTenant]:
    yield issuer
    issuer.faults.clear()


@pytest.fixture
def verifier(served: LocalTenant) -> Iterator[SyncTokenVerifier]:
    made = SyncTokenVerifier(served.issuer, served.audience)
    yield made
    made.close()


def test_it_may_be_awaited_on_one_event_loop_after_another(
    served: LocalTenant, verifier: SyncTokenVerifier
) -> None:
    awaited, fetches = AnyLoopVerifier(verifier), served.requests.count()
    for number in range(3):
        token = served.token(sub=f"auth0|{number}")
        assert asyncio.run(awaited.verify(token)).subject == f"auth0|{number}"
    assert verifier.verify(token).subject == "auth0|2"
    assert served.requests.count() == fetches + 1


@pytest.mark.parametrize("background", [True, False])
async def test_what_can_be_no_token_causes_no_fetch(served: LocalTenant, background: bool) -> None:
    verifier = SyncTokenVerifier(served.issuer, served.audience, background=background)
    fetches = served.requests.count()
    for junk in ("x" * 20_000, b"\xff.a.b"):
        with pytest.raises(MalformedTokenError):
            await AnyLoopVerifier(verifier).verify(junk)
    assert served.requests.count() == fetches


def test_it_may_be_awaited_on_two_event_loops_at_once_where_a_token_verifier_may_not(
    served: LocalTenant, verifier: SyncTokenVerifier
) -> None:
    token = served.token()
    verifier.verify(token)

    async def on_another_loop() -> None:
        assert (await AnyLoopVerifier(verifier).verify(token)).subject == "auth0|alice"
        served.rotate()  # its key has to be looked up
        new = served.token(sub="auth0|bob")
        assert (await AnyLoopVerifier(verifier).verify(new)).subject == "auth0|bob"
        one = TokenVerifier(served.issuer, served.audience, keys=verifier.keys)
        with pytest.raises(ConfigurationError, match="another event loop"):
            await one.verify(served.token(sub="auth0|carol"))

    asyncio.run(on_another_loop())


async def test_a_fetch_blocks_neither_the_event_loop_nor_a_thread(
    served: LocalTenant, verifier: SyncTokenVerifier
) -> None:
    awaited = AnyLoopVerifier(verifier)
    known = served.token()
    await awaited.verify(known)
    threads = threading.active_count()
    hold = served.faults.hold()
    unknown = [
        asyncio.create_task(awaited.verify(served.forged_token(kid=f"unknown-{number}")))
        for number in range(50)
    ]
    await hold.arrived.wait(PATIENCE)
    for _ in range(10):
        assert (await awaited.verify(known)).subject == "auth0|alice"
    assert threading.active_count() == threads
    assert not all(task.done() for task in unknown)
    served.faults.clear()
    refused = await asyncio.gather(*unknown, return_exceptions=True)
    assert all(isinstance(each, InvalidTokenError | KeysUnavailableError) for each in refused)


async def test_it_refuses_what_the_verifier_refuses(
    served: LocalTenant, verifier: SyncTokenVerifier
) -> None:
    awaited = AnyLoopVerifier(verifier)
    leaked = await awaited.verify(served.token())
    served.rotate()
    with pytest.raises(UnknownKeyError):
        await awaited.verify(served.token(key=served.new_key()))
    verifier.distrust(leaked.kid, reason="leaked", force=True)
    with pytest.raises(RevokedKeyError):
        await awaited.verify(served.token(key="previous"))


async def test_it_says_that_keys_are_unavailable_in_an_outage(served: LocalTenant) -> None:
    served.faults.status(500)
    verifier = SyncTokenVerifier(served.issuer, served.audience)
    with pytest.raises(KeysUnavailableError):
        await AnyLoopVerifier(verifier).verify(served.token())
    verifier.close()


async def test_it_refreshes_for_a_request_where_nothing_does_in_the_background(
    served: LocalTenant,
) -> None:
    verifier = SyncTokenVerifier(served.issuer, served.audience, background=False)
    assert (await AnyLoopVerifier(verifier).verify(served.token())).subject == "auth0|alice"
    verifier.close()
    with pytest.raises(KeysUnavailableError):
        await AnyLoopVerifier(verifier).verify(served.token())
