"""How a client proves who it is: a ready token, a client secret, or a signed assertion."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import InitVar, dataclass, field
from typing import Literal

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from jwks_guard.base.arguments import require_text
from jwks_guard.errors import ConfigurationError

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ASSERTION_SECONDS = 180
"""Auth0 takes assertions of up to 300 s; the rest is for clocks that differ."""
_ALGORITHMS = ("RS256", "RS384", "PS256")
_HEADER_SAFE = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True)
class StaticToken:
    """A Management API token that is there already, for example from the dashboard.

    It can't be renewed: once it has expired, or the key that signed it was revoked, calls raise
    UnauthorizedError.
    """

    token: str = field(repr=False)

    def __post_init__(self) -> None:
        _require_secret("token", self.token)


@dataclass(frozen=True, slots=True)
class ClientCredentials:
    """A machine-to-machine application with a client secret (RFC 6749 section 4.4).

    `audience` is that of the Management API, by default https://{domain}/api/v2/; it has to be
    given where `domain` is a custom domain.
    """

    client_id: str
    client_secret: str = field(repr=False)
    audience: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        _require_client(self.client_id, self.audience)
        _require_secret("client_secret", self.client_secret)

    def proof(self, base_url: str, now: float) -> Mapping[str, str]:
        """The secret, as a member of the token request's body."""
        return {"client_secret": self.client_secret}


@dataclass(frozen=True, slots=True)
class PrivateKeyJWT:
    """A machine-to-machine application with a key of its own (RFC 7523, Auth0 "Private Key JWT").

    `private_key` is an RSA key in unencrypted PEM, or an RSAPrivateKey; `kid` that of the
    credential, where the application has several; `audience` as for ClientCredentials.
    """

    client_id: str
    private_key: InitVar[str | bytes | RSAPrivateKey]
    algorithm: Literal["RS256", "RS384", "PS256"] = field(default="RS256", kw_only=True)
    kid: str | None = field(default=None, kw_only=True)
    audience: str | None = field(default=None, kw_only=True)
    _key: RSAPrivateKey = field(init=False, repr=False)

    def __post_init__(self, private_key: str | bytes | RSAPrivateKey) -> None:
        _require_client(self.client_id, self.audience)
        if self.algorithm not in _ALGORITHMS:
            raise ConfigurationError(f"algorithm must be one of {', '.join(_ALGORITHMS)}.")
        if self.kid is not None:
            require_text("kid", self.kid)
        object.__setattr__(self, "_key", _rsa_key(private_key))

    def proof(self, base_url: str, now: float) -> Mapping[str, str]:
        """An assertion for the domain `base_url` that is good once (RFC 7523 section 3)."""
        claims = {
            "iss": self.client_id,
            "sub": self.client_id,
            "aud": base_url,
            "iat": int(now),
            "exp": int(now) + ASSERTION_SECONDS,
            "jti": secrets.token_urlsafe(24),
        }
        header = None if self.kid is None else {"kid": self.kid}
        assertion = jwt.encode(claims, self._key, self.algorithm, header)
        return {"client_assertion": assertion, "client_assertion_type": ASSERTION_TYPE}


Auth = StaticToken | ClientCredentials | PrivateKeyJWT


def require_auth(value: object) -> None:
    """Raise ConfigurationError unless `value` says how to authenticate."""
    if not isinstance(value, Auth):
        raise ConfigurationError(
            "auth must be ClientCredentials(client_id, client_secret), "
            "PrivateKeyJWT(client_id, private_key) or StaticToken(token)."
        )


def _require_client(client_id: object, audience: object) -> None:
    require_text("client_id", client_id)
    if audience is not None:
        require_text("audience", audience)


def _require_secret(name: str, value: object) -> None:
    # A line end, as files have one, would end the header that a token goes into.
    if not isinstance(value, str) or not _HEADER_SAFE.fullmatch(value):
        raise ConfigurationError(
            f"{name} must be a non-empty string of printable ASCII without white space."
        )


def _rsa_key(given: str | bytes | RSAPrivateKey) -> RSAPrivateKey:
    if isinstance(given, RSAPrivateKey):
        return given
    pem = given.encode() if isinstance(given, str) else given
    try:
        key = load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, RSAPrivateKey):
        raise ConfigurationError(
            "private_key must be an RSA private key in unencrypted PEM (PKCS #8 or PKCS #1)."
        )
    return key
