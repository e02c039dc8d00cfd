from __future__ import annotations

import json
import math

import pytest

from jwks_guard.errors import (
    ConfigurationError,
    InsufficientScopeError,
    InvalidRequestError,
    KeysUnavailableError,
    LookUpThrottledError,
    MissingCredentialsError,
    OriginNotAllowedError,
    Refusal,
    RequestRefusedError,
    RevokedKeyError,
    TokenExpiredError,
)
from jwks_guard.net.refusals import problem_json, quotable_realm, refusal


def header(refused: Refusal, name: bytes) -> str | None:
    values = [value.decode() for key, value in refused.headers if key == name]
    assert len(values) <= 1
    return values[0] if values else None


@pytest.mark.parametrize("realm", ["line\r\nSet-Cookie: a=b", "bell\x07", "größe"])
def test_realm_that_fits_no_header_is_a_configuration_error(realm: str) -> None:
    with pytest.raises(ConfigurationError, match="realm"):
        quotable_realm(realm)


def test_missing_credentials_get_a_bare_challenge() -> None:
    refused = refusal(MissingCredentialsError("no header"))
    assert refused.status == 401
    assert header(refused, b"www-authenticate") == "Bearer"


def test_missing_credentials_get_the_realm_and_nothing_else() -> None:
    refused = refusal(MissingCredentialsError("no header"), realm="things")
    assert header(refused, b"www-authenticate") == 'Bearer realm="things"'


def test_realm_is_escaped_in_the_challenge() -> None:
    refused = refusal(MissingCredentialsError("no header"), realm=quotable_realm(r'a "b" \c'))
    assert header(refused, b"www-authenticate") == r'Bearer realm="a \"b\" \\c"'


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (InvalidRequestError("two headers"), 400, "invalid_request"),
        (TokenExpiredError("expired at noon"), 401, "invalid_token"),
        (InsufficientScopeError("too little", ("read:a", "read:b")), 403, "insufficient_scope"),
    ],
)
def test_each_fault_of_the_request_has_its_status_and_challenge(
    error: RequestRefusedError, status: int, kind: str
) -> None:
    refused = refusal(error, realm="things")
    challenge = header(refused, b"www-authenticate")
    assert challenge is not None
    assert refused.status == status
    assert challenge.startswith(f'Bearer realm="things", error="{kind}", error_description="')
    assert ('scope="read:a read:b"' in challenge) is (status == 403)
    assert header(refused, b"retry-after") is None


@pytest.mark.parametrize(
    ("seconds", "answer"),
    [
        (0.0, "1"),
        (-3.0, "1"),
        (1.0, "1"),
        (1.2, "2"),
        (12, "12"),
        (math.inf, "86400"),
        (math.nan, "1"),
    ],
)
@pytest.mark.parametrize(
    ("kind", "status"), [(KeysUnavailableError, 503), (LookUpThrottledError, 429)]
)
def test_what_says_nothing_of_the_token_has_whole_seconds_and_no_challenge(
    kind: type[KeysUnavailableError], status: int, seconds: float, answer: str
) -> None:
    refused = refusal(kind("the JWKS is down", seconds), realm="things")
    assert refused.status == status
    assert header(refused, b"retry-after") == answer
    assert header(refused, b"www-authenticate") is None


@pytest.mark.parametrize(
    "error",
    [
        MissingCredentialsError("secret detail"),
        InvalidRequestError("secret detail"),
        RevokedKeyError("secret detail"),
        InsufficientScopeError("secret detail", ("read:a",)),
        KeysUnavailableError("secret detail"),
        LookUpThrottledError("secret detail"),
    ],
)
def test_refusal_says_no_more_than_its_kind_unless_debugging(error: RequestRefusedError) -> None:
    refused = refusal(error)
    body = json.loads(refused.body)
    assert body.keys() == {"error", "error_description"}
    assert "secret detail" not in repr(refused)
    assert header(refused, b"content-length") == str(len(refused.body))
    assert header(refused, b"content-type") == "application/json"
    assert header(refused, b"cache-control") == "no-store"

    debugged = refusal(error, debug=True)
    assert debugged.status == refused.status
    assert json.loads(debugged.body) == {
        "error": body["error"],
        "error_description": "secret detail",
        "code": error.code,
    }
    assert "secret detail" not in repr(debugged.headers)


def test_refusals_of_different_tokens_are_alike() -> None:
    assert refusal(RevokedKeyError("revoked")) == refusal(TokenExpiredError("expired"))


def test_debug_body_takes_any_text() -> None:
    text = 'kid "\udcff\n"'
    refused = refusal(RevokedKeyError(text), debug=True)
    assert json.loads(refused.body)["error_description"] == text


def test_scope_that_fits_no_header_is_left_out_of_the_challenge() -> None:
    injected = "org:a\r\nSet-Cookie: a=b"
    error = InsufficientScopeError("of a claim check", (injected, "read", "org:ü"))
    assert (header(refusal(error), b"www-authenticate") or "").endswith('scope="read"')
    alone = InsufficientScopeError("of a claim check", ("org:ü",))
    assert "scope=" not in (header(refusal(alone), b"www-authenticate") or "")


def test_error_with_a_status_of_the_application_s_own_is_worded_by_its_kind() -> None:
    class GoneError(TokenExpiredError):
        http_status = 410

    refused = refusal(GoneError("expired"))
    assert refused.status == 410
    assert json.loads(refused.body)["error"] == "invalid_token"


def test_metadata_of_the_resource_is_named_in_every_challenge() -> None:
    url = "https://api.test/.well-known/oauth-protected-resource"
    missing = refusal(MissingCredentialsError("none"), resource_metadata=url)
    assert header(missing, b"www-authenticate") == f'Bearer resource_metadata="{url}"'
    expired = refusal(TokenExpiredError("expired"), realm="things", resource_metadata=url)
    challenge = header(expired, b"www-authenticate")
    assert challenge is not None
    assert challenge.startswith(f'Bearer realm="things", resource_metadata="{url}", error="')


def test_refused_origin_gets_no_challenge() -> None:
    refused = refusal(OriginNotAllowedError("https://evil.test"), realm="things")
    assert refused.status == 403
    assert json.loads(refused.body)["error"] == "access_denied"
    assert header(refused, b"www-authenticate") is None


@pytest.mark.parametrize(
    "error",
    [
        MissingCredentialsError("detail"),
        RevokedKeyError("detail"),
        InsufficientScopeError("detail", ("read:a",)),
        KeysUnavailableError("detail", 7),
    ],
)
@pytest.mark.parametrize("debug", [False, True])
def test_problem_has_the_same_content_status_and_challenge(
    error: RequestRefusedError, debug: bool
) -> None:
    usual = refusal(error, debug=debug)
    problem = problem_json(usual, error)
    said, described = json.loads(usual.body), json.loads(problem.body)
    assert described.pop("detail") == said.pop("error_description")
    assert described.pop("status") == problem.status == usual.status
    assert described.pop("type") == "about:blank"
    assert described.pop("title") in ("Unauthorized", "Forbidden", "Service Unavailable")
    assert described == said
    assert header(problem, b"content-type") == "application/problem+json"
    assert header(problem, b"content-length") == str(len(problem.body))
    for name in (b"www-authenticate", b"retry-after", b"cache-control"):
        assert header(problem, name) == header(usual, name)


def test_headers_are_there_as_text_too() -> None:
    assert refusal(MissingCredentialsError("none")).fields["www-authenticate"] == "Bearer"
