"""Issuers and tokens of every shape: names, addresses, audiences, clients, bindings, algorithms."""

from __future__ import annotations

import logging
from typing import Any

import httpx
import pytest

from jwks_guard import (
    AlgorithmNotAllowedError,
    BindingRequiredError,
    ConfigurationError,
    InvalidClaimError,
    InvalidTokenError,
    KeyStore,
    KeysUnavailableError,
    SyncTokenVerifier,
    TokenVerifier,
)
from tests.support import HandClock
from tests.verify.issuer import AUDIENCE, JWKS, Issuer, jwk_of, new_key

KEY = new_key()


@pytest.fixture
def issuer(clock: HandClock) -> Issuer:
    return Issuer(clock, [KEY.jwk])


# --- names ---


@pytest.mark.parametrize(
    "name",
    [
        *("accounts.google.com", "wso2.org/products/am", "my-auth-service", "urn:acme:sts"),
        *("kubernetes/serviceaccount", "http://adfs.corp.test/adfs/services/trust", "a b", "["),
    ],
)
async def test_issuer_may_be_any_string_where_jwks_uri_is_given(issuer: Issuer, name: str) -> None:
    issuer.issuer = name
    verifier = issuer.verifier(jwks_uri=JWKS)
    assert (await verifier.verify(issuer.token(KEY))).issuer == name
    with pytest.raises(InvalidClaimError):
        await verifier.verify(issuer.token(KEY, iss=name + "x"))
    assert [str(request.url) for request in issuer.requests] == [JWKS]
    if name != "[":
        assert SyncTokenVerifier(name, AUDIENCE, jwks_uri=JWKS).issuer == name
    with pytest.raises(
        ConfigurationError, match=r"^issuer can't be used for discovery: .*jwks_uri"
    ):
        TokenVerifier(name, AUDIENCE)


async def test_slash_that_is_missing_in_the_configuration_is_named(issuer: Issuer) -> None:
    configured, found = "https://issuer.test", "https://issuer.test/"
    client = httpx.AsyncClient(transport=httpx.MockTransport(issuer))
    options: dict[str, Any] = {
        "http_client": client,
        "background": False,
        "clock": issuer.clock,
    }
    discovering = TokenVerifier(configured, AUDIENCE, **options)
    with pytest.raises(KeysUnavailableError) as failed:
        await discovering.verify(issuer.token(KEY))
    assert f"configured {configured!r}, the issuer says {found!r}: add the slash" in str(
        failed.value
    )
    addressed = TokenVerifier(configured, AUDIENCE, jwks_uri=JWKS, **options)
    with pytest.raises(InvalidClaimError) as refused:
        await addressed.verify(issuer.token(KEY))
    assert f"{found!r}, configured is {configured!r}: add the slash" in str(refused.value)


# --- addresses ---


async def test_plain_http_is_spoken_with_the_hosts_that_are_named_and_one_warning_says_so(
    issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    issuer.issuer = "http://keycloak:8080/realms/a"
    verifier = issuer.verifier(allow_http=["keycloak"])
    for _ in range(3):
        await verifier.verify(issuer.token(KEY, jti=str(_)))
    warnings = [each for each in caplog.records if each.levelno == logging.WARNING]
    assert ["plain http from keycloak" in each.getMessage() for each in warnings] == [True]
    with pytest.raises(ConfigurationError, match=r"allow_http=\[\.\.\.\]"):
        issuer.verifier()
    with pytest.raises(ConfigurationError, match="it is not https"):
        issuer.verifier(allow_http=["other"])


async def test_no_warning_is_logged_without_plain_http(
    issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    await issuer.verifier().verify(issuer.token(KEY))
    assert not [each for each in caplog.records if each.levelno >= logging.WARNING]


# --- audiences ---


async def test_two_apis_of_one_issuer_share_its_keys_and_not_their_tokens(issuer: Issuer) -> None:
    client = httpx.AsyncClient(transport=httpx.MockTransport(issuer))
    store = KeyStore(issuer.issuer, http_client=client, background=False, clock=issuer.clock)
    one = issuer.verifier("https://one.test", keys=store)
    two = issuer.verifier("https://two.test", keys=store)
    for_one = issuer.token(KEY, aud="https://one.test")
    for_both = issuer.token(KEY, aud=["https://one.test", "https://two.test"])
    async with store:
        for compact in (for_one, for_both):
            await one.verify(compact)
        await two.verify(for_both)
        with pytest.raises(InvalidClaimError, match="does not name this API"):
            await two.verify(for_one)
        await two.distrust(KEY.kid, reason="leaked", force=True)
        for verifier in (one, two):
            with pytest.raises(InvalidTokenError):
                await verifier.verify(for_both)
    assert [str(request.url) for request in issuer.requests].count(JWKS) == 1


async def test_one_api_with_two_audiences_takes_tokens_for_either(issuer: Issuer) -> None:
    verifier = issuer.verifier(["https://old.test", "https://new.test"])
    for audience in ("https://old.test", "https://new.test"):
        await verifier.verify(issuer.token(KEY, aud=audience))
    with pytest.raises(InvalidClaimError):
        await verifier.verify(issuer.token(KEY))


async def test_tokens_without_audience_are_taken_for_the_clients_that_are_named(
    issuer: Issuer,
) -> None:
    verifier = issuer.verifier(None, client_ids=["app-1", "app-2"])
    compact = issuer.token(KEY, aud=..., client_id="app-1", token_use="access")
    assert (await verifier.verify(compact)).client_id == "app-1"
    for claims in (
        {"aud": ..., "client_id": "app-9", "token_use": "access"},
        {"aud": ..., "client_id": "app-1", "token_use": "id"},
        {"aud": ..., "token_use": "access"},
        {"aud": "app-1", "token_use": "id"},
        {"aud": "app-1", "client_id": "app-1", "token_use": "access"},
    ):
        with pytest.raises(InvalidTokenError):
            await verifier.verify(issuer.token(KEY, **claims))
    for options in ({}, {"client_ids": None}):
        with pytest.raises(
            ConfigurationError, match=r"^audience is None: .* client_ids=\[\.\.\.\]"
        ):
            issuer.verifier(None, **options)


async def test_clients_narrow_an_audience(issuer: Issuer) -> None:
    verifier = issuer.verifier(client_ids=["app-1"])
    await verifier.verify(issuer.token(KEY, azp="app-1"))
    for claims in (
        {},
        {"azp": "app-2"},
        {"azp": "app-1", "client_id": "app-2"},
        {"azp": ["app-1"]},
    ):
        with pytest.raises(InvalidTokenError):
            await verifier.verify(issuer.token(KEY, **claims))


# --- tokens that are bound to a key ---

BOUND = {"cnf": {"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}}


async def test_bound_token_is_refused_also_where_another_verifier_has_accepted_it(
    issuer: Issuer,
) -> None:
    behind_gateway = issuer.verifier(bindings="checked upstream")
    compact = issuer.token(KEY, **BOUND)
    for _ in range(2):
        assert (await behind_gateway.verify(compact)).claims["cnf"]["jkt"] == BOUND["cnf"]["jkt"]
    direct = issuer.verifier(keys=behind_gateway.keys)
    for _ in range(3):
        with pytest.raises(BindingRequiredError, match="DPoP proof") as refusal:
            await direct.verify(compact)
        assert (refusal.value.http_status, refusal.value.code) == (401, "binding_required")
        assert refusal.value.kid == KEY.kid


async def test_binding_is_a_reason_only_where_all_else_is_right(issuer: Issuer) -> None:
    with pytest.raises(InvalidClaimError):
        await issuer.verifier().verify(issuer.token(KEY, aud="https://other.test", **BOUND))


# --- algorithms ---


@pytest.mark.parametrize(
    "algorithm", ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"]
)
async def test_every_asymmetric_algorithm_is_allowed_and_bound_to_its_key(
    clock: HandClock, algorithm: str
) -> None:
    key = new_key("k1", algorithm)
    issuer = Issuer(clock, [key.jwk])
    await issuer.verifier().verify(issuer.token(key))
    with pytest.raises(AlgorithmNotAllowedError):
        await issuer.verifier().verify(issuer.token(key, {"alg": "ES512"}))
    unbound = Issuer(clock, [jwk_of(key, alg=...)])
    for named in ([algorithm], ["RS256", "ES512", algorithm]):
        await unbound.verifier(algorithms=named).verify(unbound.token(key))
    if algorithm in ("RS256", "ES256", "ES384", "EdDSA"):
        await unbound.verifier().verify(unbound.token(key))
    else:
        with pytest.raises(AlgorithmNotAllowedError):
            await unbound.verifier().verify(unbound.token(key))


@pytest.mark.parametrize("published", ["EdDSA", "Ed25519", ...])
@pytest.mark.parametrize("header", ["EdDSA", "Ed25519"])
@pytest.mark.parametrize("allowed", [["EdDSA"], ["Ed25519"], None])
async def test_eddsa_goes_by_two_names(
    clock: HandClock, published: Any, header: str, allowed: list[str] | None
) -> None:
    key = new_key("k1", "EdDSA")
    issuer = Issuer(clock, [jwk_of(key, alg=published)])
    options = {} if allowed is None else {"algorithms": allowed}
    await issuer.verifier(**options).verify(issuer.token(key, {"alg": header}))
