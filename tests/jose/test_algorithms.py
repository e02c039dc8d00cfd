"""What a key may verify, by its JWK and by the allow-list."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from jwks_guard.jose.algorithms import ALGORITHMS, allow_list
from jwks_guard.jose.jwk import load_jwk

MakeJWK = Callable[..., dict[str, Any]]


def verified_by(jwk: dict[str, Any], *algorithms: str) -> set[str]:
    """What a key verifies where these are allowed, of all that there is."""
    allowed = allow_list(algorithms or ALGORITHMS)
    names = ALGORITHMS | {"none", "HS256", "ES256K", ""}
    key = load_jwk(jwk)
    return {alg for alg in names if key.may_verify(alg, allowed) and alg in allowed.names}


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("RSA", {"RS256"}),
        ("P-256", {"ES256"}),
        ("P-384", {"ES384"}),
        ("P-521", {"ES512"}),
        ("Ed25519", {"EdDSA", "Ed25519"}),
        ("Ed448", {"EdDSA", "Ed448"}),
    ],
)
def test_key_without_alg_is_bound_to_the_usual_one_of_its_type(
    kind: str, expected: set[str], public_jwk: MakeJWK
) -> None:
    assert verified_by(public_jwk(kind)) == expected
    assert verified_by(public_jwk(kind), *sorted(ALGORITHMS)) == expected


@pytest.mark.parametrize("alg", sorted(ALGORITHMS - {"EdDSA", "Ed25519", "Ed448"}))
def test_key_with_alg_verifies_that_one_if_it_is_allowed(alg: str, public_jwk: MakeJWK) -> None:
    curves = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}
    jwk = public_jwk(curves.get(alg, "RSA"), alg=alg)
    assert verified_by(jwk) == verified_by(jwk, alg) == {alg}
    assert verified_by(jwk, *(ALGORITHMS - {alg})) == set()


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        (["RS256"], {"RS256"}),
        (["PS256"], {"PS256"}),
        (["RS256", "PS256", "ES256"], {"RS256", "PS256"}),
        (["RS512", "PS384"], {"RS512", "PS384"}),
        (["ES256", "EdDSA"], set()),
        (sorted(ALGORITHMS - {"RS256"}), {"RS384", "RS512", "PS256", "PS384", "PS512"}),
    ],
)
def test_named_algorithms_that_fit_are_those_of_a_key_without_alg(
    named: list[str], expected: set[str], public_jwk: MakeJWK
) -> None:
    assert verified_by(public_jwk(), *named) == expected


@pytest.mark.parametrize("curve", ["Ed25519", "Ed448"])
def test_both_names_of_eddsa_are_one_on_the_list_in_the_jwk_and_in_the_token(
    curve: str, public_jwk: MakeJWK
) -> None:
    other = ({"Ed25519", "Ed448"} - {curve}).pop()
    for alg in (None, "EdDSA", curve):
        jwk = public_jwk(curve, alg=alg)
        for named in ("EdDSA", curve):
            assert verified_by(jwk, named) == {"EdDSA", curve}
        assert verified_by(jwk, other) == set()
        assert verified_by(jwk, "ES256") == set()
