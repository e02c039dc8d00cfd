"""Keys that the tests of this directory make for themselves; PyJWT writes their JWKs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

PrivateKeys = dict[str, Any]
MakeJWK = Callable[..., dict[str, Any]]


def generate_keys() -> PrivateKeys:
    """Generate one private key of each kind, by `RSA` or the name of its curve."""
    return {
        "RSA": generate_private_key(public_exponent=65537, key_size=2048),
        "P-256": ec.generate_private_key(ec.SECP256R1()),
        "P-384": ec.generate_private_key(ec.SECP384R1()),
        "P-521": ec.generate_private_key(ec.SECP521R1()),
        "Ed25519": Ed25519PrivateKey.generate(),
        "Ed448": Ed448PrivateKey.generate(),
    }


@pytest.fixture(scope="session")
def private_keys() -> PrivateKeys:
    """The issuer's keys, by kind."""
    return generate_keys()


@pytest.fixture(scope="session")
def foreign_keys() -> PrivateKeys:
    """Keys of the same kinds that the issuer never had."""
    return generate_keys()


@pytest.fixture(scope="session")
def public_jwk(private_keys: PrivateKeys) -> MakeJWK:
    """Make the public JWK of one of the private keys; a member given as None is left out."""

    def make(kind: str = "RSA", **members: Any) -> dict[str, Any]:
        public_key = private_keys[kind].public_key()
        if kind == "RSA":
            jwk = RSAAlgorithm.to_jwk(public_key, as_dict=True)
        elif kind.startswith("P-"):
            jwk = ECAlgorithm.to_jwk(public_key, as_dict=True)
        else:
            jwk = OKPAlgorithm.to_jwk(public_key, as_dict=True)
        jwk = {**jwk, "kid": "key-1", "key_ops": None, **members}
        return {name: value for name, value in jwk.items() if value is not None}

    return make
