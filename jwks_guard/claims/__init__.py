"""Claim checks: rules of an API beyond issuer, audience, client and dates.

A claim check is a callable that takes the claims set, as a read-only mapping, and raises
InvalidClaimError or MissingClaimError for a token that is to be refused. It returns None. The
functions here make the usual ones; `TokenVerifier(..., claim_checks=[...])` runs them.

A claim that is null counts as missing. Values are compared by their JSON type: true is not 1 and
"1" is not 1, but 1 and 1.0 are one number (RFC 8259 section 6). Checks made with equal arguments
are equal. No message shows a claim's value.
"""

from jwks_guard.claims.checks import (
    Scalar,
    actor,
    client,
    equals,
    includes,
    one_of,
    organization,
    profile_rfc9068,
)
from jwks_guard.claims.combining import ClaimCheck, combined

__all__ = [
    "ClaimCheck",
    "Scalar",
    "actor",
    "client",
    "combined",
    "equals",
    "includes",
    "one_of",
    "organization",
    "profile_rfc9068",
]
