"""The requests that every integration answers alike: what is sent, and what comes back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jwks_guard import FromCookie, FromHeader, problem_json
from jwks_guard.claims import equals
from jwks_guard.verify.request import GuardOptions

APP = "https://app.acme.com"
METADATA = "https://api.acme.com/.well-known/oauth-protected-resource"
COOKIE = FromCookie("token", origins=[APP])

GUARDS: dict[str, GuardOptions] = {
    "plain": {},
    "scopes": {"required_scopes": ["read:things", "write:things"]},
    "any": {"any_scopes": ["admin", "read:things"]},
    "permissions": {"required_permissions": ["delete:things"]},
    "claims": {"claim_checks": [equals("tier", "gold")]},
    "optional": {"optional": True},
    "cookie": {"token_from": COOKIE},
    "header": {"token_from": FromHeader("X-Token")},
    "either": {"token_from": [FromHeader(), COOKIE]},
    "worded": {"realm": "things", "resource_metadata": METADATA},
    "debug": {"debug_errors": True},
    "problem": {"on_refusal": problem_json},
    "down": {},
    "throttled": {},
}
"""The options of the guard at the path of that name. Those of the last two have verifiers whose
issuer can't be reached, and whose look-ups are spent."""

BARE = "Bearer"
MALFORMED = (
    'Bearer error="invalid_request", error_description="The request\'s credentials are malformed."'
)
INVALID = 'Bearer error="invalid_token", error_description="The access token is not valid."'
LACKING = (
    'Bearer error="insufficient_scope", '
    'error_description="The access token does not grant what this request needs."'
)


@dataclass(frozen=True)
class Case:
    """A request to the guard `path`, with `{name}` for a token, and its answer.

    `challenge` is the whole WWW-Authenticate header, None if there is none; `error` is the kind in
    the body of a refusal.
    """

    name: str
    status: int
    challenge: str | None = None
    error: str | None = None
    path: str = "plain"
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = ()
    query: str = ""
    body: str | None = None

    def sent(self, tokens: Mapping[str, str]) -> dict[str, Any]:
        """The arguments of an httpx request."""
        fields = [
            (name, value.format_map(tokens).encode("latin-1")) for name, value in self.headers
        ]
        sent: dict[str, Any] = {"headers": [(name.encode(), value) for name, value in fields]}
        sent["method"] = self.method
        sent["url"] = f"/{self.path}/{self.query.format_map(tokens)}"
        if self.body is not None:
            sent["headers"].append((b"content-type", b"application/x-www-form-urlencoded"))
            sent["content"] = self.body.format_map(tokens).encode()
        return sent


def _bearer(value: str) -> tuple[tuple[str, str], ...]:
    return (("Authorization", value),)


def _cookie(token: str = "good", origin: str | None = None) -> tuple[tuple[str, str], ...]:
    cookie = ("Cookie", f"theme=dark; token={{{token}}}")
    return (cookie,) if origin is None else (cookie, ("Origin", origin))


GOOD = _bearer("Bearer {good}")

LET_IN = [
    Case("good token", 200, headers=GOOD),
    Case("scheme in lower case", 200, headers=_bearer("bearer {good}")),
    Case("scheme in capitals", 200, headers=_bearer("BEARER {good}")),
    Case("more spaces after the scheme", 200, headers=_bearer("Bearer   {good}")),
    Case("HEAD", 200, method="HEAD", headers=GOOD),
    Case("POST", 200, method="POST", headers=GOOD),
    Case("all scopes", 200, path="scopes", headers=GOOD),
    Case("one of any scopes", 200, path="any", headers=GOOD),
    Case("all permissions", 200, path="permissions", headers=GOOD),
    Case("token that passes a claim check", 200, path="claims", headers=GOOD),
    Case("good token where none is needed", 200, path="optional", headers=GOOD),
    Case("no token where none is needed", 200, path="optional"),
    Case("cookie", 200, path="cookie", headers=_cookie()),
    Case("cookie of its own page", 200, path="cookie", method="POST", headers=_cookie(origin=APP)),
    Case("another header", 200, path="header", headers=(("X-Token", "{good}"),)),
    Case("first of two sources", 200, path="either", headers=GOOD),
    Case("second of two sources", 200, path="either", headers=_cookie()),
]


def _missing(name: str, challenge: str = BARE, **request: Any) -> Case:
    return Case(name, 401, challenge, "unauthorized", **request)


MISSING = [
    _missing("no token"),
    _missing("empty header", headers=_bearer("")),
    _missing("Basic", headers=_bearer("Basic dTpw")),
    _missing("DPoP", headers=_bearer("DPoP {good}")),
    _missing("no scheme", headers=_bearer("{good}")),
    _missing("no space after the scheme", headers=_bearer("Bearer{good}")),
    _missing("token in a header that is not configured", headers=(("X-Token", "{good}"),)),
    _missing("token in a cookie that is not configured", headers=_cookie()),
    _missing("token in the query", query="?access_token={good}"),
    _missing("token in a form", method="POST", body="access_token={good}"),
    _missing("HEAD without a token", method="HEAD"),
    _missing("Basic where no token is needed", path="optional", headers=_bearer("Basic dTpw")),
    _missing("Authorization where a cookie is configured", path="cookie", headers=GOOD),
    _missing("empty cookie", path="cookie", headers=(("Cookie", "token="),)),
    _missing("Authorization where X-Token is configured", path="header", headers=GOOD),
    _missing("no token while the issuer is down", path="down"),
    _missing(
        "no token, with realm and metadata",
        f'Bearer realm="things", resource_metadata="{METADATA}"',
        path="worded",
    ),
    _missing("no token, as a problem", path="problem"),
    _missing("no token, with details", path="debug"),
]


def _malformed(name: str, value: str, **request: Any) -> Case:
    sent: dict[str, Any] = {"headers": _bearer(value), **request}
    return Case(name, 400, MALFORMED, "invalid_request", **sent)


BOTH = (*GOOD, *_cookie())
MALFORMED_CASES = [
    _malformed("nothing after the scheme", "Bearer"),
    _malformed("scheme twice", "Bearer Bearer {good}"),
    _malformed("two tokens in one header", "Bearer {good} {good}"),
    _malformed("list of credentials", "Bearer {good}, Bearer {good}"),
    _malformed("parameters", 'Bearer token="{good}"'),
    _malformed("letters outside ASCII", "Bearer tökén"),
    _malformed("only padding", "Bearer =="),
    _malformed("two headers", "", headers=(*GOOD, *GOOD)),
    _malformed("Bearer, then Basic", "", headers=(*GOOD, *_bearer("Basic dTpw"))),
    _malformed("two cookies", "", path="cookie", headers=(("Cookie", "token=a; token={good}"),)),
    _malformed("two sources with a token each", "", path="either", headers=BOTH),
    _malformed("malformed while the issuer is down", "Bearer a b", path="down"),
]


BAD_TOKENS = (
    "expired",
    "future",
    "issued_in_future",
    "other_audience",
    "other_issuer",
    "forged",
    "unknown_key",
    "alg_none",
    "alg_hs256",
    "five_parts",
    "two_parts",
    "opaque",
    "logout_token",
    "critical",
    "bound",
    "revoked",
    "removed",
    "without_expiry",
    "huge",
)
REFUSED = [
    Case(f"{name} token", 401, INVALID, "invalid_token", headers=_bearer(f"Bearer {{{name}}}"))
    for name in BAD_TOKENS
] + [
    Case(
        "token that fails a claim check",
        401,
        INVALID,
        "invalid_token",
        path="claims",
        headers=_bearer("Bearer {reader}"),
    ),
    Case(
        "bad token where none is needed",
        401,
        INVALID,
        "invalid_token",
        path="optional",
        headers=_bearer("Bearer {expired}"),
    ),
    Case(
        "bad token in a cookie", 401, INVALID, "invalid_token", "cookie", headers=_cookie("expired")
    ),
]


def _lacking(name: str, path: str, scope: str | None, token: str = "poor") -> Case:
    challenge = LACKING if scope is None else f'{LACKING}, scope="{scope}"'
    headers = _bearer(f"Bearer {{{token}}}")
    return Case(name, 403, challenge, "insufficient_scope", path, headers=headers)


FORBIDDEN = [
    _lacking("one scope of two", "scopes", "read:things write:things", "reader"),
    _lacking("no scope", "scopes", "read:things write:things"),
    _lacking("none of any scopes", "any", "admin"),
    _lacking("no permission", "permissions", None),
    Case(
        "cookie without an origin", 403, None, "access_denied", "cookie", "POST", headers=_cookie()
    ),
    Case(
        "cookie of another page",
        403,
        None,
        "access_denied",
        "cookie",
        "POST",
        headers=_cookie(origin="https://evil.test"),
    ),
]

OURS = [
    Case("issuer down", 503, None, "temporarily_unavailable", "down", headers=GOOD),
    Case(
        "too many unknown keys",
        429,
        None,
        "temporarily_unavailable",
        "throttled",
        headers=_bearer("Bearer {unknown_key}"),
    ),
]

CASES = [*LET_IN, *MISSING, *MALFORMED_CASES, *REFUSED, *FORBIDDEN, *OURS]
