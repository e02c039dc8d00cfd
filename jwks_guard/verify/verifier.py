"""TokenVerifier: the async face of verification, for one issuer and policy."""

from __future__ import annotations

import os
import time
from asyncio import get_running_loop
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Literal, Self, TypeAlias, Unpack, get_args

from jwks_guard.base.arguments import (
    is_host_name,
    require_count,
    require_one_of,
    require_seconds,
    require_strings,
)
from jwks_guard.base.clock import Clock
from jwks_guard.base.events import Event
from jwks_guard.base.observer import Observer
from jwks_guard.base.settings_reader import read_settings
from jwks_guard.claims.combining import ClaimCheck, combined
from jwks_guard.distrust.register import Register
from jwks_guard.distrust.state import Distrusted
from jwks_guard.errors import ConfigurationError, JWKSGuardError
from jwks_guard.jose.algorithms import ALGORITHMS, allow_list
from jwks_guard.jose.claims import ClaimsPolicy
from jwks_guard.jose.compact import to_bytes
from jwks_guard.jose.header import normalize_typ
from jwks_guard.keys.fleet import Fleet
from jwks_guard.keys.health import HealthReport, disallowed
from jwks_guard.keys.home import running_loop
from jwks_guard.keys.options import StoreOptions
from jwks_guard.keys.state import state_of
from jwks_guard.keys.store import KeyStore
from jwks_guard.net import urls
from jwks_guard.net.clients import HTTPClient
from jwks_guard.readiness.state import Observed
from jwks_guard.readiness.usage import KeyUsage
from jwks_guard.verify.observed import verification_of
from jwks_guard.verify.settings import verifier_of
from jwks_guard.verify.token import VerifiedToken
from jwks_guard.verify.verification import KeyNotHeldError

Bindings: TypeAlias = Literal["refuse", "checked upstream"]
_BINDINGS: tuple[Bindings, ...] = get_args(Bindings)


class VerifierOptions(StoreOptions, total=False):
    """The keyword arguments of TokenVerifier, where they are handed through."""

    client_ids: Collection[str] | None
    algorithms: Collection[str]
    leeway: float
    required_claims: Collection[str]
    max_token_age: float | None
    token_types: Collection[str | None]
    claim_checks: Collection[ClaimCheck]
    bindings: Bindings
    token_cache_size: int
    token_cache_bytes: int
    max_token_bytes: int
    keys: KeyStore | None


class ConfiguredOptions(VerifierOptions, total=False):
    """The arguments of TokenVerifier that may be given beside settings."""

    issuer: str
    audience: str | Collection[str] | None


class TokenVerifier:
    """Verifies access tokens of one issuer for one API.

    Arguments:
        issuer: the tokens' `iss`, to the letter: with `jwks_uri` any string (RFC 7519 section
            4.1.1), without it https (http on loopback).
        audience: this API's identifier, or several of which a token must name one. None takes only
            tokens without `aud`, and "access" alone where they say their `token_use`, as Amazon
            Cognito's do; it needs `client_ids`.
        client_ids: the accepted clients. Each of `client_id`, `azp`, `cid` and `appid` that a token
            has must be one of them, and it must have one. None accepts every client.
        jwks_uri: where the keys are; without it OpenID Connect Discovery says so.
        allow_http: names of hosts that may be asked over plain http, like ["keycloak"]; a WARNING
            is logged.
        algorithms: the allow-list (RFC 8725 section 3.1). Each key is bound to its own: to the
            JWK's `alg`, or without one to RS256, its curve's ES algorithm or EdDSA, unless
            `algorithms` leaves some out and names others that fit the key.
        leeway: how far the clocks may be apart, in seconds. An `iat` may lie ahead by `leeway` or
            60 seconds, the longer one.
        required_claims: claims that must be there, besides `iss` and `aud`.
        max_token_age: the longest time since `iat`, in seconds; makes `iat` required. It may then
            lie ahead by `leeway` alone.
        token_types: accepted `typ` values; None among them lets tokens without one through.
        claim_checks: called with the claims, read-only, after all other rules; each raises
            InvalidClaimError or MissingClaimError to refuse a token. `jwks_guard.claims` has ready
            ones. A result that is cached has passed them, and they are not called again.
        bindings: "refuse" refuses a token that is bound to a key (`cnf`, RFC 7800), as no proof of
            it is checked here; "checked upstream" accepts it, for an API behind a gateway that
            checks each request's DPoP proof (RFC 9449) or client certificate (RFC 8705).
        refresh_interval: seconds between two background refreshes, at the most.
        max_stale: the trust bound: seconds for which a key is trusted after the issuer last
            confirmed it.
        max_upstream_age: up to this age, in seconds, an answer from a cache that is fresh by the
            issuer's own Cache-Control (RFC 9111) confirms as of its request; one that is older, or
            not fresh, as of when it was made.
        fetch_timeout: seconds for a whole fetch; 5 of them for a connection.
        max_wait: seconds that a request or `start` waits for a fetch, which then goes on.
        token_cache_size: how many results are kept; 0 turns the cache off.
        token_cache_bytes: how much memory they may take, in bytes; expired ones go first.
        max_token_bytes: the longest token that is looked at.
        max_jwks_bytes: the largest key set or discovery document, decoded.
        http_client: an httpx.AsyncClient, or a callable that makes one per event loop, for
            transport, TLS and proxies. Its headers and auth are sent to the origin of the issuer
            or of a given jwks_uri, and nowhere else. It is not closed here.
        clock: anything with time() and monotonic().
        keys: a KeyStore shared by verifiers of this issuer. What concerns fetching is then set
            there and not here, and the code that made it starts and closes it.
        register: what this process distrusts; by default the one that all verifiers of the process
            share. Verifiers with another one are another instance.
        snapshot_path: a file that carries keys through a restart; a journal beside it carries what
            is distrusted.
        on_event: called with each Event; must return quickly.
        background: False leaves refreshing to the requests: one that comes after two intervals
            without waits for it.
        fast_rsa: verify RS256 and PS256 by AWS-LC where awscrt is installed (the extra `fast`);
            False leaves them to `cryptography`. `health()` says which one does it.
        fleet: shares what is distrusted with other processes, as jwks_guard.fleet.RedisFleet does.
        observer: an OpenTelemetryObserver of jwks_guard.observability, for traces.

    Raises ConfigurationError for an argument that can't be used.

    """

    def __init__(
        self,
        issuer: str,
        audience: str | Collection[str] | None,
        *,
        client_ids: Collection[str] | None = None,
        jwks_uri: str | None = None,
        allow_http: Collection[str] = (),
        algorithms: Collection[str] = ALGORITHMS,
        leeway: float = 5.0,
        required_claims: Collection[str] = ("exp",),
        max_token_age: float | None = None,
        token_types: Collection[str | None] = ("JWT", "at+jwt", None),
        claim_checks: Collection[ClaimCheck] = (),
        bindings: Bindings = "refuse",
        refresh_interval: float = 60.0,
        max_stale: float = 3600.0,
        max_upstream_age: float = 86_400.0,
        fetch_timeout: float = 30.0,
        max_wait: float = 5.0,
        token_cache_size: int = 10_000,
        token_cache_bytes: int = 32 * 2**20,
        max_token_bytes: int = 16_384,
        max_jwks_bytes: int = 524_288,
        http_client: HTTPClient | None = None,
        clock: Clock = time,
        keys: KeyStore | None = None,
        register: Register | None = None,
        snapshot_path: str | os.PathLike[str] | None = None,
        on_event: Callable[[Event], object] | None = None,
        background: bool = True,
        fast_rsa: bool = True,
        fleet: Fleet | None = None,
        observer: Observer | None = None,
    ) -> None:
        self._arguments = {**locals(), "self": None}
        audiences, clients = _parties(audience, client_ids)
        require_strings("algorithms", algorithms, allowed=ALGORITHMS)
        require_one_of("bindings", bindings, _BINDINGS)
        if required_claims not in ((), [], frozenset()):
            require_strings("required_claims", required_claims)
        require_seconds("leeway", leeway, positive=False)
        if max_token_age is not None:
            require_seconds("max_token_age", max_token_age)
        require_count("token_cache_size", token_cache_size, minimum=0)
        require_count("token_cache_bytes", token_cache_bytes, minimum=1)
        require_count("max_token_bytes", max_token_bytes, minimum=1)
        options: StoreOptions = {
            "jwks_uri": jwks_uri,
            "allow_http": allow_http,
            "refresh_interval": refresh_interval,
            "max_stale": max_stale,
            "max_upstream_age": max_upstream_age,
            "fetch_timeout": fetch_timeout,
            "max_wait": max_wait,
            "max_jwks_bytes": max_jwks_bytes,
            "http_client": http_client,
            "clock": clock,
            "register": register,
            "snapshot_path": snapshot_path,
            "on_event": on_event,
            "background": background,
            "fast_rsa": fast_rsa,
            "fleet": fleet,
            "observer": observer,
        }
        self.issuer = issuer
        self._owns_keys = keys is None
        if keys is not None:
            _require_fitting(keys, issuer, options)
        self.keys = keys if keys is not None else KeyStore(issuer, **options)
        self._home, self._lazy = self.keys.home, self.keys.lazy
        self.discovery_url: str | None = None if self.keys.jwks_uri else urls.discovery_url(issuer)
        """Where the issuer describes itself to clients; None where jwks_uri stands in for it."""
        self.verification = verification_of(self.keys)(
            self.keys,
            ClaimsPolicy(
                issuer,
                audiences,
                leeway,
                tuple(required_claims),
                max_token_age,
                client_ids=clients,
                takes_bound=bindings == "checked upstream",
            ),
            algorithms=allow_list(algorithms),
            token_types=_normalized(token_types),
            claim_check=combined(claim_checks),
            max_token_bytes=max_token_bytes,
            cache_size=token_cache_size,
            cache_bytes=token_cache_bytes,
        )

    @classmethod
    def for_auth0(
        cls,
        domain: str,
        *,
        audience: str | Collection[str] | None,
        **options: Unpack[VerifierOptions],
    ) -> Self:
        """A verifier for the tenant or custom domain `domain`, like "acme.eu.auth0.com".

        The issuer is https://{domain}/, in lower case, and the keys are at its
        /.well-known/jwks.json.
        """
        issuer = auth0_issuer(domain)
        if options.get("keys") is None:
            options.setdefault("jwks_uri", f"{issuer}.well-known/jwks.json")
        verifier = cls(issuer, audience, **options)
        verifier.discovery_url = urls.discovery_url(issuer)
        return verifier

    @classmethod
    def from_env(
        cls, environ: Mapping[str, str] = os.environ, **options: Unpack[ConfiguredOptions]
    ) -> Self:
        """The verifier that `JWKS_GUARD_*` variables name, as docs/configuration.md lists them.

        `JWKS_GUARD_ISSUER` (or `JWKS_GUARD_DOMAIN`, as in for_auth0) and `JWKS_GUARD_AUDIENCE` are
        required, unless they are in the file that `JWKS_GUARD_CONFIG` names. `options` are
        arguments of TokenVerifier, and win; what is no value can only be given there.

        `JWKS_GUARD_FLEET` makes a fleet. RedisFleet needs nothing more of the app. For HTTPFleet
        each instance has to serve `jwks_guard.asgi.operations`, at its own URL in that list, with
        the secret in `JWKS_GUARD_FLEET_SECRET_FILE` as its `operations_auth`.

        Raises ConfigurationError, which names the variable and shows no value; also for a
        `JWKS_GUARD_*` variable that is unknown.
        """
        return verifier_of(cls, cls.for_auth0, read_settings(environ), options)

    @classmethod
    def from_file(
        cls,
        path: str | os.PathLike[str],
        environ: Mapping[str, str] = os.environ,
        **options: Unpack[ConfiguredOptions],
    ) -> Self:
        """The verifier that the TOML file at `path` names; `environ` wins, and `options` over both.

        The names are those of the variables, in lower case and without JWKS_GUARD_. It may be the
        file of the `jwks-guard` command. Relative paths start from its folder. Raises
        ConfigurationError as from_env does, and for a secret in a file that others can read.
        """
        return verifier_of(cls, cls.for_auth0, read_settings(environ, path), options)

    @property
    def observer(self) -> Observer | None:
        """The observer of its keys."""
        return self.keys.observer

    def has_arguments_of(self, other: TokenVerifier) -> bool:
        """Whether both were made with equal arguments, so that one can stand for the other."""
        return type(self) is type(other) and self._arguments == other._arguments

    async def start(self, *, require_keys: bool = False) -> None:
        """Wait at most `max_wait` for the keys, then keep them fresh in the background.

        With `require_keys` KeysUnavailableError is raised when no key is trusted after that first
        try. Raises ConfigurationError when the distrust journal can't be read.
        """
        if self._owns_keys:
            await self.keys.start(require_keys=require_keys)

    async def aclose(self) -> None:
        """Stop the background refresh; a closed verifier trusts no key until it is started."""
        if self._owns_keys:
            await self.keys.aclose()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def verify(self, compact: str | bytes) -> VerifiedToken:
        """The verified token, or an error: InvalidTokenError (401) or KeysUnavailableError (503).

        LookUpThrottledError (429) is of the second kind: nobody can say whether the token is good.
        Whatever bytes it is given, it raises nothing else; but ConfigurationError when it is called
        on an event loop other than the one it runs on or on another async library than asyncio, or
        its distrust journal can't be read, or a claim check returns anything but None.
        """
        waited = 0.0
        try:
            at_home = self._home.loop is get_running_loop()
            if self._lazy or not at_home:
                to_bytes(compact, self.verification.max_token_bytes)  # or nothing is fetched for it
                waited = await self._prepare()
            found = self.verification.look_up(compact)
            if isinstance(found, VerifiedToken):
                return found
            if not at_home:
                self.keys.bind()
            token, name = found
            try:
                return self.verification.fresh(token, name)
            except KeyNotHeldError as missing:
                await self.keys.resolve(missing.kid, waited)
                return self.verification.fresh(token, name)
        except KeyNotHeldError:
            self.verification.refused(self.keys.unavailable())
        except JWKSGuardError as error:
            self.verification.refused(error)
        except RuntimeError:
            running_loop()  # says what is wrong where no asyncio loop runs
            raise

    async def _prepare(self) -> float:
        """Do what a request does first without a background task; the seconds that it waited."""
        await self.keys.ensure_bound()
        return await self.keys.refresh_for_request() if self._lazy else 0.0

    def remaining(self, token: VerifiedToken) -> float:
        """Seconds until `token`, accepted before, has to be looked at again.

        Raises what `verify` would raise now: TokenExpiredError, RevokedKeyError, RemovedKeyError,
        or KeysUnavailableError once trust in the keys has run out. Of a token that was pickled the
        key is not known any more: it counts as removed.
        """
        return self.verification.remaining(token)

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call `listener` whenever trust may have changed; returns how to stop that.

        It is called from whichever thread made the change and must neither block nor raise.
        """
        return self.keys.trust.subscribe(listener)

    async def distrust(
        self, kid: str, *, reason: str, force: bool = False, actor: str | None = None
    ) -> None:
        """Refuse every token that was signed by `kid`, or by the same key, from now on.

        In effect on this process before the first await; then it is stored, if there is a
        `snapshot_path`, and shared with the fleet, if there is one. Raises DistrustNotSharedError
        when that fails (the key stays refused here, and is passed on later),
        RevocationRefusedError when it is the only trusted key and `force` is not given. `actor` is
        shown as who decided it: a person, or by default this process.
        """
        await self.keys.decisions.distrust(kid, reason=reason, force=force, actor=actor)

    async def reinstate(self, kid: str, *, reason: str, actor: str | None = None) -> None:
        """Lift the distrust of `kid`; nothing else ever does. Its reason is stored and shown.

        What the journal and the fleet know is read first. It is in effect once one of them holds
        it. Raises ConfigurationError for a kid that was never distrusted, DistrustNotSharedError
        when nothing was lifted, or not everywhere: its message says which.
        """
        await self.keys.decisions.reinstate(kid, reason=reason, actor=actor)

    async def is_distrusted(self, kid: str) -> bool:
        """Whether `kid` is distrusted, here and wherever that is stored and shared.

        Raises DistrustNotSharedError when the journal or the fleet could not be asked or told.
        """
        return await self.keys.decisions.is_distrusted(kid)

    @property
    def distrusted(self) -> Mapping[str, Distrusted]:
        """The distrusted keys of this issuer by kid."""
        return self.keys.decisions.distrusted

    def health(self) -> HealthReport:
        """The state of the keys, with both bounds; skipped are also keys for other algorithms."""
        report = self.keys.health()
        unfit = disallowed(self.keys.trust.published.keys, self.verification.algorithms)
        return replace(report, skipped=report.skipped + unfit) if unfit else report

    async def observe(self, kid: str) -> Observed:
        """What this instance, or with a fleet each of its instances, shows of `kid`.

        Raises what the fleet raises when that can't be asked: one instance can't speak for all.
        """
        shown = await self.keys.decisions.observe(kid)
        own = state_of((self.keys,), self.keys.clock.time())
        if shown is None:
            return Observed((own,))
        others = (state for state in shown.states if state.instance != own.instance)
        return replace(shown, states=(own, *others))

    def usage(self) -> Mapping[str, KeyUsage]:
        """What became of each trusted kid's tokens here, since the verifier was made.

        Verifiers that share a KeyStore and have the same leeway count together.
        """
        return self.verification.usage.report(self.keys.clock.time())


def auth0_issuer(domain: str) -> str:
    """The issuer of an Auth0 domain: the tokens' `iss` is in lower case and ends in a slash."""
    text = domain.lower() if isinstance(domain, str) else ""
    host = text.removeprefix("https://").removesuffix("/")
    if "." not in host or not is_host_name(host):
        raise ConfigurationError(
            "domain must be the tenant's or custom domain's host name, like 'acme.eu.auth0.com'."
        )
    return f"https://{host}/"


def _parties(
    audience: str | Collection[str] | None, client_ids: Collection[str] | None
) -> tuple[frozenset[str] | None, frozenset[str] | None]:
    """The accepted audiences and clients; raises ConfigurationError."""
    if client_ids is not None:
        require_strings("client_ids", client_ids)
    clients = None if client_ids is None else frozenset(client_ids)
    if audience is None:
        if clients is None:
            raise ConfigurationError(
                "audience is None: nothing would bind a token to this API. Give its audience, or, "
                "for an issuer whose access tokens have no `aud`, client_ids=[...]."
            )
        return None, clients
    audiences = [audience] if isinstance(audience, str) else audience
    require_strings("audience", audiences)
    return frozenset(audiences), clients


def _require_fitting(keys: KeyStore, issuer: str, options: StoreOptions) -> None:
    if keys.issuer != issuer:
        raise ConfigurationError("keys holds another issuer's keys; make a KeyStore for this one.")
    defaults = KeyStore.__init__.__kwdefaults__ or {}
    for name, value in options.items():
        if value != defaults[name]:
            raise ConfigurationError(f"{name} must be given to the KeyStore, not beside keys.")


def _normalized(token_types: Collection[str | None]) -> frozenset[str | None]:
    if not isinstance(token_types, list | tuple | set | frozenset) or not token_types:
        raise ConfigurationError("token_types must be a list of `typ` values; None lets none pass.")
    if not all(each is None or isinstance(each, str) for each in token_types):
        raise ConfigurationError("token_types must hold strings, or None for tokens without `typ`.")
    return frozenset(None if each is None else normalize_typ(each) for each in token_types)
