from __future__ import annotations

import copy
import math
import pickle
import sys
import time
from typing import Any

import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

from jwks_guard import RemovedKeyError, RevokedKeyError, TokenVerifier, VerifiedToken
from jwks_guard.asgi import JWKSGuardMiddleware
from jwks_guard.testing import FakeToken, LocalTenant, fake_token
from tests.process.programs import run_to_end

LIGHT = """
import sys
from jwks_guard.testing import fake_token
fake_token()
heavy = {"uvicorn", "starlette", "jwt", "jwks_guard.testing.tenant", "jwks_guard.testing.keys"}
print(sorted(heavy & set(sys.modules)))
"""


@pytest.fixture
def issuer() -> LocalTenant:
    return LocalTenant(in_process=True, algorithm="ES256")


def verifier_of(tenant: LocalTenant, kind: type[TokenVerifier] = TokenVerifier) -> TokenVerifier:
    return kind(
        tenant.issuer,
        tenant.audience,
        http_client=lambda: httpx.AsyncClient(transport=tenant.transport),
    )


async def test_it_has_the_claims_and_header_of_a_token_that_the_tenant_issues(
    issuer: LocalTenant,
) -> None:
    async with issuer, verifier_of(issuer) as verifier:
        for shape in ({}, {"permissions": ["read:things"]}, {"scope": None, "sub": "auth0|bob"}):
            real = await verifier.verify(issuer.token(**shape))
            fake = fake_token(**shape)
            own = {"iat", "exp", "azp"}
            assert fake.claims.keys() == real.claims.keys()
            assert {**fake.claims, **dict.fromkeys(own)} == {**real.claims, **dict.fromkeys(own)}
            assert fake.header.keys() == real.header.keys()


def test_it_lasts_a_day_from_now_unless_a_lifetime_is_given() -> None:
    before = math.floor(time.time())
    token, ended = fake_token(), fake_token(lifetime=-60)
    after = time.time()
    assert before <= token.claims["iat"] <= after
    assert token.expires_at == token.claims["iat"] + 86_400
    assert ended.expires_at is not None
    assert ended.expires_at < after


def test_arguments_are_what_a_handler_reads() -> None:
    token = fake_token(sub="auth0|bob", scope="a b", permissions=("c",), azp="web", kid="k1")
    assert isinstance(token, VerifiedToken)
    assert (token.subject, token.client_id, token.kid) == ("auth0|bob", "web", "k1")
    assert token.scopes == {"a", "b"}
    assert token.permissions == {"c"}


def test_every_claim_and_header_parameter_can_be_replaced_added_and_dropped() -> None:
    plan: dict[str, Any] = {"https://acme.com/plan": "gold"}
    token = fake_token(
        iss="https://other.test/",
        exp=5,
        aud=None,
        claims={"https://acme.com/roles": ("admin",), "azp": None},
        header={"typ": "at+jwt", "kid": None},
        **plan,
    )
    assert dict(token.claims) == {
        "iss": "https://other.test/",
        "sub": "auth0|alice",
        "iat": token.claims["iat"],
        "exp": 5,
        "scope": "read:things",
        "https://acme.com/roles": ("admin",),
        "https://acme.com/plan": "gold",
    }
    assert dict(token.header) == {"alg": "RS256", "typ": "at+jwt"}
    assert token.kid == ""


def test_it_does_not_change_with_what_it_was_made_of() -> None:
    roles = ["user"]
    token = fake_token(claims={"https://acme.com/roles": roles})
    roles.append("admin")
    assert token.claims["https://acme.com/roles"] == ("user",)


@pytest.mark.parametrize("value", [{"a"}, object(), math.nan])
def test_claim_that_no_token_can_carry_is_an_error(value: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        fake_token(roles=value)


def test_it_says_that_nobody_verified_it_also_when_copied_or_pickled() -> None:
    token = fake_token()
    for each in (token, copy.copy(token), copy.deepcopy(token), pickle.loads(pickle.dumps(token))):
        assert isinstance(each, FakeToken)
        assert repr(each) == "<FakeToken kid='fake-key', not verified>"
        assert each == token


async def test_no_verifier_takes_it_for_a_token_that_it_accepted(issuer: LocalTenant) -> None:
    """Also with the kid of a trusted key and all claims of a token that was accepted."""
    async with issuer, verifier_of(issuer) as verifier:
        kid = issuer.key().kid
        real = await verifier.verify(issuer.token())
        fake = fake_token(claims=real.to_dict(), header=dict(real.header))
        assert fake == real
        assert verifier.remaining(real) > 0
        for each in (fake, pickle.loads(pickle.dumps(fake))):
            with pytest.raises(RemovedKeyError):
                verifier.remaining(each)
        await verifier.distrust(kid, reason="leaked")
        with pytest.raises(RevokedKeyError):
            verifier.remaining(fake)


class Careless(TokenVerifier):
    """A verifier whose author lets it accept a fake token of a trusted key, whatever is sent."""

    async def verify(self, compact: str | bytes) -> VerifiedToken:
        (kid, *_) = self.health().kids
        return fake_token(iss=self.issuer, kid=kid)


async def test_guarded_websocket_is_not_accepted_with_it(issuer: LocalTenant) -> None:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    async def accept(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})

    headers = [(b"authorization", b"Bearer a.b.c")]
    async with issuer, verifier_of(issuer, Careless) as verifier:
        guarded = JWKSGuardMiddleware(accept, verifier=verifier)
        await guarded({"type": "websocket", "path": "/", "headers": headers}, receive, send)
    assert [message["type"] for message in sent] == ["websocket.close"]


def test_it_loads_neither_the_tenant_nor_a_server() -> None:
    run = run_to_end([sys.executable, "-c", LIGHT])
    assert (run.returncode, run.stdout) == (0, "[]\n")
