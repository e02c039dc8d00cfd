"""Which `alg` a key may verify: what fits its type, what binds it, what is allowed (RFC 8725)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

KeyType = tuple[str, str | None]
"""A key's `kty` and `crv`."""

ALGORITHMS_BY_KEY_TYPE: Final[dict[KeyType, frozenset[str]]] = {
    ("RSA", None): frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}),
    ("EC", "P-256"): frozenset({"ES256"}),
    ("EC", "P-384"): frozenset({"ES384"}),
    ("EC", "P-521"): frozenset({"ES512"}),
    # RFC 9864: two names of one algorithm.
    ("OKP", "Ed25519"): frozenset({"EdDSA", "Ed25519"}),
    ("OKP", "Ed448"): frozenset({"EdDSA", "Ed448"}),
}
"""What a key of this type can verify."""

ALGORITHMS: Final = frozenset[str]().union(*ALGORITHMS_BY_KEY_TYPE.values())
"""Every `alg` that can be allowed: asymmetric signatures only."""

_UNNAMED: Final = {**ALGORITHMS_BY_KEY_TYPE, ("RSA", None): frozenset({"RS256"})}


@dataclass(frozen=True, slots=True)
class AllowList:
    """The algorithms that a verifier allows, by what a key is (RFC 8725 section 3.1).

    names: what a header's `alg` may be. fitting: what keys whose JWK has an `alg` may verify, if it
    is that one. unbound: what keys whose JWK has none may verify.
    """

    names: frozenset[str]
    fitting: Mapping[KeyType, frozenset[str]]
    unbound: Mapping[KeyType, frozenset[str]]


def allow_list(algorithms: Collection[str]) -> AllowList:
    """Give the allow-list that names `algorithms`, each one of ALGORITHMS.

    All of them is no choice: an RSA key whose JWK has no `alg` is bound to RS256 then.
    """
    named = frozenset(algorithms)
    fitting = {
        key_type: _allowed(key_type, fits, named)
        for key_type, fits in ALGORITHMS_BY_KEY_TYPE.items()
    }
    names = frozenset[str]().union(*fitting.values())
    return AllowList(names, fitting, _UNNAMED if named == ALGORITHMS else fitting)


def _allowed(key_type: KeyType, fits: frozenset[str], named: frozenset[str]) -> frozenset[str]:
    if key_type[0] == "OKP":  # whichever of its names is on the list
        return fits if fits & named else frozenset()
    return fits & named


ALL: Final = allow_list(ALGORITHMS)
