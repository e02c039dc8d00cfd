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
    MissingCredentialsError,
    NotFoundError,
    OriginNotAllowedError,
    RateLimitedError,
    Refusal,
    RemovedKeyError,
    RequestRefusedError,
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
from jwks_guard.net.refusals import problem_json
from jwks_guard.readiness.clients import ClientUsage
from jwks_guard.readiness.usage import KeyUsage
from jwks_guard.verify.multi_issuer import MultiIssuerVerifier
from jwks_guard.verify.request import Authenticated, RequestGuard, SyncRequestGuard
from jwks_guard.verify.sources import FromCookie, FromHeader
from jwks_guard.verify.sync import SyncTokenVerifier
from jwks_guard.verify.token import VerifiedToken
from jwks_guard.verify.verifier import TokenVerifier

__version__ = "0.2.0"

__all__ = [
    "AlgorithmNotAllowedError",
    "Authenticated",
    "BindingRequiredError",
    "ClientUsage",
    "ConfigurationError",
    "DistrustNotSharedError",
    "Distrusted",
    "EnvironmentVariableError",
    "Event",
    "ForbiddenError",
    "FromCookie",
    "FromHeader",
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
    "MissingCredentialsError",
    "MultiIssuerVerifier",
    "NotFoundError",
    "OriginNotAllowedError",
    "RateLimitedError",
    "Refusal",
    "Register",
    "RemovedKeyError",
    "RequestGuard",
    "RequestRefusedError",
    "RevocationRefusedError",
    "RevokedKeyError",
    "RotationRefusedError",
    "RotationUncertainError",
    "SyncRequestGuard",
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
    "problem_json",
]
