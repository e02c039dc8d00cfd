"""RequestGuard and its sync twin, without a framework."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from jwks_guard import (
    Authenticated,
    ConfigurationError,
    FromCookie,
    FromHeader,
    InsufficientScopeError,
    InvalidRequestError,
    KeysUnavailableError,
    LookUpThrottledError,
    MalformedTokenError,
    MissingClaimError,
    MissingCredentialsError,
    Refusal,
    RequestGuard,
    RequestRefusedError,
    RevokedKeyError,
    SyncRequestGuard,
    SyncTokenVerifier,
    TokenVerifier,
    VerifiedToken,
    problem_json,
)
from jwks_guard.claims import equals
from jwks_guard.testing import LocalTenant

GOOD = {"Authorization": "Bearer good"}


def token(**claims: Any) -> VerifiedToken:
    return VerifiedToken({"kid": "k1"}, claims, None, math.inf)


@dataclass
class StubVerifier:
    """Accepts `good`, and raises what it is given for other tokens."""

    errors: Mapping[bytes, Exception] = field(default_factory=dict)

    def judged(self, compact: str | bytes) -> VerifiedToken:
        assert isinstance(compact, bytes)
        if compact in self.errors:
            raise self.errors[compact]
        if compact != b"good":
            raise MalformedTokenError("three segments are needed")
        return token(scope="read:things", permissions=["delete:things"])

    async def verify(self, compact: str | bytes) -> VerifiedToken:
        return self.judged(compact)


class SyncStub(StubVerifier):
    def verify(self, compact: str | bytes) -> VerifiedToken:  # type: ignore[override]
        return self.judged(compact)


class Both:
    """Asks a RequestGuard and a SyncRequestGuard, and sees that they say the same."""

    def __init__(self, errors: Mapping[bytes, Exception] | None = None, **options: Any) -> None:
        self.one = RequestGuard(StubVerifier(errors or {}), **options)
        self.other = SyncRequestGuard(SyncStub(errors or {}), **options)

    async def authenticate(
        self, headers: Any, method: str = "GET", url: str = "https://api"
    ) -> Authenticated:
        sent: Any = {"method": method, "url": url, "headers": headers}
        try:
            done = await self.one.authenticate(**sent)
        except RequestRefusedError as error:
            assert self._refusal_of_other(type(error), sent) == error.refusal  # noqa: PT017
            raise
        assert self.other.authenticate(**sent) == done
        return done

    def _refusal_of_other(self, kind: type[RequestRefusedError], sent: Any) -> Refusal:
        with pytest.raises(kind) as caught:
            self.other.authenticate(**sent)
        return caught.value.refusal

    async def refusal(self, headers: Any, **request: str) -> Refusal:
        with pytest.raises(RequestRefusedError) as caught:
            await self.authenticate(headers, **request)
        return caught.value.refusal


@pytest.mark.parametrize(
    "headers",
    [
        GOOD,
        {"authorization": "bearer good"},
        [("Authorization", "Bearer good")],
        [(b"host", b"api"), (b"AUTHORIZATION", b"Bearer good")],
        iter([("Authorization", b"Bearer good")]),
    ],
)
async def test_headers_may_be_a_mapping_or_pairs_of_text_or_bytes(headers: Any) -> None:
    done = await RequestGuard(StubVerifier()).authenticate(
        method="GET", url="https://api", headers=headers
    )
    assert done.token is not None
    assert done.token.scopes == {"read:things"}
    assert done.response_headers == ()


@pytest.mark.parametrize(
    ("headers", "status", "challenge", "error"),
    [
        ({}, 401, "Bearer", MissingCredentialsError),
        ({"Authorization": "Basic dTpw"}, 401, "Bearer", MissingCredentialsError),
        ({"Authorization": "Bearer good x"}, 400, "invalid_request", InvalidRequestError),
        ({"Authorization": "Bearer ü"}, 400, "invalid_request", InvalidRequestError),
        ({"Authorization": "Bearer \u20ac"}, 400, "invalid_request", InvalidRequestError),
        ([*GOOD.items(), *GOOD.items()], 400, "invalid_request", InvalidRequestError),
        ({"Authorization": "Bearer junk"}, 401, "invalid_token", MalformedTokenError),
        ({"Authorization": "Bearer gone"}, 401, "invalid_token", RevokedKeyError),
        ({"Authorization": "Bearer down"}, 503, None, KeysUnavailableError),
        ({"Authorization": "Bearer many"}, 429, None, LookUpThrottledError),
        ({"Authorization": "Bearer fault"}, 503, None, KeysUnavailableError),
    ],
)
async def test_refused_request_raises_with_its_answer(
    headers: Any, status: int, challenge: str | None, error: type[Exception]
) -> None:
    guard = Both(
        {
            b"gone": RevokedKeyError("distrusted"),
            b"down": KeysUnavailableError("no keys", 7),
            b"many": LookUpThrottledError("too many", 7),
            b"fault": ConfigurationError("the journal can't be read"),
        }
    )
    with pytest.raises(error) as caught:
        await guard.authenticate(headers)
    assert isinstance(caught.value, RequestRefusedError)
    refusal = caught.value.refusal
    assert refusal.status == status == caught.value.http_status
    assert challenge is None or challenge in refusal.fields["www-authenticate"]
    assert (status in (429, 503)) is ("retry-after" in refusal.fields)
    assert json.loads(refusal.body).keys() == {"error", "error_description"}


async def test_error_of_the_service_is_logged_once_and_is_the_cause(
    caplog: pytest.LogCaptureFixture,
) -> None:
    guard = RequestGuard(StubVerifier({b"fault": ConfigurationError("the journal is unreadable")}))
    for _ in range(3):
        with pytest.raises(KeysUnavailableError) as caught:
            await guard.authenticate(
                method="GET", url="", headers={"Authorization": "Bearer fault"}
            )
        assert isinstance(caught.value.__cause__, ConfigurationError)
        assert b"journal" not in caught.value.refusal.body
    logged = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert [each.getMessage() for each in logged] == [
        "tokens are refused with 503: the journal is unreadable"
    ]


async def test_error_that_is_no_refusal_comes_out_as_it_is() -> None:
    guard = RequestGuard(StubVerifier({b"bug": ZeroDivisionError("a bug")}))
    with pytest.raises(ZeroDivisionError):
        await guard.authenticate(method="GET", url="", headers={"Authorization": "Bearer bug"})


# --- what is required ---


@pytest.mark.parametrize(
    ("options", "lacking"),
    [
        ({"required_scopes": ["read:things"]}, None),
        ({"any_scopes": ["admin", "read:things"]}, None),
        ({"required_permissions": ["delete:things"]}, None),
        ({"required_scopes": ["read:things", "write:things"]}, 'scope="read:things write:things"'),
        ({"any_scopes": ["admin", "write:things"]}, 'scope="admin"'),
        ({"required_permissions": ["read:things"]}, "insufficient_scope"),
    ],
)
async def test_token_needs_what_is_required(options: Any, lacking: str | None) -> None:
    if lacking is None:
        assert (await Both(**options).authenticate(GOOD)).token is not None
    else:
        refusal = await Both(**options).refusal(GOOD)
        assert refusal.status == 403
        assert lacking in refusal.fields["www-authenticate"]


async def test_guard_that_requires_more_asks_for_both_and_leaves_the_first_as_it_was() -> None:
    guard = RequestGuard(StubVerifier(), any_scopes=["read:things", "admin"], realm="things")
    stricter = guard.requiring(any_scopes=["write:things"]).requiring(required_permissions=["x"])
    sent: Any = {"method": "GET", "url": "", "headers": GOOD}
    token = (await guard.authenticate(**sent)).token
    assert token is not None
    for each in (stricter, stricter.requiring()):
        with pytest.raises(InsufficientScopeError) as caught:
            each.check(token)
        assert 'realm="things"' in caught.value.refusal.fields["www-authenticate"]
    with pytest.raises(InsufficientScopeError):
        await stricter.authenticate(**sent)
    guard.check(token)
    with pytest.raises(MissingCredentialsError) as missing:
        guard.check(None)
    assert missing.value.refusal.fields["www-authenticate"] == 'Bearer realm="things"'
    other = VerifiedToken({}, {"scope": "write:things", "permissions": ["x"]}, None, math.inf)
    with pytest.raises(InsufficientScopeError):
        stricter.check(other)


async def test_claim_checks_are_made_for_each_guard_and_route() -> None:
    seen: list[Mapping[str, Any]] = []
    guard = RequestGuard(StubVerifier(), claim_checks=[seen.append])
    strict = guard.requiring(claim_checks=[equals("scope", "read:things"), equals("tier", "gold")])
    sent: Any = {"method": "GET", "url": "", "headers": GOOD}
    token = (await guard.authenticate(**sent)).token
    assert token is not None
    with pytest.raises(MissingClaimError) as caught:
        await strict.authenticate(**sent)
    assert caught.value.refusal.status == 401
    with pytest.raises(MissingClaimError):
        strict.check(token)
    assert len(seen) == 3
    with pytest.raises(TypeError):
        seen[0]["scope"] = "admin"  # type: ignore[index]


async def test_claim_check_that_returns_a_bool_lets_nobody_in(
    caplog: pytest.LogCaptureFixture,
) -> None:
    wrong: Any = lambda claims: True  # noqa: E731
    guard = RequestGuard(StubVerifier(), claim_checks=[wrong])
    for _ in range(2):
        with pytest.raises(KeysUnavailableError) as caught:
            await guard.authenticate(method="GET", url="", headers=GOOD)
        assert caught.value.refusal.status == 503
    with pytest.raises(KeysUnavailableError):
        guard.check(token())
    assert caplog.text.count("tokens are refused with 503") == 1


# --- optional ---


@pytest.mark.parametrize("headers", [{}, {"X-Other": "1"}, {"Cookie": "token=good"}])
async def test_request_without_a_token_may_be_anonymous(headers: dict[str, str]) -> None:
    assert (await Both(optional=True).authenticate(headers)).token is None
    assert (await Both(optional=True, required_scopes=["a"]).authenticate(headers)).token is None


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Authorization": "Basic dTpw"}, 401),
        ({"Authorization": "Bearer junk"}, 401),
        ({"Authorization": "Bearer"}, 400),
        ({"Authorization": ""}, 401),
    ],
)
async def test_bad_credentials_are_refused_where_none_are_needed(
    headers: dict[str, str], status: int
) -> None:
    assert (await Both(optional=True).refusal(headers)).status == status


# --- sources ---


async def test_cookie_from_another_origin_is_refused_with_403() -> None:
    guard = Both(token_from=FromCookie("token", origins=["https://app.acme.com"]))
    cookie = {"Cookie": "token=good"}
    assert (await guard.authenticate(cookie)).token is not None
    refusal = await guard.refusal({**cookie, "Origin": "https://evil.test"}, method="POST")
    assert refusal.status == 403
    assert "www-authenticate" not in refusal.fields
    assert (await guard.refusal(GOOD)).status == 401


async def test_two_tokens_are_a_400() -> None:
    guard = Both(token_from=[FromHeader(), FromHeader("X-Token")])
    assert (await guard.authenticate({"X-Token": "good"})).token is not None
    assert (await guard.refusal({**GOOD, "X-Token": "good"})).status == 400


async def test_function_is_given_what_the_framework_has() -> None:
    guard = RequestGuard(StubVerifier(), token_from=lambda request: request.native["token"])
    done = await guard.authenticate(method="GET", url="", headers={}, native={"token": "good"})
    assert done.token is not None


async def test_function_that_gives_no_token_is_a_503_and_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    wrong: Any = lambda _: 5  # noqa: E731
    assert (await Both(token_from=wrong).refusal({})).status == 503
    assert "it must give the token as str or bytes" in caplog.text


@pytest.mark.parametrize("more", [{}, {"required_scopes": ["read:things"]}])
async def test_guard_that_asks_for_more_lets_no_anonymous_request_in(more: Any) -> None:
    sent: Any = {"method": "GET", "url": "https://api"}
    guard = RequestGuard(StubVerifier(), optional=True)
    assert (await guard.authenticate(headers={}, **sent)).token is None
    with pytest.raises(MissingCredentialsError):
        await guard.requiring(**more).authenticate(headers={}, **sent)
    other = SyncRequestGuard(SyncStub(), optional=True)
    with pytest.raises(MissingCredentialsError):
        other.requiring(**more).authenticate(headers={}, **sent)
    assert (await guard.requiring(**more).authenticate(headers=GOOD, **sent)).token is not None
    assert (await guard.authenticate(headers={}, **sent)).token is None


@pytest.mark.parametrize("given", [None, True, {"sub": "alice"}, object()])
async def test_verifier_that_gives_anything_but_a_verified_token_lets_nobody_in(
    given: Any, caplog: pytest.LogCaptureFixture
) -> None:
    class Wrong(StubVerifier):
        async def verify(self, compact: str | bytes) -> VerifiedToken:
            result: VerifiedToken = given
            return result

    class SyncWrong:
        def verify(self, compact: str | bytes) -> VerifiedToken:
            result: VerifiedToken = given
            return result

    sent: Any = {"method": "GET", "url": "https://api", "headers": GOOD}
    with pytest.raises(KeysUnavailableError) as caught:
        await RequestGuard(Wrong()).authenticate(**sent)
    assert caught.value.refusal.status == 503
    with pytest.raises(KeysUnavailableError):
        SyncRequestGuard(SyncWrong()).authenticate(**sent)
    assert "has to give a VerifiedToken" in caplog.text


# --- how a refusal is worded ---


async def test_debug_errors_tell_the_code_and_the_message() -> None:
    said = json.loads((await Both(debug_errors=True).refusal({})).body)
    assert said["code"] == "missing_credentials"


async def test_refusal_can_be_worded_by_the_application() -> None:
    refusal = await Both(on_refusal=problem_json).refusal({})
    assert refusal.fields["content-type"] == "application/problem+json"
    seen: list[tuple[Refusal, RequestRefusedError]] = []

    def teapot(refusal: Refusal, error: RequestRefusedError) -> Refusal:
        seen.append((refusal, error))
        return Refusal(418, (), b"short and stout")

    guard = RequestGuard(StubVerifier(), on_refusal=teapot)
    with pytest.raises(MissingCredentialsError) as caught:
        await guard.authenticate(method="GET", url="", headers={})
    assert caught.value.refusal == Refusal(418, (), b"short and stout")
    assert [(each.status, error) for each, error in seen] == [(401, caught.value)]


@pytest.mark.parametrize("answer", [None, "no", b"", 401, {"status": 401}])
async def test_refusal_in_no_form_of_ours_is_answered_as_usual_and_logged(
    answer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    usual = await Both().refusal({})
    assert await Both(on_refusal=lambda *_: answer).refusal({}) == usual
    assert "on_refusal gave" in caplog.text


async def _async_answer(refusal: Refusal, _: RequestRefusedError) -> Refusal:
    return refusal


@pytest.mark.parametrize(
    "options",
    [
        {"optional": "false"},
        {"optional": 0},
        {"debug_errors": "false"},
        {"on_refusal": _async_answer},
        {"on_refusal": "problem_json"},
        {"required_scopes": iter(["read:things"])},
        {"realm": "größe"},
        {"required_scopes": "read:things"},
        {"token_from": []},
        {"resource_metadata": "http://api.test/metadata"},
        {"resource_metadata": "api"},
    ],
)
def test_what_can_not_be_meant_is_a_configuration_error(options: Any) -> None:
    with pytest.raises(ConfigurationError):
        RequestGuard(StubVerifier(), **options)


# --- with real verifiers ---


async def test_both_guards_of_a_real_tenant_accept_its_token_and_refuse_a_distrusted_key() -> None:
    async with LocalTenant(algorithm="ES256") as tenant:
        sent: Any = {"method": "GET", "url": "https://api"}
        headers = {"Authorization": f"Bearer {tenant.token()}"}
        async with TokenVerifier(tenant.issuer, tenant.audience) as verifier:
            guard = RequestGuard(verifier)
            assert (await guard.authenticate(headers=headers, **sent)).token is not None
            await verifier.distrust(tenant.key().kid, reason="leaked", force=True)
            with pytest.raises(RevokedKeyError) as caught:
                await guard.authenticate(headers=headers, **sent)
            assert caught.value.refusal.status == 401


def test_sync_guard_of_a_real_tenant_accepts_its_token() -> None:
    with (
        LocalTenant(algorithm="ES256") as tenant,
        SyncTokenVerifier(tenant.issuer, tenant.audience) as verifier,
    ):
        headers = {"Authorization": f"Bearer {tenant.token()}"}
        done = SyncRequestGuard(verifier).authenticate(method="GET", url="", headers=headers)
        assert done.token is not None


def test_guard_of_an_event_loop_takes_no_verifier_of_threads() -> None:
    verifier: Any = SyncTokenVerifier("https://issuer.test/", "https://api.test")
    with pytest.raises(ConfigurationError, match="make a TokenVerifier"):
        RequestGuard(verifier)


async def test_sync_guard_takes_no_verifier_that_has_to_be_awaited() -> None:
    verifier: Any = TokenVerifier("https://issuer.test/", "https://api.test")
    with pytest.raises(ConfigurationError, match="make a SyncTokenVerifier"):
        SyncRequestGuard(verifier)
