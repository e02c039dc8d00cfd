"""What is right and wrong with a token, part by part, as the library's own rules see it.

No rule is written here a second time. Each member is put, alone, among members that are in order,
and the library says what it thinks of the whole: so that every fault is named and not only the
first one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from jwks_guard.cli.inspect.explain_key import explain_key, explain_signature, named_key
from jwks_guard.cli.words import Line, date, shown
from jwks_guard.errors import InvalidClaimError, InvalidTokenError
from jwks_guard.jose.algorithms import AllowList
from jwks_guard.jose.claims import CLIENT_CLAIMS, ClaimsPolicy
from jwks_guard.jose.compact import b64url_encode, decode_object, split
from jwks_guard.jose.header import parse_header
from jwks_guard.keys.store import KeyStore

_HEADER = ("alg", "typ", "kid", "crit")
_DATES = ("exp", "nbf", "iat")
_BRINGS_A_KEY = frozenset({"jku", "jwk", "x5u", "x5c"})
_IGNORED = "Ignored: a token has no say in which key verifies it."
_Members = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Rules:
    """What a token is judged by. `parties`: the claims that are judged besides dates."""

    algorithms: AllowList
    token_types: frozenset[str | None]
    claims: ClaimsPolicy
    parties: tuple[str, ...]


Sections = dict[str, list[Line]]


def explain(token: bytes, rules: Rules, keys: KeyStore | None, now: float) -> Sections:
    """Give the statements about each part of `token`, which `split` accepts.

    keys: where its key is looked up as they are held; None leaves key and signature out.
    now: epoch seconds.
    """
    header, payload, signature, signing_input = split(token)
    sections = {"Header": list(_header(header, rules))}
    if keys is not None:
        named = named_key(header)
        key, sections["Key"] = explain_key(named, keys, rules.algorithms)
        sections["Signature"] = [explain_signature(named, key, signing_input, signature)]
    sections["Claims"] = list(_claims(payload, rules, now))
    return sections


def _header(segment: bytes, rules: Rules) -> Iterator[Line]:
    try:
        header = decode_object(segment, "header")
    except InvalidTokenError as error:
        yield Line("NO", "header", str(error))
        return

    def check(variant: _Members) -> object:
        encoded = b64url_encode(json.dumps(variant).encode()).encode()
        return parse_header(encoded, rules.algorithms.names, rules.token_types)

    good = {"alg": min(rules.algorithms.names), "kid": "any"}
    if None not in rules.token_types:
        good["typ"] = min(filter(None, rules.token_types))
    for name in _HEADER:
        fault = _fault(name, header, good, check)
        yield from _judged(name, header, fault, shown(header.get(name)))
    for name in _others(header, _HEADER):
        note = _IGNORED if name in _BRINGS_A_KEY else ""
        yield Line("  ", name, shown(header[name]), note)


def _claims(segment: bytes, rules: Rules, now: float) -> Iterator[Line]:
    try:
        claims = decode_object(segment, "payload")
    except InvalidTokenError as error:
        yield Line("NO", "payload", str(error))
        return
    policy = rules.claims
    asked = {"iss": shown(policy.issuer), "aud": shown(sorted(policy.audiences or ()))}
    asked |= dict.fromkeys(CLIENT_CLAIMS, shown(sorted(policy.client_ids or ())))
    names, good = _judged_names(claims, rules), _in_order(claims, policy, now)
    for name in names:
        fault = _fault(name, claims, good, lambda variant: policy.check(variant, now))
        is_date = name in _DATES and name in claims and not isinstance(fault, InvalidClaimError)
        text = date(claims[name], now) if is_date else shown(claims.get(name))
        yield from _judged(name, claims, fault, text, asked.get(name))
    for name in _others(claims, names):
        yield Line("  ", name, shown(claims[name]))


def _judged_names(claims: _Members, rules: Rules) -> tuple[str, ...]:
    """The claims that a rule applies to, each once."""
    names = [*rules.parties]
    names += _clients(claims) if rules.claims.client_ids is not None else []
    names += ["cnf"] if "cnf" in claims and rules.parties else ()
    return tuple(dict.fromkeys((*names, *_DATES, *rules.claims.required_claims)))


def _in_order(claims: _Members, policy: ClaimsPolicy, now: float) -> _Members:
    """Claims that the policy accepts, with the client where `claims` have it."""
    good: _Members = dict.fromkeys(policy.required_claims, "any")
    good |= {"iss": policy.issuer, "exp": now + 60.0, "iat": now}
    good |= {"nbf": now} if "nbf" in good else {}
    good |= {"aud": min(policy.audiences)} if policy.audiences else {}
    if policy.client_ids is not None:
        named = _clients(claims)[0]
        clients = [name for name in CLIENT_CLAIMS if name == named or name in good]
        good |= dict.fromkeys(clients, min(policy.client_ids))
    return good


def _clients(claims: _Members) -> list[str]:
    """The claims that name the client; the one that should where none does."""
    return [name for name in CLIENT_CLAIMS if name in claims] or [CLIENT_CLAIMS[0]]


def _fault(
    name: str, members: _Members, good: _Members, check: Callable[[_Members], object]
) -> InvalidTokenError | None:
    """Give what `check` has against this member, or against its absence, and nothing else."""
    variant = {other: value for other, value in good.items() if other != name}
    if name in members:
        variant[name] = members[name]
    try:
        check(variant)
    except InvalidTokenError as error:
        return error
    return None


def _judged(
    name: str,
    members: _Members,
    fault: InvalidTokenError | None,
    text: str,
    asked: str | None = None,
) -> Iterator[Line]:
    if fault is not None:
        note = (
            str(fault) if not asked or asked[1:-1] in str(fault) else f"{fault} Expected: {asked}"
        )
        yield Line("NO", name, text if name in members else "missing", note)
    elif name in members:
        yield Line("ok", name, text)


def _others(members: _Members, judged: tuple[str, ...]) -> list[str]:
    return [name for name in members if name not in judged]
