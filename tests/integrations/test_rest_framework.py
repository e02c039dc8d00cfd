from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.test import override_settings

from jwks_guard import Refusal, problem_json
from jwks_guard.integrations.rest_framework import TokenRefused, TokenUser, require_token
from jwks_guard.testing import LocalTenant, fake_token
from tests.integrations.django_project import (
    GUARD,
    APIClient,
    APIRequestFactory,
    DRFWriting,
    force_authenticate,
)


@pytest.fixture(scope="module")
def issuer() -> Iterator[LocalTenant]:
    with LocalTenant(algorithm="ES256") as local:
        yield local


@pytest.fixture(params=[[], [GUARD]], ids=["alone", "with the middleware"])
def served(request: pytest.FixtureRequest, issuer: LocalTenant) -> Iterator[LocalTenant]:
    setting = {"ISSUER": issuer.issuer, "AUDIENCE": issuer.audience, "OPTIONAL": True}
    with override_settings(JWKS_GUARD=setting, MIDDLEWARE=request.param):
        yield issuer
    issuer.faults.clear()


def get(path: str, token: str | None = None) -> Any:
    return APIClient().get(path, headers={"Authorization": f"Bearer {token}"} if token else {})


def test_user_and_auth_are_of_the_token(served: LocalTenant) -> None:
    answer = get("/drf/", served.token(sub="auth0|bob"))
    assert answer.json() == "auth0|bob"
    assert get("/drf-open/").json() == "anonymous"


def test_request_without_a_token_gets_401_with_a_challenge_where_one_is_needed(
    served: LocalTenant,
) -> None:
    for path in ("/drf/", "/drf-writing/"):
        answer = get(path)
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"] == "Bearer"


@override_settings(MIDDLEWARE=[])
def test_bad_token_gets_the_challenge_of_the_guard_in_the_format_of_the_framework(
    issuer: LocalTenant,
) -> None:
    with override_settings(JWKS_GUARD={"ISSUER": issuer.issuer, "AUDIENCE": issuer.audience}):
        answer = get("/drf-open/", issuer.forged_token())
    assert answer.status_code == 401
    assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]
    assert answer.json() == {"detail": "The access token is not valid."}


def test_token_that_lacks_a_scope_gets_403_that_names_it(served: LocalTenant) -> None:
    answer = get("/drf-writing/", served.token(scope="read:things"))
    assert answer.status_code == 403
    assert 'scope="write:things"' in answer.headers["WWW-Authenticate"]
    assert get("/drf-writing/", served.token(scope="write:things")).status_code == 200


def test_outage_gets_503_and_when_to_ask_again(served: LocalTenant) -> None:
    served.faults.status(500)
    answer = get("/drf/", served.token())
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) >= 1
    assert "WWW-Authenticate" not in answer.headers


def test_fake_token_authenticates_a_request_in_a_unit_test() -> None:
    for scope, status in (("write:things", 200), ("read:things", 403)):
        token = fake_token(scope=scope)
        request = APIRequestFactory().get("/")
        force_authenticate(request, TokenUser(token), token)  # type: ignore[arg-type]
        assert DRFWriting.as_view()(request).status_code == status


def test_user_of_a_token_can_be_counted_by_a_throttle_and_is_no_staff() -> None:
    user = TokenUser(fake_token(sub="auth0|bob"))
    assert (user.pk, str(user)) == ("auth0|bob", "auth0|bob")
    assert user.is_authenticated
    assert user.is_active
    assert not user.is_anonymous
    assert not user.is_staff
    assert TokenUser(fake_token(sub=None)).pk == ""


def test_permission_refuses_what_cannot_be_meant_where_it_is_written() -> None:
    with pytest.raises(ValueError, match="required_scopes"):
        require_token(required_scopes="write:things")


@pytest.mark.parametrize("body", [b"no JSON", b"[]", b"{}"])
def test_refusal_of_an_application_s_own_form_is_described_by_its_status(body: bytes) -> None:
    assert TokenRefused(Refusal(401, (), body)).detail == "Unauthorized"


def test_refusal_may_say_by_a_date_when_to_ask_again() -> None:
    dated = ((b"retry-after", b"Fri, 31 Dec 1999 23:59:59 GMT"),)
    assert TokenRefused(Refusal(503, dated, b"")).wait is None


def test_problem_is_described_by_its_detail(issuer: LocalTenant) -> None:
    setting = {"ISSUER": issuer.issuer, "AUDIENCE": issuer.audience, "ON_REFUSAL": problem_json}
    with override_settings(JWKS_GUARD=setting, MIDDLEWARE=[]):
        answer = get("/drf/", "junk")
    assert answer.json() == {"detail": "The access token is not valid."}
