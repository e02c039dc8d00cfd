"""The token of the call that is served."""

from __future__ import annotations

from contextvars import ContextVar

from jwks_guard.errors import ConfigurationError
from jwks_guard.verify.token import VerifiedToken

call_token: ContextVar[VerifiedToken | None] = ContextVar("jwks_guard_call_token", default=None)
"""The token of the call that this code serves; None for one that was let in without."""


def get_token() -> VerifiedToken:
    """The token of the call that this code serves.

    Raises ConfigurationError where a call was let in without one, or no interceptor is.
    """
    token = call_token.get()
    if token is None:
        raise ConfigurationError(
            "This call has no verified token. Give the server a GuardInterceptor (an "
            "AioGuardInterceptor for grpc.aio), without exclude_methods for this method and "
            "without optional; where calls may be anonymous, look at call_token.get(), which is "
            "None then."
        )
    return token
