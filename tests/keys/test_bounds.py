"""Both bounds with the headers that issuers were seen to send."""

from __future__ import annotations

import json
import re
from email.utils import formatdate, parsedate_to_datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from jwks_guard import KeyStore, TokenVerifier
from jwks_guard.keys.health import HIDDEN_AGE, Bounds
from jwks_guard.testing.keys import generate_signing_key
from tests.support import HandClock

URI = "https://issuer.test/jwks"
KEY = generate_signing_key("ES256", now=0, common_name="issuer.test", kid="a")
JWKS = json.dumps({"keys": [KEY.jwk]})
PAGE = Path(__file__).parents[2] / "docs" / "trust.md"

# As they were seen on 2022-11-12, but for Content-Type.
AUTH0 = {
    "date": "Sat, 12 Nov 2022 19:58:26 GMT",
    "cache-control": "public, max-age=15, stale-while-revalidate=15, stale-if-error=86400",
}
GOOGLE = {
    "date": "Sat, 12 Nov 2022 19:33:44 GMT",
    "expires": "Sun, 13 Nov 2022 01:32:36 GMT",
    "cache-control": "public, max-age=21532, must-revalidate, no-transform",
    "age": "5",
}
ENTRA = {"date": "Sat, 12 Nov 2022 20:59:21 GMT", "cache-control": "max-age=86400, private"}
OKTA = {
    "date": "Sat, 12 Nov 2022 19:41:02 GMT",
    "expires": "Tue, 27 Dec 2022 03:05:39 GMT",
    "cache-control": "max-age=3828277, must-revalidate",
}
KEYCLOAK = {"cache-control": "no-cache"}
VAULT = {"date": "Sat, 12 Nov 2022 19:56:52 GMT", "cache-control": "no-store"}
ONELOGIN = {"date": "Sat, 12 Nov 2022 19:42:26 GMT", "cache-control": "private"}
SEEN = {
    "Auth0": (AUTH0, 3615, 120),
    "Google": (GOOGLE, 25_132, 21_622),
    "Entra": (ENTRA, 3600, 90),
    "Okta": (OKTA, 90_000, 86_490),
    "Keycloak": (KEYCLOAK, 3600, 90),
    "Vault": (VAULT, 3600, 90),
    "OneLogin": (ONELOGIN, 3600, 90),
}


def store_of(headers: dict[str, str], clock: HandClock, **options: Any) -> KeyStore:
    transport = httpx.MockTransport(lambda _: httpx.Response(200, content=JWKS, headers=headers))
    return KeyStore(
        "https://issuer.test/",
        jwks_uri=URI,
        http_client=httpx.AsyncClient(transport=transport),
        clock=clock,
        background=False,
        **options,
    )


@pytest.mark.parametrize("name", SEEN)
async def test_bounds_with_the_headers_that_issuers_were_seen_to_send(
    name: str, clock: HandClock
) -> None:
    headers, trust, detection = SEEN[name]
    if "date" in headers:
        clock.wall = parsedate_to_datetime(headers["date"]).timestamp() + 0.5
    store = store_of(headers, clock)
    await store.refresh()
    health = store.health()
    assert (health.status, health.warning) == ("ok", None)
    assert (health.trust_bound, health.detection_bound) == (trust, detection)
    assert health.confirmed_at == clock.wall


@pytest.mark.parametrize("name", ["Auth0", "Google", "Entra", "Okta"])
def test_page_has_the_bounds_of_these_issuers(name: str) -> None:
    headers, trust, detection = SEEN[name]
    (row,) = re.findall(rf"^\| {name} .*$", PAGE.read_text(), re.MULTILINE)
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1] == f"`{headers['cache-control']}`"
    assert cells[2:4] == [f"{trust:,} s".replace(",", " "), f"{detection:,} s".replace(",", " ")]


async def test_answer_of_googles_cache_is_good_as_long_as_google_says(clock: HandClock) -> None:
    headers = {"cache-control": "public, max-age=24873, must-revalidate", "age": "5059"}
    store = store_of(headers, clock)
    for age in range(5059, 24_873, 300):
        headers["age"] = str(age)
        await store.tick()
        clock.advance(300)
        assert store.kids == ("a",)
        assert store.health().status == "ok"
    headers["age"] = "24873"  # not fresh any more: it confirms as of when it was made
    clock.advance(300)
    await store.tick()
    assert "past max_stale" in (store.health().last_error or "")


async def test_answer_past_max_upstream_age_confirms_as_of_its_origin(clock: HandClock) -> None:
    store = store_of({"cache-control": "max-age=600", "age": "301"}, clock, max_upstream_age=300)
    await store.refresh()
    assert store.health().confirmed_at == clock.wall - 301
    assert store.health().trust_bound == 3600 + 300


def test_detection_never_takes_longer_than_trust() -> None:
    assert Bounds(50.0, 30.0, 70.0, 0.0, 9e9, 9e9, 9e9).detection == 70.0
    assert Bounds(60.0, 30.0, 3600.0, 86_400.0, float("inf")).trust == 90_000.0


async def test_cache_that_hides_its_age_is_named_with_the_header_to_add(clock: HandClock) -> None:
    date = formatdate(clock.wall, usegmt=True)
    store = store_of({"date": date, "x-cache-status": "HIT"}, clock)
    await store.refresh()
    assert store.health().warning == HIDDEN_AGE
    assert "proxy_pass_header Date" in HIDDEN_AGE
    assert store.health().to_dict()["warning"] == HIDDEN_AGE


async def test_key_whose_algorithm_is_not_allowed_is_shown_with_the_reason(
    clock: HandClock,
) -> None:
    verifier = TokenVerifier(
        "https://issuer.test/", "api", algorithms=["RS256"], keys=store_of({}, clock)
    )
    await verifier.keys.refresh()
    (skipped,) = verifier.health().skipped
    assert skipped.kid == "a"
    assert skipped.reason == "it is for ES256, which `algorithms` does not allow"
    assert verifier.keys.health().skipped == ()
