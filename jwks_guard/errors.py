"""Every error that leaves this library.

JWKSGuardError
|- ConfigurationError (also a ValueError)     at construction or start
|  `- EnvironmentVariableError                 a proxy, or CA certificates that are not there
|- RequestRefusedError                        a request is not let in; what a client is answered
|  |- MissingCredentialsError           401  it carries no token
|  |- InvalidRequestError               400  malformed Authorization, two credentials
|  |- OriginNotAllowedError             403  a cookie, and a page of another origin
|  |- InvalidTokenError                 401  the token's fault
|  |  |- MalformedTokenError                     not a compact JWS with JSON objects in it
|  |  |- UnsupportedTokenError                   JWE, opaque token, critical header extension
|  |  |- AlgorithmNotAllowedError
|  |  |- TokenTypeError
|  |  |- UnknownKeyError                         the issuer does not publish this kid
|  |  |- RemovedKeyError                         the issuer published this kid and withdrew it
|  |  |- RevokedKeyError                         this kid or key is distrusted here
|  |  |- UnusableKeyError                        the issuer publishes this kid, but no usable key
|  |  |- InvalidSignatureError
|  |  |- InvalidClaimError
|  |  |- MissingClaimError
|  |  |- BindingRequiredError                    the proof of a proof-bound token is missing
|  |  |- TokenExpiredError
|  |  `- TokenNotYetValidError
|  |- InsufficientScopeError            403
|  `- KeysUnavailableError              503  our fault: no key that may be trusted now
|     `- LookUpThrottledError           429  an unknown kid or issuer, and too many were looked up
|- DistrustNotSharedError                     refused here, but not written down or passed on
|- ManagementAPIError                         the tenant's Management API gave no good answer
|  |- UnauthorizedError                       it rejects the token or the client
|  |- ForbiddenError                          a scope is missing
|  |- NotFoundError                           there is no such key
|  |- RateLimitedError                        too many requests; says when to ask again
|  `- UnavailableError                        it could not be reached, or failed
|- RotationRefusedError                       a verifier does not hold the next key yet
|- RotationUncertainError                     it may have rotated or not: look before going on
`- RevocationRefusedError                     it would refuse tokens that are still needed

No message holds a token, a claim's value or a secret; an `iss` that differs from the configured
issuer in a trailing slash alone is quoted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime


class JWKSGuardError(Exception):
    """Base of all errors of this library.

    `code` is a stable string for logs and metrics, `http_status` the status an API answers with.
    """

    code: ClassVar[str] = "error"
    http_status: ClassVar[int] = 500
    kid: str | None = None
    """The key that the refused token names, where it was read: untrusted text."""


class ConfigurationError(JWKSGuardError, ValueError):
    """An argument or a file can't be used; the message names it and says what to write instead."""

    code = "configuration"


class EnvironmentVariableError(ConfigurationError):
    """A variable of the environment keeps this process from reaching others; it is named."""

    code = "environment"


@dataclass(frozen=True, slots=True)
class Refusal:
    """The HTTP answer to a request that is not let in.

    `headers` are pairs of bytes with lower-case names, each name once; `body` is what they
    describe.
    """

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    @property
    def fields(self) -> dict[str, str]:
        """The headers as text, for frameworks that take them so."""
        return {name.decode("latin-1"): value.decode("latin-1") for name, value in self.headers}


class RequestRefusedError(JWKSGuardError):
    """A request is not let in: the base of all that a client is answered with.

    `refusal` is that answer; a RequestGuard sets it on what it raises.
    """

    code = "request_refused"
    http_status = 401
    refusal: Refusal


class MissingCredentialsError(RequestRefusedError):
    """The request carries no token, or its Authorization header is of another scheme."""

    code = "missing_credentials"


class InvalidRequestError(RequestRefusedError):
    """The request carries its credentials in a way RFC 6750 section 3.1 calls invalid_request."""

    code = "invalid_request"
    http_status = 400


class OriginNotAllowedError(RequestRefusedError):
    """The token is in a cookie, and the page that sent the request is of no allowed origin."""

    code = "origin_not_allowed"
    http_status = 403


class InvalidTokenError(RequestRefusedError):
    """The token can't be accepted, and that is the token's fault (RFC 6750: invalid_token)."""

    code = "invalid_token"
    http_status = 401


class MalformedTokenError(InvalidTokenError):
    """Not a compact JWS (RFC 7515 section 3.1) whose header and payload are JSON objects."""

    code = "malformed_token"


class UnsupportedTokenError(InvalidTokenError):
    """A kind of token that this library does not verify: JWE, opaque, or with `crit`."""

    code = "unsupported_token"


class AlgorithmNotAllowedError(InvalidTokenError):
    """The header's `alg` is not on the allow-list or not the one its key is bound to."""

    code = "algorithm_not_allowed"


class TokenTypeError(InvalidTokenError):
    """The header's `typ` is not one of the accepted token types (RFC 8725 section 3.11)."""

    code = "token_type"


class UnknownKeyError(InvalidTokenError):
    """The issuer, asked recently, does not publish the token's `kid`."""

    code = "unknown_key"


class RemovedKeyError(InvalidTokenError):
    """The issuer published the token's `kid` before and has withdrawn it."""

    code = "removed_key"


class RevokedKeyError(InvalidTokenError):
    """The token's `kid`, or the key behind it, is distrusted on this instance."""

    code = "revoked_key"


class UnusableKeyError(InvalidTokenError):
    """The issuer publishes the token's `kid`, but no one key of it that can be used.

    The message has the reason: a JWK that is not fit for use, or two different ones that both are.
    """

    code = "unusable_key"


class InvalidSignatureError(InvalidTokenError):
    """The signature does not verify under the key that was found for the token."""

    code = "invalid_signature"


class InvalidClaimError(InvalidTokenError):
    """The claim named by `claim` has a value or a type that is not accepted.

    `claim` is empty where no single claim is the cause.
    """

    code = "invalid_claim"

    def __init__(self, message: str, claim: str) -> None:
        super().__init__(message, claim)
        self.claim = claim

    def __str__(self) -> str:
        return str(self.args[0])


class MissingClaimError(InvalidTokenError):
    """The required claim named by `claim` is not in the token."""

    code = "missing_claim"

    def __init__(self, message: str, claim: str) -> None:
        super().__init__(message, claim)
        self.claim = claim

    def __str__(self) -> str:
        return str(self.args[0])


class BindingRequiredError(InvalidTokenError):
    """The token is bound to a key (`cnf`, RFC 7800), and no proof of that key was checked."""

    code = "binding_required"


class TokenExpiredError(InvalidTokenError):
    """The token's `exp` (or its `max_token_age`) has passed."""

    code = "token_expired"


class TokenNotYetValidError(InvalidTokenError):
    """The token's `nbf` or `iat` lies ahead by more than is allowed."""

    code = "token_not_yet_valid"


class InsufficientScopeError(RequestRefusedError):
    """A good token that does not grant what this request needs.

    `required` are scopes that would be enough; none where it is permissions that are missing.
    """

    code = "insufficient_scope"
    http_status = 403

    def __init__(self, message: str, required: tuple[str, ...] = ()) -> None:
        super().__init__(message, required)
        self.required = required

    def __str__(self) -> str:
        return str(self.args[0])


class KeysUnavailableError(RequestRefusedError):
    """No key may be trusted at the moment; ask again in `retry_after` seconds."""

    code = "keys_unavailable"
    http_status = 503

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        super().__init__(message, retry_after)
        self.retry_after = retry_after

    def __str__(self) -> str:
        return str(self.args[0])


class LookUpThrottledError(KeysUnavailableError):
    """The token's key or issuer was not looked up: too many were; ask in `retry_after` seconds.

    Whether the token is good is not known.
    """

    code = "look_up_throttled"
    http_status = 429


class DistrustNotSharedError(JWKSGuardError):
    """This instance refuses the key already, but the decision was not stored or passed on.

    Repeat the call once the cause named in the message is mended. `here` is False where it was a
    fleet that was told, of which nobody is in this process: then nobody is known to refuse the key.
    """

    code = "distrust_not_shared"
    here: bool = True


class ManagementAPIError(JWKSGuardError):
    """The Management API refused a call or answered with something that can't be used.

    `status` is the HTTP status, None when there was no answer; `error_code` the `errorCode` of its
    body, often absent; `retry_after` the seconds after which to ask again, where it said so.
    """

    code = "management_api"
    http_status = 502

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        error_code: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.error_code = error_code
        self.retry_after = retry_after


class UnauthorizedError(ManagementAPIError):
    """The Management API rejects the token, or the token endpoint the client (401)."""

    code = "management_unauthorized"


class ForbiddenError(ManagementAPIError):
    """The token does not allow this call (403); `required` names the scopes to grant, if known."""

    code = "management_forbidden"
    required: tuple[str, ...] = ()


class NotFoundError(ManagementAPIError):
    """The tenant has no signing key of that kid (404)."""

    code = "management_not_found"


class RateLimitedError(ManagementAPIError):
    """Too many requests (429); `reset_at` says when there is room again, as an aware datetime."""

    code = "management_rate_limited"
    http_status = 503
    reset_at: datetime | None = None


class UnavailableError(ManagementAPIError):
    """The Management API could not be reached, did not answer in time, or failed (5xx).

    `sent` is False where the request certainly never left this machine.
    """

    code = "management_unavailable"
    http_status = 503
    sent: bool = True


class RotationRefusedError(JWKSGuardError):
    """Rotating now would hurry somebody: a verifier does not hold the next key; nothing was done.

    `lacking` names the verifiers and `kid` the next key.
    """

    code = "rotation_refused"
    http_status = 409
    lacking: tuple[str, ...] = ()


class RotationUncertainError(JWKSGuardError):
    """The answer to a rotation was lost, and the list of keys does not show exactly one step.

    `before` and `after` are the signing keys as listed before the call and last after it.
    """

    code = "rotation_uncertain"
    http_status = 502

    def __init__(
        self,
        message: str,
        *,
        before: Sequence[Any] = (),
        after: Sequence[Any] = (),
    ) -> None:
        super().__init__(message)
        self.before = tuple(before)
        self.after = tuple(after)


class RevocationRefusedError(JWKSGuardError):
    """Doing this would refuse tokens that are still needed; nothing was changed.

    `report` says in detail what it would break, where that was found out.
    """

    code = "revocation_refused"
    http_status = 409
    report: object | None = None
