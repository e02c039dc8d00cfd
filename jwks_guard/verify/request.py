"""RequestGuard: from a request's headers to its verified token, or to the answer that refuses it.

Without a web framework: the ASGI middleware and every integration are made of these.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial
from inspect import iscoroutinefunction
from typing import Any, Protocol, Self, TypeAlias, TypedDict, Unpack, cast

import msgspec

from jwks_guard.base.arguments import require_flag
from jwks_guard.base.observer import Observer, tell
from jwks_guard.claims.combining import ClaimCheck, combined
from jwks_guard.errors import (
    ConfigurationError,
    KeysUnavailableError,
    MissingCredentialsError,
    Refusal,
    RequestRefusedError,
)
from jwks_guard.net import refusals
from jwks_guard.net.bearer import Header, b64token
from jwks_guard.verify.requirement import Requirement, requirement
from jwks_guard.verify.sources import (
    FromHeader,
    Headers,
    HTTPRequest,
    Request,
    TokenSource,
    as_bytes,
    find_token,
    header_fields,
    token_sources,
)
from jwks_guard.verify.sync import SyncTokenVerifier
from jwks_guard.verify.token import VerifiedToken

_log = logging.getLogger(__name__)

OnRefusal: TypeAlias = Callable[[Refusal, RequestRefusedError], Refusal]


class Verifier(Protocol):
    """A TokenVerifier or MultiIssuerVerifier."""

    def verify(self, compact: str | bytes) -> Awaitable[VerifiedToken]:
        """The verified token; raises if it is not accepted now."""


class SyncVerifier(Protocol):
    """A SyncTokenVerifier."""

    def verify(self, compact: str | bytes) -> VerifiedToken:
        """The verified token; raises if it is not accepted now."""


class Requirements(TypedDict, total=False):
    """The keyword arguments of `requiring`, where they are handed through."""

    required_scopes: Collection[str]
    any_scopes: Collection[str]
    required_permissions: Collection[str]
    claim_checks: Collection[ClaimCheck]


class GuardOptions(Requirements, total=False):
    """The keyword arguments of RequestGuard, where they are handed through."""

    token_from: TokenSource | Sequence[TokenSource] | None
    optional: bool
    realm: str | None
    resource_metadata: str | refusals.HasURL | None
    debug_errors: bool
    on_refusal: OnRefusal | None


class Authenticated(msgspec.Struct, frozen=True):
    """A request that is let in.

    `token` is None for an anonymous one, which only `optional` lets in. `response_headers` belong
    into the response to it.
    """

    token: VerifiedToken | None
    response_headers: tuple[Header, ...] = ()


ANONYMOUS = Authenticated(None)


class _Rules:
    """What both guards do the same: find the token, judge what it grants, word a refusal."""

    def __init__(
        self,
        *,
        token_from: TokenSource | Sequence[TokenSource] | None = None,
        required_scopes: Collection[str] = (),
        any_scopes: Collection[str] = (),
        required_permissions: Collection[str] = (),
        claim_checks: Collection[ClaimCheck] = (),
        optional: bool = False,
        realm: str | None = None,
        resource_metadata: str | refusals.HasURL | None = None,
        debug_errors: bool = False,
        on_refusal: OnRefusal | None = None,
    ) -> None:
        self.sources = token_sources(token_from)
        one = len(self.sources) == 1
        self._observer: Observer | None = None
        source = self.sources[0] if one else partial(find_token, self.sources)
        # To call an object goes through a slot of its type, which takes as long as to search.
        self._source = source.__call__ if isinstance(source, FromHeader) else source
        require_flag("optional", optional)
        require_flag("debug_errors", debug_errors)
        usable = on_refusal is None or callable(on_refusal)
        if not usable or iscoroutinefunction(on_refusal):
            raise ConfigurationError("on_refusal must be a function that is not async, or None.")
        self.optional = optional
        self._logged: set[str] = set()
        required = requirement(required_scopes, any_scopes, required_permissions)
        self._checks = self._checks_of(required, claim_checks)
        self._on_refusal = on_refusal
        self._word = partial(
            refusals.refusal,
            realm=None if realm is None else refusals.quotable_realm(realm),
            resource_metadata=(
                None if resource_metadata is None else refusals.metadata_url(resource_metadata)
            ),
            debug=debug_errors,
        )

    def requiring(
        self,
        *,
        required_scopes: Collection[str] = (),
        any_scopes: Collection[str] = (),
        required_permissions: Collection[str] = (),
        claim_checks: Collection[ClaimCheck] = (),
    ) -> Self:
        """A guard like this one whose tokens have to grant and pass all that, too.

        It lets no anonymous request in, although `optional` is set.
        """
        other = copy.copy(self)
        other.optional = False
        more = requirement(required_scopes, any_scopes, required_permissions)
        other._checks = (*self._checks, *self._checks_of(more, claim_checks))
        return other

    def check(self, token: VerifiedToken | None) -> None:
        """Look whether there is a `token`, verified before, that grants what this guard requires.

        Raises MissingCredentialsError, InsufficientScopeError, or what a claim check raises, with
        its `refusal`.
        """
        try:
            if token is None:
                raise MissingCredentialsError("the request carries no token")
            self._check(token)
        except (RequestRefusedError, ConfigurationError) as error:
            raise self._refused(error, None) from None

    def _checks_of(
        self, required: Requirement, claim_checks: Collection[ClaimCheck]
    ) -> tuple[Callable[[VerifiedToken], None], ...]:
        checks: list[Callable[[VerifiedToken], None]] = [required.check] if required else []
        of_claims = combined(claim_checks, logged=self._logged)
        if of_claims is not None:
            checks.append(lambda token: of_claims(token.claims))
        return tuple(checks)

    def _otherwise(self, found: object) -> bytes | None:
        """The token that a source gave, if not as bytes; None for a request let in without one."""
        compact = as_bytes(found)
        if compact is None and not self.optional:
            raise MissingCredentialsError("the request carries no token")
        return compact

    def _check(self, token: object) -> None:
        if not isinstance(token, VerifiedToken):  # None would pass for an anonymous request
            raise ConfigurationError(
                f"the verifier gave {type(token).__name__}; it has to give a VerifiedToken or raise"
            )
        for check in self._checks:
            check(token)

    def _refused(
        self, error: RequestRefusedError | ConfigurationError, compact: bytes | None
    ) -> RequestRefusedError:
        """The error to raise for `error`, with its `refusal`."""
        if isinstance(error, ConfigurationError):  # of this service: no client's fault
            self._log_once(f"tokens are refused with 503: {error}")
            refused: RequestRefusedError = KeysUnavailableError(str(error))
            refused.__cause__ = error
        else:
            # Looked at only here: what a verifier accepts has the syntax.
            refused = _malformed(compact) or error
        refused.refusal = self._word(refused)
        if self._observer is not None:
            tell(self._observer.answered, type(refused).code)
        if self._on_refusal is not None:
            self._reword(self._on_refusal, refused)
        _log.debug("refused with %d: %s", refused.http_status, refused.code)
        return refused

    def _reword(self, on_refusal: OnRefusal, refused: RequestRefusedError) -> None:
        worded: object = on_refusal(refused.refusal, refused)
        if isinstance(worded, Refusal):
            refused.refusal = worded
        else:
            self._log_once(f"on_refusal gave {type(worded).__name__}; it has to give a Refusal")

    def _log_once(self, text: str) -> None:
        if text not in self._logged:
            self._logged.add(text)
            _log.error("%s", text)

    def refusal(self, error: RequestRefusedError) -> Refusal:
        """The answer to a request that failed with `error`, as this guard words it."""
        return self._refused(error, None).refusal


class RequestGuard(_Rules):
    """Lets in requests whose bearer token `verifier` accepts, whatever the framework (RFC 6750).

    Arguments:
        verifier: a TokenVerifier or MultiIssuerVerifier.
        token_from: where the token is: FromHeader(...), FromCookie(...), a function that takes the
            request (`method`, `url`, `headers`, `native`) and gives the token or None, or a list of
            these. Only what is named here is looked at; a request that carries two tokens gets
            400. By default the Authorization header alone.
        required_scopes: the scopes that every token must have, all of them, in `scope` or `scp`:
            what its client was granted.
        any_scopes: scopes of which every token must have one. A refusal names the first of them.
        required_permissions: the permissions that every token must have, all of them, in Auth0's
            RBAC claim `permissions`: what its user may do, whatever the client was granted.
        claim_checks: called with the claims of each request's token; see `jwks_guard.claims`.
        optional: lets a request that carries no token in as anonymous. A bad token, or an
            Authorization header of another scheme, is refused all the same.
        realm: the challenge's `realm`.
        resource_metadata: the URL of the protected resource's metadata, for the challenge (RFC 9728
            section 5.1), or what `protected_resource_metadata` gives; serving it is for the app.
        debug_errors: tells clients the error's code and message. Not for production.
        on_refusal: called with each Refusal and its error; gives the Refusal to answer with.
            `problem_json` is one.

    Raises ConfigurationError for an argument that can't be used.

    """

    def __init__(self, verifier: Verifier, **options: Unpack[GuardOptions]) -> None:
        super().__init__(**options)
        given: object = verifier
        if isinstance(given, SyncTokenVerifier):  # it would block, and raise TypeError then
            raise ConfigurationError(
                f"{type(given).__name__} can't be awaited; make a TokenVerifier of the same "
                "arguments, or a SyncRequestGuard."
            )
        self.verifier = verifier
        self._observer = getattr(verifier, "observer", None)

    async def authenticate(
        self, *, method: str, url: str, headers: Headers, native: Any = None
    ) -> Authenticated:
        """Let a request in, or raise what it is to be answered with.

        `headers` are a mapping, or pairs of text or bytes in which a field that was sent twice
        stands twice. `native` is for a `token_from` function. The URL of a WebSocket's handshake
        begins with `ws`.

        Raises RequestRefusedError, whose `refusal` has status, headers and body: 400, 401, 403,
        429, or 503, also where the verifier raises ConfigurationError, which is logged once.
        """
        token = await self.admit(HTTPRequest(method, url, header_fields(headers), native))
        return ANONYMOUS if token is None else Authenticated(token)

    async def admit(self, request: Request) -> VerifiedToken | None:
        """The token that lets `request` in, None for an anonymous one; raises as `authenticate`."""
        compact = None
        try:
            source = self._source
            found = source(request)
            # Most requests come by here: calls that most don't need would cost them a tenth.
            compact = found if type(found) is bytes else self._otherwise(found)
            if compact is None:
                return None
            token = await self.verifier.verify(compact)
            if self._checks or type(token) is not VerifiedToken:
                self._check(token)
        except (RequestRefusedError, ConfigurationError) as error:
            raise self._refused(error, compact)  # noqa: B904 - mostly the same error
        return token


class SyncRequestGuard(_Rules):
    """RequestGuard for threads, with a SyncTokenVerifier; the arguments are the same."""

    def __init__(self, verifier: SyncVerifier, **options: Unpack[GuardOptions]) -> None:
        super().__init__(**options)
        if iscoroutinefunction(verifier.verify):
            # Its result, which nobody awaits, would pass for a token.
            raise ConfigurationError(
                f"{type(verifier).__name__} can only be awaited; make a SyncTokenVerifier of the "
                "same arguments."
            )
        self.verifier = verifier
        self._observer = getattr(verifier, "observer", None)

    def authenticate(
        self, *, method: str, url: str, headers: Headers, native: Any = None
    ) -> Authenticated:
        """Let a request in, or raise what it is to be answered with, as RequestGuard does."""
        compact = None
        try:
            found = self._source(HTTPRequest(method, url, header_fields(headers), native))
            compact = found if type(found) is bytes else self._otherwise(found)
            if compact is None:
                return ANONYMOUS
            token = self.verifier.verify(compact)
            self._check(token)
        except (RequestRefusedError, ConfigurationError) as error:
            raise self._refused(error, compact)  # noqa: B904 - mostly the same error
        return Authenticated(token)


def checked_requirements(**required: Unpack[Requirements]) -> Requirements:
    """A copy of what is `required`; raises ConfigurationError for an argument that can't be used.

    For a decorator: a mistake is an error where it is written, not in the first request.
    """
    _Rules(**required)
    given = cast("dict[str, Collection[Any]]", required)
    return cast(Requirements, {name: tuple(values) for name, values in given.items()})


def _malformed(compact: bytes | None) -> RequestRefusedError | None:
    """The error for credentials that are not even a b64token."""
    if compact is not None:
        try:
            b64token(compact)
        except RequestRefusedError as error:
            return error
    return None
