"""Who may look at an instance, and who may tell it what to refuse."""

from __future__ import annotations

import asyncio
import hmac
import os
from collections.abc import Iterable, Sequence
from hashlib import sha256
from inspect import iscoroutinefunction
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, Self, TypeAlias

from jwks_guard.base.arguments import require_secret
from jwks_guard.errors import (
    ConfigurationError,
    InsufficientScopeError,
    InvalidTokenError,
    KeysUnavailableError,
    MissingCredentialsError,
)
from jwks_guard.keys.hints import PAUSE_SECONDS
from jwks_guard.net.bearer import Header, bearer_token
from jwks_guard.verify.requirement import requirement

if TYPE_CHECKING:
    from jwks_guard.verify.stores import Stores
    from jwks_guard.verify.token import VerifiedToken

Permission = Literal["read", "distrust"]
_MOST_SECRETS = 2
_MOST_LOOKS = 100


class StaticSecrets:
    """One secret that callers show, or two while it is being replaced.

    Each is of 16 characters or more, of letters, digits and -._~+/ alone. Raises
    ConfigurationError.
    """

    __slots__ = ("_digests",)

    def __init__(self, *secrets: str) -> None:
        if not 1 <= len(secrets) <= _MOST_SECRETS:
            raise ConfigurationError("Give one secret, or two while the first is being replaced.")
        for secret in secrets:
            require_secret(secret)
        # Digests are of one length: comparing them does not tell that of a secret.
        self._digests = tuple(sha256(secret.encode()).digest() for secret in secrets)

    @classmethod
    def from_environment(cls, *names: str) -> Self:
        """The values of these variables; the second one may be missing or empty."""
        values = [os.environ.get(name, "").strip() for name in names]
        if not values or not values[0]:
            raise ConfigurationError(f"The environment variable {names[:1]} holds no secret.")
        return cls(*(value for value in values if value))

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Self:
        """The lines of a file that are not empty."""
        try:
            lines = Path(path).read_text("utf-8").split()
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"The file with the secret can't be read ({type(error).__name__}): {path}"
            ) from None
        return cls(*lines)

    def shares_one_with(self, other: StaticSecrets) -> bool:
        """Whether one of these secrets is one of `other` too."""
        return not set(self._digests).isdisjoint(other._digests)

    def require(self, given: bytes) -> None:
        """Raise InvalidTokenError unless `given` is one of the secrets, in constant time."""
        digest, found = sha256(given).digest(), False
        for known in self._digests:  # all of them: how long it takes says nothing
            found = hmac.compare_digest(digest, known) or found
        if not found:
            raise InvalidTokenError("The secret is not the one that is expected here.")


Secrets: TypeAlias = StaticSecrets | str | Sequence[str]


def static_secrets(secrets: Secrets) -> StaticSecrets:
    """The secrets, however they are given; raises ConfigurationError."""
    if isinstance(secrets, StaticSecrets):
        return secrets
    return StaticSecrets(*([secrets] if isinstance(secrets, str) else secrets))


class TokenAcceptor(Protocol):
    """A TokenVerifier or MultiIssuerVerifier of those who operate the API."""

    async def verify(self, compact: str | bytes) -> VerifiedToken:
        """The verified token; raises if it is not accepted now."""
        ...


OperationsAuth: TypeAlias = Secrets | TokenAcceptor


class Admission:
    """Admits by `auth`. Tokens need the scope for what is asked.

    Tokens of the issuers in `stores`, or signed by a key that these have ever published, at most
    read: the key that is being revoked must not guard its own revocation. An issuer with a second
    name, like a custom domain, publishes the same keys. Of issuers that were added at run time only
    the name counts: a hostile one could publish the operators' key, or never answer.
    """

    def __init__(
        self,
        auth: OperationsAuth,
        stores: Stores,
        scopes: dict[Permission, str],
    ) -> None:
        self._stores = stores
        self._configured = stores.configured
        self._required = {name: requirement([scope]) for name, scope in scopes.items()}
        self._secrets: StaticSecrets | None = None
        self._tokens: TokenAcceptor | None = None
        self._looks: dict[str, tuple[float, asyncio.Future[list[None]]]] = {}
        if isinstance(auth, StaticSecrets | str | Sequence):
            self._secrets = static_secrets(auth)
        elif iscoroutinefunction(getattr(auth, "verify", None)):
            self._tokens = auth
        else:
            raise ConfigurationError(
                "operations_auth must be a secret, StaticSecrets, or the TokenVerifier of another "
                "issuer; not a SyncTokenVerifier, which would block the event loop."
            )

    async def admit(self, headers: Iterable[Header], permission: Permission) -> None:
        """Return if the sender of `headers` may do that; else raise RequestRefusedError."""
        credentials = bearer_token(headers)
        if credentials is None:
            raise MissingCredentialsError("the request has no Authorization header")
        if self._secrets is not None:
            self._secrets.require(credentials)
        elif self._tokens is not None:
            token = await self._tokens.verify(credentials)
            required = self._required[permission]
            required.check(token)
            if permission != "read":
                await self._require_foreign(token, required.scopes)

    async def _require_foreign(self, token: VerifiedToken, required: tuple[str, ...]) -> None:
        key, prints = token._key, set[str]()
        if key is None or any(store.issuer == token.issuer for store in self._stores()):
            raise InsufficientScopeError("a guarded key signed this token", required)
        await self._look_for(key.thumbprint)
        for store in self._configured:
            prints.update(*store.trust.published.seen.values())
        if key.thumbprint in prints:
            raise InsufficientScopeError("a guarded key signed this token", required)
        if not all(store.trust.published.seen for store in self._configured):
            raise KeysUnavailableError(
                "It can't be told yet whether this token is signed by a guarded key."
            )

    async def _look_for(self, thumbprint: str) -> None:
        """Fetch the guarded keys: one that is new, under another name, must be known here too.

        For one key that is done once in a pause, and those who come within it share its outcome.
        """
        now = self._stores.clock.monotonic()
        begun, look = self._looks.get(thumbprint, (now - PAUSE_SECONDS, None))
        if look is None or now - begun >= PAUSE_SECONDS:
            if len(self._looks) >= _MOST_LOOKS:
                self._looks.clear()
            look = asyncio.gather(*(store.refresh() for store in self._configured))
            self._looks[thumbprint] = now, look
        await asyncio.shield(look)
