"""Verify a tenant's access tokens, and stop trusting a revoked key at once."""

from jwks_guard.errors import (
    AlgorithmNotAllowedError,
    AmbiguousKeyError,
    ConfigurationError,
    DistrustNotSharedError,
    InsufficientScopeError,
    InvalidClaimError,
    InvalidRequestError,
    InvalidSignatureError,
    InvalidTokenError,
    JWKSGuardError,
    KeysUnavailableError,
    MalformedTokenError,
    MissingClaimError,
    RemovedKeyError,
    RevocationRefusedError,
    RevokedKeyError,
    TokenExpiredError,
    TokenNotYetValidError,
    TokenTypeError,
    UnknownKeyError,
    UnsupportedTokenError,
)
from jwks_guard.keys.distrust import Tombstone
from jwks_guard.keys.events import Event
from jwks_guard.keys.health import HealthReport
from jwks_guard.keys.store import KeyStore
from jwks_guard.multi_issuer import MultiIssuerVerifier
from jwks_guard.sync import SyncTokenVerifier
from jwks_guard.verified_token import VerifiedToken
from jwks_guard.verifier import TokenVerifier

__version__ = "0.1.0"

__all__ = [
    "AlgorithmNotAllowedError",
    "AmbiguousKeyError",
    "ConfigurationError",
    "DistrustNotSharedError",
    "Event",
    "HealthReport",
    "InsufficientScopeError",
    "InvalidClaimError",
    "InvalidRequestError",
    "InvalidSignatureError",
    "InvalidTokenError",
    "JWKSGuardError",
    "KeyStore",
    "KeysUnavailableError",
    "MalformedTokenError",
    "MissingClaimError",
    "MultiIssuerVerifier",
    "RemovedKeyError",
    "RevocationRefusedError",
    "RevokedKeyError",
    "SyncTokenVerifier",
    "TokenExpiredError",
    "TokenNotYetValidError",
    "TokenTypeError",
    "TokenVerifier",
    "Tombstone",
    "UnknownKeyError",
    "UnsupportedTokenError",
    "VerifiedToken",
]
