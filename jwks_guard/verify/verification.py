"""The path of one token from its bytes to a result, without I/O: what async and sync share."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from time import perf_counter
from typing import Any, NoReturn

from jwks_guard.base.clock import Instant
from jwks_guard.claims.combining import ClaimCheck
from jwks_guard.errors import (
    JWKSGuardError,
    RemovedKeyError,
    RevokedKeyError,
    TokenExpiredError,
)
from jwks_guard.jose.algorithms import AllowList
from jwks_guard.jose.claims import ClaimsPolicy, freeze
from jwks_guard.jose.compact import (
    b64url_decode,
    decode_object,
    json_object,
    malformed,
    split,
    to_bytes,
)
from jwks_guard.jose.header import Header, parse_header
from jwks_guard.jose.jwk import VerificationKey
from jwks_guard.jose.jws import SignatureCheck, signature_check
from jwks_guard.keys.store import KeyStore
from jwks_guard.keys.view import TrustedKeys
from jwks_guard.readiness.usage import TIMED_EVERY, Counter
from jwks_guard.verify.cache import TokenCache
from jwks_guard.verify.footprint import footprint
from jwks_guard.verify.token import RESULT_BYTES, VerifiedToken

# BLAKE2b (RFC 7693) is the interpreter's own code: SHA-256 is faster in a loop, and slower in a
# server, where OpenSSL's way to it is cold.
try:
    hashlib.blake2b(b"")
    token_hash: Callable[[bytes], Any] = hashlib.blake2b
except (AttributeError, ValueError):  # FIPS 140 does not have it, so its builds of Python do not
    token_hash = hashlib.sha256

Resolved = tuple[Header, VerificationKey, SignatureCheck, Counter, dict[str, Any] | None]
"""A header, the key that it names, what checks its signatures by this `alg`, what counts, and all
parameters of the header, once a token with it was accepted."""

MEMO_ENTRIES = 256
MEMO_BYTES = 4096
"""What a header that is remembered takes at the most."""


class KeyNotHeldError(Exception):
    """The view has no word on `kid`: fetch, then try once more. Never leaves the verifiers."""

    def __init__(self, kid: str | None) -> None:
        self.kid = kid


class Verification:
    """Verifies under one policy with the keys of one store. Any thread may call it."""

    def __init__(
        self,
        keys: KeyStore,
        policy: ClaimsPolicy,
        *,
        algorithms: AllowList,
        token_types: frozenset[str | None],
        claim_check: ClaimCheck | None,
        max_token_bytes: int,
        cache_size: int,
        cache_bytes: int,
    ) -> None:
        self.max_token_bytes = max_token_bytes
        self.usage = keys.usage_of(policy.leeway)
        self._keys = keys
        self._trust = keys.trust
        self._rsa = keys.rsa
        self._policy = policy
        self.algorithms = algorithms
        self._token_types = token_types
        self._claim_check = claim_check
        self._clock = keys.clock
        self._cache: TokenCache[VerifiedToken] = TokenCache(cache_size, cache_bytes)
        self._cached = self._cache.get if cache_size else None
        # Header segments of accepted tokens, parsed, with what they resolved to: for one view.
        self._memo: tuple[TrustedKeys, dict[bytes, Resolved]] = (self._trust.view, {})

    @property
    def policy(self) -> ClaimsPolicy:
        """What a token's claims have to say."""
        return self._policy

    @property
    def token_types(self) -> frozenset[str | None]:
        """The accepted `typ` values, normalized."""
        return self._token_types

    def look_up(self, compact: str | bytes) -> VerifiedToken | tuple[bytes, bytes | None]:
        """The result that is kept of a token, if it still stands.

        Else the token, and what to keep a new result by. Raises MalformedTokenError for what can be
        no token.
        """
        if type(compact) is str and len(compact) <= self.max_token_bytes and compact.isascii():
            token = compact.encode()
        elif type(compact) is bytes and len(compact) <= self.max_token_bytes:
            token = compact  # what is found is ASCII, and to look takes longer than for a str
        else:
            token = to_bytes(compact, self.max_token_bytes)
        cached = self._cached
        if cached is None:
            name = None
        else:
            # All of it, the signature included: by a part of the token, or by a hash that can be
            # made to collide, a forged token would hit.
            name = token_hash(token).digest()
            result = cached(name)
            if result is not None:
                view, wall = self._trust.view, self._clock.time()
                until = view.trusted_until
                if (
                    result._key in view.live
                    and wall < result._valid_until
                    and wall < until.wall
                    and self._clock.monotonic() < until.monotonic
                ):
                    result._counter.accepted += 1
                    return result
                self._cache.drop(name)
        if token is compact:
            to_bytes(token, self.max_token_bytes)
        return token, name

    def fresh(self, token: bytes, name: bytes | None) -> VerifiedToken:
        """Verify a token by the current view; raises KeyNotHeldError when that has no answer."""
        header_segment, payload_segment, signature, signing_input = split(token)
        usage, view = self.usage, self._trust.view
        begun = 0.0 if usage.misses % TIMED_EVERY else perf_counter()
        until = view.trusted_until
        now = self._clock.time()
        trusted = now < until.wall and self._clock.monotonic() < until.monotonic
        memo_view, memo = self._memo
        known = memo.get(header_segment) if memo_view is view and trusted else None
        header, key, check, counter, parameters = known or self._resolve(
            header_segment, view, trusted
        )
        try:
            check(signing_input, b64url_decode(signature))
            # Not before: a forged token is not worth the objects that its JSON makes.
            if parameters is None:
                parameters = decode_object(header_segment, "header")
            payload = b64url_decode(payload_segment)
            claims = json_object(payload)
            valid_until = self._policy.check(claims, now)
            if self._claim_check is not None:
                self._claim_check(freeze(claims))
        except JWKSGuardError as error:
            error.kid = header.kid
            raise
        except ValueError:
            refusal = malformed(payload_segment, signature)
            refusal.kid = header.kid
            raise refusal from None
        # Trust may have changed since the view was taken: the result stands only if its key does.
        if self._trust.view is not view and key not in self._trust.view.live:
            return self.fresh(token, name)
        header_size = (
            self._remember(
                view, header_segment, (header, key, check, counter, parameters), parameters
            )
            if known is None
            else 0
        )
        # As client_id_of reads it, which takes three times as long.
        client = (
            claims.get("client_id") or claims.get("azp") or claims.get("cid") or claims.get("appid")
        )
        try:
            counted = counter.named[client][claims.get("org_id")]
        except (KeyError, TypeError):
            counted = counter.clients.counter(claims)
        counted.accepted += 1
        usage.misses += 1
        if valid_until > counter.until:
            counter.until = valid_until
            issued_at = claims.get("iat")
            counter.lasted(valid_until - (now if issued_at is None else issued_at))
        result = VerifiedToken(parameters, claims, key, valid_until)
        if name is not None:
            result._counter = counted
            result._size = RESULT_BYTES + header_size + footprint(payload, len(claims))
            self._cache.put(name, result, now)
        if begun:
            usage.took.add(perf_counter() - begun)
        return result

    def remaining(self, token: VerifiedToken) -> float:
        """Seconds until an accepted token must be looked at again; raises what refuses it now."""
        view, now, key = self._trust.view, Instant.now(self._clock), token._key
        if key not in view.live and (token.kid if key is None else key.kid) in view.distrusted:
            raise RevokedKeyError("The key that signed this token is distrusted.")
        if view.trusted_until.reached(now):
            raise self._keys.unavailable()
        if key not in view.live:
            raise RemovedKeyError("The issuer has withdrawn the key that signed this token.")
        if now.wall >= token._valid_until:
            raise TokenExpiredError("The token has expired.")
        return min(token._valid_until - now.wall, view.trusted_until.remaining(now))

    def refused(self, error: JWKSGuardError) -> NoReturn:
        """Tell of a refusal and raise it."""
        # The code of the class: a claim check of the application may set any text on the error.
        self.usage.refused(error.kid, type(error).code)
        self._keys.events.tell("token_refused", kid=error.kid, code=error.code, detail=str(error))
        raise error

    def _resolve(self, segment: bytes, view: TrustedKeys, trusted: bool) -> Resolved:
        """What the header in `segment` names."""
        header = parse_header(segment, self.algorithms.names, self._token_types)
        if header.kid is None and not trusted:
            raise KeyNotHeldError(None)
        try:
            key = view.find(header.kid, header.alg, self.algorithms)
        except JWKSGuardError as error:
            error.kid = header.kid
            raise
        if key is None or not trusted:
            raise KeyNotHeldError(header.kid)
        counter = self.usage.counter(key.kid)
        check = signature_check(key, header.alg, self._rsa)
        return header, key, check, counter, None

    def _remember(
        self, view: TrustedKeys, segment: bytes, resolved: Resolved, parameters: dict[str, Any]
    ) -> int:
        """Keep a header for the next tokens; gives its size in memory if it is not kept."""
        memo_view, memo = self._memo  # once: another thread may exchange it for another view's
        if memo_view is not view:
            memo = {}
            self._memo = (view, memo)
        size = footprint(b64url_decode(segment), len(parameters))
        if len(memo) >= MEMO_ENTRIES or size > MEMO_BYTES:
            return size
        memo[segment] = resolved
        return 0
