"""What a verifier can be told, and what it answers to what it can't be told."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from jwks_guard import (
    ConfigurationError,
    InvalidClaimError,
    KeyStore,
    KeysUnavailableError,
    MalformedTokenError,
    MissingClaimError,
    SyncTokenVerifier,
    TokenExpiredError,
    TokenTypeError,
    TokenVerifier,
)
from jwks_guard.claims import equals
from jwks_guard.jose.algorithms import ALGORITHMS
from jwks_guard.testing import LocalTenant
from tests.support import JWKS, HandClock, verifier_of

ISSUER, AUDIENCE = "https://issuer.test/", "https://api.test"


def made(**options: Any) -> TokenVerifier:
    return TokenVerifier(**{"issuer": ISSUER, "audience": AUDIENCE, **options})


# --- the arguments ---


def test_defaults_are_those_that_are_promised() -> None:
    parameters = inspect.signature(TokenVerifier).parameters.values()
    assert {p.name: p.default for p in parameters if p.default is not p.empty} == {
        "client_ids": None,
        "jwks_uri": None,
        "allow_http": (),
        "algorithms": ALGORITHMS,
        "leeway": 5.0,
        "required_claims": ("exp",),
        "max_token_age": None,
        "token_types": ("JWT", "at+jwt", None),
        "claim_checks": (),
        "bindings": "refuse",
        "refresh_interval": 60.0,
        "max_stale": 3600.0,
        "max_upstream_age": 86_400.0,
        "fetch_timeout": 30.0,
        "max_wait": 5.0,
        "token_cache_size": 10_000,
        "token_cache_bytes": 32 * 2**20,
        "max_token_bytes": 16_384,
        "max_jwks_bytes": 524_288,
        "http_client": None,
        "clock": time,
        "keys": None,
        "register": None,
        "snapshot_path": None,
        "on_event": None,
        "background": True,
        "fast_rsa": True,
        "fleet": None,
        "observer": None,
    }
    assert [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD] == [
        "issuer",
        "audience",
    ]


def test_store_has_the_same_defaults_as_the_verifier() -> None:
    verifier = inspect.signature(TokenVerifier).parameters
    for name, parameter in inspect.signature(KeyStore).parameters.items():
        assert parameter.default == verifier[name].default


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("issuer", "acme.eu.auth0.com"),
        ("issuer", "http://acme.eu.auth0.com/"),
        ("issuer", None),
        ("audience", ""),
        ("audience", []),
        ("audience", [AUDIENCE, ""]),
        ("audience", None),
        ("audience", b"api"),
        ("client_ids", "app-1"),
        ("client_ids", []),
        ("client_ids", ["app-1", None]),
        ("allow_http", "keycloak"),
        ("allow_http", ["keycloak:8080"]),
        ("bindings", "accept"),
        ("bindings", None),
        ("bindings", ["refuse"]),
        ("jwks_uri", "http://issuer.test/jwks"),
        ("jwks_uri", "https://user@issuer.test/jwks"),
        ("algorithms", []),
        ("algorithms", "RS256"),
        ("algorithms", ["RS256", "none"]),
        ("algorithms", ["HS256"]),
        ("algorithms", ["rs256"]),
        ("algorithms", ["ES256K"]),
        ("leeway", -1),
        ("leeway", float("nan")),
        ("leeway", "5"),
        ("required_claims", "exp"),
        ("required_claims", ""),
        ("required_claims", None),
        ("required_claims", ["exp", 5]),
        ("max_token_age", 0),
        ("max_token_age", True),
        ("token_types", []),
        ("token_types", "JWT"),
        ("token_types", None),
        ("token_types", 5),
        ("token_types", ["JWT", 5]),
        ("claim_checks", None),
        ("claim_checks", equals("tier", "gold")),
        ("claim_checks", (each for each in [equals("tier", "gold")])),
        ("claim_checks", ["tier"]),
        ("refresh_interval", 0),
        ("refresh_interval", float("inf")),
        ("max_stale", 0),
        ("max_stale", 59.9),
        ("max_upstream_age", -1),
        ("max_upstream_age", None),
        ("fetch_timeout", 0),
        ("fetch_timeout", "30"),
        ("max_wait", 0),
        ("max_wait", float("inf")),
        ("token_cache_size", -1),
        ("token_cache_size", 1.5),
        ("token_cache_bytes", 0),
        ("token_cache_bytes", 1.5),
        ("max_token_bytes", 0),
        ("max_jwks_bytes", 0),
        ("max_jwks_bytes", None),
        ("http_client", httpx.Client()),
        ("snapshot_path", ""),
        ("snapshot_path", 5),
    ],
)
def test_argument_that_cannot_be_used_is_refused_by_its_name(name: str, value: object) -> None:
    with pytest.raises(ConfigurationError, match=rf"^{name} "):
        made(**{name: value})


def test_configuration_error_is_a_value_error() -> None:
    with pytest.raises(ValueError, match=r"^leeway must"):
        made(leeway=-1)


@pytest.mark.parametrize(
    "options",
    [
        {"audience": [AUDIENCE]},
        {"audience": {AUDIENCE, "https://other.test"}},
        {"algorithms": {"RS256", "ES256", "EdDSA", "Ed25519"}},
        {"required_claims": []},
        {"required_claims": ()},
        {"required_claims": frozenset()},
        {"required_claims": {"exp", "sub"}},
        {"token_types": [None]},
        {"leeway": 0},
        {"max_stale": 60, "refresh_interval": 60},
        {"token_cache_size": 0},
        {"issuer": "http://127.0.0.1:8000/"},
        {"issuer": "http://keycloak:8080/realms/a", "allow_http": ["keycloak"]},
        {"issuer": "kubernetes/serviceaccount", "jwks_uri": "https://cluster.test/jwks"},
        {"audience": None, "client_ids": ["app-1"]},
        {"client_ids": {"app-1", "app-2"}},
        {"claim_checks": [equals("tier", "gold")]},
        {"bindings": "checked upstream"},
        {"jwks_uri": "http://localhost:8000/jwks"},
        {"http_client": httpx.AsyncClient},
    ],
)
def test_less_common_arguments_are_taken(options: dict[str, Any]) -> None:
    assert made(**options).issuer == options.get("issuer", ISSUER)


def test_constructing_a_verifier_fetches_nothing_and_needs_no_loop(
    tenant: LocalTenant, clock: HandClock
) -> None:
    verifier_of(tenant, clock)
    assert len(tenant.requests) == 0


# --- what they do ---


async def test_token_must_name_one_of_the_audiences(tenant: LocalTenant, clock: HandClock) -> None:
    verifier = verifier_of(tenant, clock, background=False)
    options: dict[str, Any] = {"algorithms": ["ES256"], "keys": verifier.keys}
    both = TokenVerifier(tenant.issuer, ["https://x.test", tenant.audience], **options)
    none = TokenVerifier(tenant.issuer, ["https://x.test"], **options)
    token = tenant.token()
    assert (await both.verify(token)).issuer == tenant.issuer
    with pytest.raises(InvalidClaimError) as error:
        await none.verify(token)
    assert error.value.claim == "aud"


async def test_required_claims_and_token_age_are_asked_for(
    tenant: LocalTenant, clock: HandClock
) -> None:
    strict = verifier_of(
        tenant, clock, background=False, required_claims=["exp", "azp", "jti"], max_token_age=600
    )
    with pytest.raises(MissingClaimError) as error:
        await strict.verify(tenant.token())
    assert error.value.claim == "jti"
    token = tenant.token(claims={"jti": "1"})
    assert (await strict.verify(token)).claims["jti"] == "1"
    clock.advance(604)
    await strict.verify(token)
    clock.advance(1)
    with pytest.raises(TokenExpiredError):
        await strict.verify(token)


async def test_token_without_exp_passes_only_where_exp_is_not_required(
    tenant: LocalTenant, clock: HandClock
) -> None:
    token = tenant.token(claims={"exp": None})
    with pytest.raises(MissingClaimError):
        await verifier_of(tenant, clock, background=False).verify(token)
    lenient = verifier_of(tenant, clock, background=False, required_claims=())
    assert (await lenient.verify(token)).expires_at is None


@pytest.mark.parametrize(
    ("typ", "accepted"),
    [
        ("at+jwt", True),
        ("AT+JWT", True),
        ("application/at+jwt", True),
        ("JWT", False),
        (None, False),
    ],
)
async def test_token_types_are_compared_as_media_types_are(
    tenant: LocalTenant, clock: HandClock, typ: str | None, accepted: bool
) -> None:
    verifier = verifier_of(
        tenant, clock, background=False, token_types=["application/AT+JWT"], token_cache_size=0
    )
    token = tenant.token(header={"typ": typ})
    if accepted:
        assert (await verifier.verify(token)).header["typ"] == typ
    else:
        with pytest.raises(TokenTypeError):
            await verifier.verify(token)


async def test_token_of_exactly_max_token_bytes_is_looked_at(
    tenant: LocalTenant, clock: HandClock
) -> None:
    token = tenant.token()
    fitting = verifier_of(tenant, clock, background=False, max_token_bytes=len(token))
    await fitting.verify(token)
    short = verifier_of(tenant, clock, background=False, max_token_bytes=len(token) - 1)
    with pytest.raises(MalformedTokenError):
        await short.verify(token)


async def test_max_jwks_bytes_bounds_the_key_set(tenant: LocalTenant, clock: HandClock) -> None:
    verifier = verifier_of(tenant, clock, background=False, max_jwks_bytes=100)
    with pytest.raises(KeysUnavailableError, match="larger than 100 bytes"):
        await verifier.verify(tenant.token())


async def test_given_jwks_uri_saves_the_discovery(tenant: LocalTenant, clock: HandClock) -> None:
    verifier = verifier_of(tenant, clock, background=False, jwks_uri=tenant.jwks_uri)
    await verifier.verify(tenant.token())
    assert list(tenant.requests) == [("GET", JWKS)]


# --- an Auth0 domain ---


@pytest.mark.parametrize(
    "domain",
    [
        *("acme.eu.auth0.com", "https://acme.eu.auth0.com", "https://acme.eu.auth0.com/"),
        *("Acme.EU.auth0.com", "HTTPS://ACME.eu.auth0.com/"),
    ],
)
@pytest.mark.parametrize("make", [TokenVerifier.for_auth0, SyncTokenVerifier.for_auth0])
async def test_domain_becomes_the_issuer_and_the_address_of_its_keys(
    domain: str, make: Callable[..., TokenVerifier | SyncTokenVerifier]
) -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return httpx.Response(503)

    client = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    verifier = make(domain, audience=AUDIENCE, http_client=client, background=False)
    assert verifier.issuer == "https://acme.eu.auth0.com/"
    with pytest.raises(KeysUnavailableError):
        await verifier.keys.refresh()
    assert asked == ["https://acme.eu.auth0.com/.well-known/jwks.json"]


@pytest.mark.parametrize(
    "domain",
    [
        "",
        "acme",
        "localhost",
        "http://acme.eu.auth0.com",
        "acme.eu.auth0.com:443",
        "acme.eu.auth0.com/path",
        "user@acme.eu.auth0.com",
        "acme.eu.auth0.com?x",
        "acme.eu.auth0.com#x",
        "acme .eu.auth0.com",
        "acme.eu\n.auth0.com",
        "äcme.eu.auth0.com",
        "a.b\\c.com",
        None,
        b"acme.eu.auth0.com",
    ],
)
@pytest.mark.parametrize("make", [TokenVerifier.for_auth0, SyncTokenVerifier.for_auth0])
def test_what_is_no_domain_is_refused_with_an_example(
    domain: Any, make: Callable[..., object]
) -> None:
    with pytest.raises(ConfigurationError, match=r"^domain must be .* 'acme\.eu\.auth0\.com'\.$"):
        make(domain, audience=AUDIENCE)


def test_options_reach_the_verifier() -> None:
    with pytest.raises(ConfigurationError, match=r"^leeway"):
        TokenVerifier.for_auth0("acme.eu.auth0.com", audience=AUDIENCE, leeway=-1)


# --- one store for several verifiers ---


async def test_verifiers_of_one_issuer_share_one_store(
    tenant: LocalTenant, clock: HandClock
) -> None:
    client = httpx.AsyncClient(transport=tenant.transport)
    store = KeyStore(tenant.issuer, http_client=client, clock=clock, background=False)
    options: dict[str, Any] = {"algorithms": ["ES256"], "keys": store}
    ours = TokenVerifier(tenant.issuer, tenant.audience, **options)
    theirs = TokenVerifier(tenant.issuer, "https://other.test", **options)
    async with store:
        await ours.verify(tenant.token())
        await theirs.verify(tenant.token(audience="https://other.test"))
        with pytest.raises(InvalidClaimError):
            await theirs.verify(tenant.token())
        assert tenant.requests.count() == 1


async def test_shared_store_is_started_and_closed_by_whoever_made_it(
    tenant: LocalTenant, clock: HandClock
) -> None:
    client = httpx.AsyncClient(transport=tenant.transport)
    store = KeyStore(tenant.issuer, http_client=client, clock=clock, background=False)
    async with TokenVerifier(tenant.issuer, tenant.audience, keys=store):
        assert len(tenant.requests) == 0
    async with store:
        async with TokenVerifier(tenant.issuer, tenant.audience, keys=store):
            assert len(store.kids) == 2
        assert len(store.kids) == 2


@pytest.mark.parametrize(
    "make",
    [
        lambda store: TokenVerifier(ISSUER, AUDIENCE, keys=store),
        lambda store: SyncTokenVerifier(ISSUER, AUDIENCE, keys=store),
        lambda store: TokenVerifier(ISSUER, AUDIENCE, keys=store, refresh_interval=60, leeway=0),
        lambda store: TokenVerifier.for_auth0("issuer.test", audience=AUDIENCE, keys=store),
        lambda store: SyncTokenVerifier.for_auth0("issuer.test", audience=AUDIENCE, keys=store),
    ],
)
def test_store_is_taken_beside_what_does_not_concern_fetching(
    make: Callable[[KeyStore], TokenVerifier | SyncTokenVerifier],
) -> None:
    store = KeyStore(ISSUER, refresh_interval=10, max_stale=20)
    assert make(store).keys is store


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("jwks_uri", "https://issuer.test/jwks"),
        ("allow_http", ["keycloak"]),
        ("refresh_interval", 30.0),
        ("max_stale", 600.0),
        ("max_upstream_age", 60.0),
        ("fetch_timeout", 10.0),
        ("max_wait", 1.0),
        ("max_jwks_bytes", 1),
        ("http_client", httpx.AsyncClient),
        ("clock", HandClock()),
        ("snapshot_path", "keys.json"),
        ("on_event", print),
        ("background", False),
        ("fast_rsa", False),
    ],
)
def test_what_concerns_fetching_is_refused_beside_a_store(name: str, value: object) -> None:
    with pytest.raises(ConfigurationError, match=f"^{name} must be given to the KeyStore"):
        made(keys=KeyStore(ISSUER), **{name: value})


def test_store_of_another_issuer_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"^keys holds another issuer's keys"):
        made(keys=KeyStore("https://other.test/"))


def test_listener_that_cannot_be_called_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="on_event"):
        TokenVerifier("https://issuer.test/", "api", on_event="log")  # type: ignore[arg-type]  # on purpose
