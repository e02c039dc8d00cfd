from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from jwks_guard import ConfigurationError
from jwks_guard.base.arguments import (
    require_addresses,
    require_count,
    require_issuer,
    require_jwks_uri,
    require_seconds,
    require_strings,
    require_text,
)

NAN, INFINITY = float("nan"), float("inf")


@pytest.mark.parametrize("value", [1, 0.5, 3600, 1e9])
def test_seconds_above_zero_pass(value: float) -> None:
    require_seconds("max_stale", value)
    require_seconds("leeway", value, positive=False)


def test_zero_seconds_pass_only_where_they_may() -> None:
    require_seconds("leeway", 0, positive=False)
    with pytest.raises(ConfigurationError, match=r"^max_stale must be .* seconds above 0\.$"):
        require_seconds("max_stale", 0)


@pytest.mark.parametrize("value", [-1, -0.001, NAN, INFINITY, -INFINITY, True, "60", None, 1j])
def test_what_is_no_number_of_seconds_is_refused_by_its_name(value: object) -> None:
    with pytest.raises(ConfigurationError, match=r"^leeway must be .* of at least 0\.$"):
        require_seconds("leeway", value, positive=False)


@pytest.mark.parametrize(("value", "minimum"), [(0, 0), (1, 1), (10_000, 0)])
def test_counts_from_their_minimum_pass(value: int, minimum: int) -> None:
    require_count("token_cache_size", value, minimum=minimum)


@pytest.mark.parametrize("value", [-1, 0, 1.0, "1", None, True])
def test_what_is_no_count_is_refused_by_its_name(value: object) -> None:
    with pytest.raises(ConfigurationError, match=r"^max_token_bytes must be an integer .* 1\.$"):
        require_count("max_token_bytes", value, minimum=1)


@pytest.mark.parametrize("value", ["", None, b"compromised", 7, "half a pair \ud800"])
def test_text_that_could_not_be_stored_is_refused_by_its_name(value: object) -> None:
    with pytest.raises(ConfigurationError, match=r"^reason must be a non-empty string\.$"):
        require_text("reason", value)


def test_text_in_any_script_passes() -> None:
    require_text("reason", "Schlüssel kompromittiert 🔑")


@pytest.mark.parametrize(
    "issuer",
    ["https://acme.eu.auth0.com/", "https://id.test", "http://127.0.0.1:8080/", "http://localhost"],
)
def test_issuers_pass(issuer: str) -> None:
    require_issuer(issuer)
    assert require_addresses(issuer, None, ()) == frozenset()


@pytest.mark.parametrize(
    "issuer",
    [
        *("accounts.google.com", "kubernetes/serviceaccount", "urn:acme:sts", "my service"),
        *("http://adfs.corp.test/adfs/services/trust", "https://id.test/?tenant=1", "größe"),
    ],
)
def test_any_string_is_an_issuer_whose_jwks_uri_is_given(issuer: str) -> None:
    require_issuer(issuer)
    assert require_addresses(issuer, "https://keys.test/jwks", ()) == frozenset()


@pytest.mark.parametrize("issuer", ["", None, 5, b"https://id.test", "two\nlines", "half \ud800"])
def test_what_is_no_printable_string_is_no_issuer(issuer: object) -> None:
    with pytest.raises(ConfigurationError, match=r"^issuer must be a string, exactly as in"):
        require_issuer(issuer)


@pytest.mark.parametrize("host", ["keycloak", "KeyCloak", "keycloak.internal", "10.0.0.7"])
def test_hosts_that_are_named_may_be_asked_over_plain_http(host: str) -> None:
    assert require_addresses(f"http://{host}:8080/realms/a", None, [host]) == {host.lower()}
    assert require_addresses("my-issuer", f"http://{host}/jwks", (host,)) == {host.lower()}
    for other in ("http://other/realms/a", f"http://{host}.evil.test/", f"ftp://{host}/"):
        with pytest.raises(ConfigurationError, match="it is not https"):
            require_addresses(other, None, [host])


@pytest.mark.parametrize(
    "allow_http",
    [
        *("keycloak", None, 5, [""], [5], ["http://keycloak"], ["keycloak:8080"], ["keycloak/"]),
        *(["a b"], ["user@keycloak"], ["keycloak?"], ["["]),
    ],
)
def test_what_is_no_list_of_host_names_is_refused(allow_http: object) -> None:
    with pytest.raises(ConfigurationError, match=r"^allow_http must be a list of host names"):
        require_addresses("https://id.test/", None, allow_http)


@pytest.mark.parametrize(
    ("issuer", "why"),
    [
        ("acme.eu.auth0.com", "it has no host"),
        ("http://acme.eu.auth0.com/", "it is not https"),
        ("https://acme.eu.auth0.com/?x=1", "it has a query"),
        ("https://acme.eu.auth0.com/?", "it has a query"),
        ("https://acme.eu.auth0.com/#", "it has a fragment"),
        ("my service", "it has characters that do not belong in a URL"),
    ],
)
def test_issuer_that_cannot_be_asked_for_its_keys_is_refused_with_what_to_add(
    issuer: str, why: str
) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        require_addresses(issuer, None, ())
    assert str(refusal.value).startswith(f"issuer can't be used for discovery: {why}.")
    assert "'https://acme.eu.auth0.com/'" in str(refusal.value)
    assert "add jwks_uri" in str(refusal.value)
    assert ("allow_http=[...]" in str(refusal.value)) is (why == "it is not https")


def test_jwks_uri_may_be_left_out_and_may_have_a_query() -> None:
    require_jwks_uri(None)
    require_jwks_uri("https://login.test/keys?appid=1")


@pytest.mark.parametrize("uri", ["http://keys.test/", "file:///etc/passwd", "https://", 5])
def test_jwks_uri_that_keys_may_not_come_from_is_refused(uri: object) -> None:
    with pytest.raises(ConfigurationError, match=r"^jwks_uri can't be used: .* https URL"):
        require_jwks_uri(uri)


@pytest.mark.parametrize("make", [list, tuple, set, frozenset])
def test_collections_of_strings_pass(make: Callable[[list[str]], Any]) -> None:
    require_strings("algorithms", make(["RS256"]), allowed=frozenset({"RS256", "ES256"}))


@pytest.mark.parametrize("value", ["RS256", [], (), None, ["RS256", ""], ["RS256", None], 5, {}])
def test_what_is_no_list_of_strings_is_refused_by_its_name(value: object) -> None:
    with pytest.raises(ConfigurationError, match=r"^algorithms must be a list of one or more"):
        require_strings("algorithms", value)


def test_strings_that_are_not_allowed_are_named_beside_those_that_are() -> None:
    with pytest.raises(ConfigurationError) as refusal:
        require_strings("algorithms", ["none", "HS256", "ES256"], allowed=frozenset({"ES256"}))
    assert str(refusal.value) == "algorithms has HS256, none; write one or more of ES256."
