"""Authorization codes (RFC 6749 section 4.1) and what each of them stands for."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING

from jwt.utils import base64url_encode

from jwks_guard.testing.oauth_form import OAuthError

if TYPE_CHECKING:
    from jwks_guard.testing.settings import Clock

CODE_LIFETIME = 60.0  # s; RFC 6749 section 4.1.2 allows ten minutes
_MOST = 1_000  # codes that nobody redeems must not fill the memory
_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")  # a SHA-256 in base64url
_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")  # RFC 7636 section 4.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """What a user agreed to, and for whom."""

    sub: str
    scope: str
    audience: str
    redirect_uri: str
    nonce: str | None
    code_challenge: str | None

    @property
    def scopes(self) -> list[str]:
        """The single scopes."""
        return self.scope.split()


class Codes:
    """Codes for logins. Each can be redeemed once, within `CODE_LIFETIME` seconds."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = Lock()
        self._logins: dict[str, tuple[float, Login]] = {}

    def issue(self, login: Login) -> str:
        """A new code for `login`."""
        code = secrets.token_urlsafe(32)
        with self._lock:
            if len(self._logins) >= _MOST:
                del self._logins[next(iter(self._logins))]
            self._logins[code] = (self._clock.time() + CODE_LIFETIME, login)
        return code

    def redeem(self, parameters: Mapping[str, str]) -> Login:
        """The login of the code in a token request, which is used up even if it is refused.

        Raises OAuthError if the code is unknown, was used or has expired, or if `redirect_uri` or
        `code_verifier` are not those that the login began with.
        """
        with self._lock:
            ends, login = self._logins.pop(parameters.get("code", ""), (0.0, None))
        if login is None or self._clock.time() >= ends:
            raise _invalid("The code is unknown, was used before or has expired.")
        if parameters.get("redirect_uri") != login.redirect_uri:
            raise _invalid("redirect_uri is not the one that the login began with.")
        verifier = parameters.get("code_verifier")
        if not _verifies(verifier, login.code_challenge):
            raise _invalid("code_verifier does not fit code_challenge.")
        return login


def is_challenge(text: str) -> bool:
    """Whether `text` can be a `code_challenge` of the method S256 (RFC 7636 section 4.2)."""
    return _CHALLENGE.fullmatch(text) is not None


def _verifies(verifier: str | None, challenge: str | None) -> bool:
    if verifier is None or challenge is None:
        # A verifier without a challenge: someone took the challenge out (RFC 9700 section 4.8.2).
        return verifier is challenge
    digest = base64url_encode(hashlib.sha256(verifier.encode()).digest())
    return bool(_VERIFIER.fullmatch(verifier)) and hmac.compare_digest(digest, challenge.encode())


def _invalid(description: str) -> OAuthError:
    return OAuthError(400, "invalid_grant", description)
