"""Verify a tenant's access tokens, and stop trusting a revoked key at once."""

from jwks_guard.base.events import Event
from jwks_guard.distrust.register import Register
from jwks_guard.distrust.state import Distrusted
from jwks_guard.errors import (
    AlgorithmNotAllowedError,
    BindingRequiredError,
    ConfigurationError,
    DistrustNotSharedError,
    EnvironmentVariableError,
    ForbiddenError,
    InsufficientScopeError,
    InvalidClaimError,
    InvalidRequestError,
    InvalidSignatureError,
    InvalidTokenError,
    JWKSGuardError,
    KeysUnavailableError,
    LookUpThrottledError,
    MalformedTokenError,
    ManagementAPIError,
    MissingClaimError,
    NotFoundError,
    RateLimitedError,
    RemovedKeyError,
    RevocationRefusedError,
    RevokedKeyError,
    RotationRefusedError,
    RotationUncertainError,
    TokenExpiredError,
    TokenNotYetValidError,
    TokenTypeError,
    UnauthorizedError,
    UnavailableError,
    UnknownKeyError,
    UnsupportedTokenError,
    UnusableKeyError,
)
from jwks_guard.keys.health import HealthReport
from jwks_guard.keys.store import KeyStore
from jwks_guard.readiness.usage import KeyUsage
from jwks_guard.verify.multi_issuer import MultiIssuerVerifier
from jwks_guard.verify.sync import SyncTokenVerifier
from jwks_guard.verify.token import VerifiedToken
from jwks_guard.verify.verifier import TokenVerifier

__version__ = "0.1.0"

__all__ = [
    "AlgorithmNotAllowedError",
    "BindingRequiredError",
    "ConfigurationError",
    "DistrustNotSharedError",
    "Distrusted",
    "EnvironmentVariableError",
    "Event",
    "ForbiddenError",
    "HealthReport",
    "InsufficientScopeError",
    "InvalidClaimError",
    "InvalidRequestError",
    "InvalidSignatureError",
    "InvalidTokenError",
    "JWKSGuardError",
    "KeyStore",
    "KeyUsage",
    "KeysUnavailableError",
    "LookUpThrottledError",
    "MalformedTokenError",
    "ManagementAPIError",
    "MissingClaimError",
    "MultiIssuerVerifier",
    "NotFoundError",
    "RateLimitedError",
    "Register",
    "RemovedKeyError",
    "RevocationRefusedError",
    "RevokedKeyError",
    "RotationRefusedError",
    "RotationUncertainError",
    "SyncTokenVerifier",
    "TokenExpiredError",
    "TokenNotYetValidError",
    "TokenTypeError",
    "TokenVerifier",
    "UnauthorizedError",
    "UnavailableError",
    "UnknownKeyError",
    "UnsupportedTokenError",
    "UnusableKeyError",
    "VerifiedToken",
]
