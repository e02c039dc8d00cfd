from __future__ import annotations

import asyncio
import gc
import socket
import sys
import threading
import time
from contextlib import suppress
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from jwks_guard import testing
from jwks_guard.errors import ConfigurationError
from jwks_guard.testing import DISCOVERY_PATH, JWKS_PATH, LocalTenant, ManualClock
from tests.support import PATIENCE


def verified(tenant: LocalTenant, compact: str) -> dict[str, Any]:
    """The claims after a check by PyJWT against what the tenant publishes."""
    kid = jwt.get_unverified_header(compact)["kid"]
    published = jwt.PyJWKSet.from_dict(tenant.jwks())[kid]
    claims: dict[str, Any] = jwt.decode(
        compact,
        published,
        audience=tenant.audience,
        issuer=tenant.issuer,
        options={"verify_exp": False, "verify_iat": False},
    )
    return claims


def kids(tenant: LocalTenant) -> list[str]:
    return [jwk["kid"] for jwk in tenant.jwks()["keys"]]


@pytest.fixture
def local(clock: ManualClock) -> LocalTenant:
    tenant = LocalTenant(in_process=True, algorithm="ES256", clock=clock)
    tenant.start()
    return tenant


def test_served_tenant_is_its_own_issuer_on_a_free_loopback_port() -> None:
    with LocalTenant() as tenant, LocalTenant() as other:
        assert tenant.issuer.startswith("http://127.0.0.1:")
        assert tenant.issuer.endswith("/")
        assert tenant.issuer != other.issuer
        assert tenant.jwks_uri == tenant.issuer + ".well-known/jwks.json"
        assert tenant.management_audience == tenant.issuer + "api/v2/"
        assert httpx.get(tenant.jwks_uri, trust_env=False).json() == tenant.jwks()


def test_issuer_can_be_chosen_so_that_two_tenants_live_in_one_process() -> None:
    with LocalTenant(in_process=True, issuer="https://other.test/", algorithm="ES256") as tenant:
        assert tenant.issuer == "https://other.test/"
        assert tenant.jwks_uri == "https://other.test/.well-known/jwks.json"
    with LocalTenant(in_process=True, algorithm="ES256") as tenant:
        assert tenant.issuer == "https://tenant.test/"


def test_two_tenants_share_no_key() -> None:
    with LocalTenant(in_process=True) as one, LocalTenant(in_process=True) as other:
        thumbprints = {key.thumbprint for key in (*one.signing_keys, *other.signing_keys)}
    assert len(thumbprints) == 4


@pytest.mark.parametrize("audience", ["", [], ["https://api.test", ""]])
def test_audience_that_is_empty_is_refused(audience: str | list[str]) -> None:
    with pytest.raises(ConfigurationError, match="audience: write at least one"):
        LocalTenant(audience=audience)


def test_issuer_of_other_letters_is_refused_with_what_to_write() -> None:
    with pytest.raises(ConfigurationError, match="xn--"):
        LocalTenant(issuer="https://b\u00fccher.test/")


@pytest.mark.parametrize("issuer", ["https://tenant.test", "tenant.test/", "httpx://tenant.test/"])
def test_issuer_without_scheme_or_slash_is_refused(issuer: str) -> None:
    with pytest.raises(ConfigurationError, match="slash"):
        LocalTenant(issuer=issuer)


def test_unknown_algorithm_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigurationError, match="RS256"):
        LocalTenant(algorithm="HS256")


def test_tenant_that_was_not_started_says_so() -> None:
    with pytest.raises(RuntimeError, match="enter it"):
        LocalTenant().token()


def test_served_tenant_without_a_server_says_how_to_get_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "jwks_guard.testing.server", raising=False)
    monkeypatch.setitem(sys.modules, "uvicorn", None)  # as if it were not installed
    with pytest.raises(ConfigurationError, match=r"jwks-guard\[testing\]"):
        LocalTenant().start()
    with LocalTenant(in_process=True, algorithm="ES256") as tenant:
        assert len(kids(tenant)) == 2


def test_taken_port_is_an_error_of_the_start() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        tenant = LocalTenant(port=taken.getsockname()[1])
        with pytest.raises(OSError, match="in use"):
            tenant.start()


def test_stopped_tenant_refuses_connections_and_comes_back_as_the_same() -> None:
    tenant = LocalTenant()
    tenant.start()
    uri, keys = tenant.jwks_uri, tenant.jwks()
    tenant.stop()
    with pytest.raises(httpx.ConnectError):
        httpx.get(uri, trust_env=False)
    with tenant:
        assert tenant.jwks_uri == uri
        assert httpx.get(uri, trust_env=False).json() == keys


async def test_tenant_serves_while_the_loop_that_started_it_is_blocked() -> None:
    async with LocalTenant() as tenant:
        fetched: list[int] = []

        def fetch() -> None:
            fetched.append(httpx.get(tenant.jwks_uri, trust_env=False).status_code)

        thread = threading.Thread(target=fetch)
        thread.start()
        thread.join(10)  # blocks this loop
        assert fetched == [200]


def test_tenant_serves_after_the_loop_that_started_it_has_closed() -> None:
    async def start() -> LocalTenant:
        return await LocalTenant().__aenter__()

    tenant = asyncio.run(start())
    assert httpx.get(tenant.jwks_uri, trust_env=False).status_code == 200
    asyncio.run(tenant.__aexit__())


def test_request_log_counts_by_path_and_forgets_on_clear() -> None:
    with LocalTenant() as tenant:
        for _ in range(2):
            httpx.get(tenant.jwks_uri, trust_env=False)
        httpx.get(tenant.issuer + DISCOVERY_PATH[1:], trust_env=False)
        assert tenant.requests.count() == 2
        assert tenant.requests.count(DISCOVERY_PATH) == 1
        assert list(tenant.requests) == [
            ("GET", JWKS_PATH),
            ("GET", JWKS_PATH),
            ("GET", DISCOVERY_PATH),
        ]
        tenant.requests.clear()
        assert len(tenant.requests) == 0


def test_token_has_the_claims_and_the_size_of_an_auth0_access_token(clock: ManualClock) -> None:
    with LocalTenant(in_process=True, clock=clock) as tenant:
        compact = tenant.token(sub="auth0|bob", scope="read:a write:a", permissions=["read:a"])
        assert verified(tenant, compact) == {
            "iss": "https://tenant.test/",
            "sub": "auth0|bob",
            "aud": ["https://api.local.test", "https://tenant.test/userinfo"],
            "iat": 1_750_000_000,
            "exp": 1_750_086_400,
            "scope": "read:a write:a",
            "azp": tenant.client_id,
            "permissions": ["read:a"],
        }
        assert jwt.get_unverified_header(compact) == {
            "alg": "RS256",
            "typ": "JWT",
            "kid": tenant.key("current").kid,
        }
        assert 700 <= len(compact) <= 900


def test_claims_and_header_are_laid_over_the_usual_ones_and_none_drops(local: LocalTenant) -> None:
    compact = local.token(
        claims={"azp": None, "org_id": "org_1", "sub": 7},
        header={"typ": "at+jwt", "jku": "https://evil.test/", "kid": None},
    )
    claims = jwt.decode(compact, options={"verify_signature": False, "verify_sub": False})
    assert "azp" not in claims
    assert (claims["org_id"], claims["sub"]) == ("org_1", 7)
    assert jwt.get_unverified_header(compact)["typ"] == "at+jwt"
    assert "kid" not in jwt.get_unverified_header(compact)


def test_token_is_for_the_audience_and_lifetime_it_was_asked_for(local: LocalTenant) -> None:
    one = verified(local, local.token(audience=[local.audience], lifetime=-60, scope=None))
    assert one["aud"] == [local.audience]
    assert one["exp"] - one["iat"] == -60
    assert "scope" not in one
    assert "permissions" not in one


def test_token_is_signed_by_the_key_that_is_named(local: LocalTenant) -> None:
    first = local.key().kid
    local.rotate()
    for selector in ("current", "next", "previous", first):
        compact = local.token(key=selector)
        assert jwt.get_unverified_header(compact)["kid"] == local.key(selector).kid
        assert verified(local, compact)["sub"] == "auth0|alice"
    assert local.key("previous").kid == first


def test_token_can_name_another_kid_than_that_of_its_key(local: LocalTenant) -> None:
    compact = local.token(key="next", kid=local.key("current").kid)
    with pytest.raises(jwt.InvalidSignatureError):
        verified(local, compact)


def test_revoked_key_still_signs_for_whoever_kept_it(local: LocalTenant) -> None:
    old = local.key().kid
    local.rotate()
    local.revoke(old)
    assert jwt.get_unverified_header(local.token(key="revoked"))["kid"] == old


def test_no_key_of_that_name_is_a_lookup_error(local: LocalTenant) -> None:
    for selector in ("previous", "no such kid"):
        with pytest.raises(LookupError, match="no signing key"):
            local.token(key=selector)


def test_forged_token_names_a_published_key_that_did_not_sign_it(local: LocalTenant) -> None:
    compact = local.forged_token(sub="auth0|mallory")
    assert jwt.get_unverified_header(compact)["kid"] == local.key().kid
    with pytest.raises(jwt.InvalidSignatureError):
        verified(local, compact)
    assert jwt.get_unverified_header(local.forged_token(kid="made-up"))["kid"] == "made-up"


def test_rotate_moves_every_key_one_place_on(local: LocalTenant, clock: ManualClock) -> None:
    first, second = local.key("current"), local.key("next")
    clock.advance(100)
    third = local.rotate()
    assert kids(local) == [first.kid, second.kid, third]
    current, following, previous = local.signing_keys
    assert current == replace(second, status="current", current_since=clock.time())
    assert (following.kid, following.next) == (third, True)
    assert previous == replace(first, status="previous", current_until=clock.time())


def test_keys_are_listed_with_the_latest_previous_one_first(local: LocalTenant) -> None:
    first = local.key().kid
    local.rotate()
    second = local.key().kid
    local.rotate()
    assert [key.status for key in local.signing_keys] == ["current", "next", "previous", "previous"]
    assert [key.kid for key in local.signing_keys[2:]] == [second, first]
    assert local.key("previous").kid == second


def test_revoke_withdraws_a_previous_key_for_good(local: LocalTenant, clock: ManualClock) -> None:
    old = local.key().kid
    local.rotate()
    clock.advance(5)
    local.revoke(old)
    assert old not in kids(local)
    assert local.key(old).revoked
    assert local.key(old).revoked_at == clock.time()
    with pytest.raises(ValueError, match="revoked key"):
        local.revoke(old)


def test_current_next_and_unknown_keys_cannot_be_revoked(local: LocalTenant) -> None:
    for status in ("current", "next"):
        with pytest.raises(ValueError, match=status):
            local.revoke(local.key(status).kid)
    with pytest.raises(LookupError):
        local.revoke("current")  # a role is not a kid here
    assert len(kids(local)) == 2


def test_removed_key_is_withdrawn_but_signs_on(local: LocalTenant) -> None:
    kid = local.key().kid
    local.remove(kid)
    assert kid not in kids(local)
    assert local.key("current").kid == kid


def test_any_jwk_document_can_be_published(local: LocalTenant) -> None:
    other = local.new_key(algorithm="EdDSA", kid="stranger")
    local.publish(other)
    local.publish({"kty": "oct", "k": "c2VjcmV0"})
    assert local.jwks()["keys"][2:] == [other.jwk, {"kty": "oct", "k": "c2VjcmV0"}]
    assert verified(local, local.token(key=other))["iss"] == local.issuer


def test_swapped_key_is_other_material_under_the_same_kid(local: LocalTenant) -> None:
    old = local.key("current")
    new = local.swap_key(old.kid)
    assert (new.kid, new.status) == (old.kid, "current")
    assert new.thumbprint != old.thumbprint
    assert kids(local) == [old.kid, local.key("next").kid]
    assert verified(local, local.token())["iss"] == local.issuer
    with pytest.raises(jwt.InvalidSignatureError):
        verified(local, local.token(key=old))


def test_published_set_cannot_be_changed_through_what_was_handed_out(local: LocalTenant) -> None:
    local.jwks()["keys"].clear()
    assert len(kids(local)) == 2


@pytest.mark.parametrize(
    ("algorithm", "family"),
    [
        ("RS512", rsa.RSAPrivateKey),
        ("PS256", rsa.RSAPrivateKey),
        ("ES256", ec.EllipticCurvePrivateKey),
        ("ES512", ec.EllipticCurvePrivateKey),
        ("EdDSA", ed25519.Ed25519PrivateKey),
    ],
)
def test_tenant_signs_with_the_algorithm_it_was_given(algorithm: str, family: type) -> None:
    with LocalTenant(in_process=True, algorithm=algorithm) as tenant:
        assert isinstance(tenant.key().private_key, family)
        assert tenant.jwks()["keys"][0]["alg"] == algorithm
        compact = tenant.token()
        assert jwt.get_unverified_header(compact)["alg"] == algorithm
        assert verified(tenant, compact)["iss"] == tenant.issuer


def test_keys_rotated_by_many_threads_keep_one_current_and_one_next(local: LocalTenant) -> None:
    threads = [threading.Thread(target=local.rotate) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    statuses = [key.status for key in local.signing_keys]
    assert statuses == ["current", "next"] + ["previous"] * 8
    assert sorted(kids(local)) == sorted(key.kid for key in local.signing_keys)


def test_private_keys_and_secrets_are_in_no_repr(local: LocalTenant) -> None:
    shown = repr(local.key()) + repr(local.signing_keys) + repr(local)
    assert "private_key" not in shown
    assert local.client_secret not in shown


def test_manual_clock_set_back_keeps_its_monotonic_side() -> None:
    clock = ManualClock(time=100.0)
    before = clock.monotonic()
    clock.advance(30)
    clock.set_back(20)
    assert clock.time() == 110.0
    assert clock.monotonic() == before + 30


def test_package_names_what_it_does_not_have() -> None:
    with pytest.raises(AttributeError, match="Tenant2"):
        testing.Tenant2  # noqa: B018 - the missing name is the test


def test_tenant_that_stops_leaves_no_connection_open_that_it_has_just_accepted() -> None:
    for _ in range(10):
        opened: list[socket.socket] = []
        with LocalTenant(algorithm="ES256") as tenant:
            at = urlsplit(tenant.issuer)

            def connect(address: tuple[str, int], opened: list[socket.socket]) -> None:
                with suppress(OSError):  # until it has stopped
                    while len(opened) < 1000:
                        opened.append(socket.create_connection(address, PATIENCE))

            assert at.hostname is not None
            assert at.port is not None
            client = threading.Thread(target=connect, args=((at.hostname, at.port), opened))
            client.start()
            while not opened:
                time.sleep(0.001)
        client.join(PATIENCE)
        for connection in opened:
            connection.close()
        gc.collect()  # a connection that was left open is a warning, and that an error
