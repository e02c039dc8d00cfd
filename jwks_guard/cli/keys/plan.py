"""What a change of a tenant's keys will do, told before it is done (pure, but for printing)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from rich.console import Console
from rich.text import Text

from jwks_guard.admin import RevocationReadiness, SigningKey
from jwks_guard.admin.journal import Intent
from jwks_guard.admin.key_set import SigningKeys
from jwks_guard.admin.receipts import CERTIFICATES, last_expiry
from jwks_guard.cli.keys.fleet import Instances
from jwks_guard.cli.keys.table import print_prose, utc
from jwks_guard.cli.words import printable
from jwks_guard.readiness.usage import NEVER

_NOBODY_IS_TOLD = (
    "No verifier is told by this command: each notices within its detection bound, or at once "
    "where `distrust` is called on it."
)
_NOBODY_IS_ASKED = (
    "No verifier is asked by this command whether it holds the next key yet: those that refresh "
    "have had it for as long as it has been the next one."
)
_IN_USE = "They are the tokens that are in use now: everybody has to get a new one."
_FINAL = "A revocation can't be undone."


@dataclass(frozen=True, slots=True)
class Move:
    """A key that goes from one state to another; `kid` is None for one that is yet to be made."""

    kid: str | None
    before: str
    after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What will happen at `tenant`, and what comes of it.

    `certificates`: where SAML and WS-Fed parties get the new one afterwards, if there will be one.
    `question` is empty where nothing will be changed.
    """

    title: str
    tenant: str
    moves: tuple[Move, ...]
    consequences: tuple[str, ...]
    certificates: Mapping[str, str] = field(default_factory=dict)
    question: str = ""

    def after(self, unfinished: Iterable[Intent]) -> Plan:
        """The plan, where an earlier run has left `unfinished` what comes first."""
        first = tuple(
            f"First, what an earlier run began is brought to an end: to "
            f"{each.action.replace('_', ' ')} {each.kid}."
            for each in unfinished
        )
        return replace(self, consequences=first + self.consequences)

    def to_dict(self) -> dict[str, Any]:
        """The plan as JSON-compatible data."""
        return {
            "tenant": self.tenant,
            "plan": self.title,
            "moves": [asdict(move) for move in self.moves],
            "consequences": list(self.consequences),
            "certificates": dict(self.certificates),
        }


def rotation_plan(
    tenant: str,
    keys: SigningKeys,
    lifetime: timedelta | None,
    now: datetime,
    instances: Instances | None = None,
) -> Plan:
    """A rotation of `keys`; `lifetime` is that of tokens, where it is known.

    `instances` are those of the fleet, where there is one.
    """
    current, following = keys.current, keys.next
    at_most = f", at {utc(now + lifetime)} UTC at the earliest," if lifetime else ""
    return Plan(
        title="Rotate the signing keys",
        tenant=tenant,
        moves=(
            Move(current.kid, "current", "previously used"),
            Move(following.kid, "next", "current"),
            Move(None, "", "next"),
        ),
        consequences=(
            (
                f"New tokens are signed by {following.kid}. Those of {current.kid} stay valid "
                f"until they expire{at_most} or until it is revoked."
            ),
            instances.before_rotation(following.kid) if instances else _NOBODY_IS_ASKED,
            _of_certificates(following.kid),
        ),
        certificates=_certificates(tenant),
        question="Rotate now?",
    )


def revocation_plan(
    tenant: str,
    key: SigningKey,
    lifetime: timedelta | None,
    now: datetime,
    instances: Instances | None = None,
    readiness: RevocationReadiness | None = None,
) -> Plan:
    """A revocation of a previously used key, or of one that is revoked already.

    Without `readiness` it is an emergency, or there is nothing to do.
    """
    if key.revoked:
        return Plan(
            title="Look whether a revoked key has left the JWKS",
            tenant=tenant,
            moves=(),
            consequences=(f"{key.kid} is revoked already; nothing is changed at the tenant.",),
        )
    return Plan(
        title="Revoke a signing key",
        tenant=tenant,
        moves=(Move(key.kid, "previously used", "revoked"),),
        consequences=(
            _of_tokens(key.kid),
            _of_expiry(key, lifetime, readiness, now),
            *_of_readiness(readiness),
            _of_fleet(instances, emergency=readiness is None),
            _FINAL,
        ),
        question="Revoke it now?",
    )


def emergency_plan(
    tenant: str, keys: SigningKeys, now: datetime, instances: Instances | None = None
) -> Plan:
    """A rotation and the revocation of the key that was current until then."""
    rotation = rotation_plan(tenant, keys, None, now)
    leaked, *others = rotation.moves
    return replace(
        rotation,
        title="Rotate the signing keys and revoke the current one",
        moves=(Move(leaked.kid, "current", "revoked"), *others),
        consequences=(
            f"{_of_tokens(leaked.kid or '')} {_IN_USE}",
            _of_fleet(instances, emergency=True),
            _FINAL,
            rotation.consequences[-1],
        ),
        question="Rotate and revoke now?",
    )


def print_plan(plan: Plan, console: Console) -> None:
    """Print the plan for whoever is to agree to it."""
    title = Text.assemble((plan.title, "bold"), f"\n{printable(plan.tenant)}\n")
    console.print(title, soft_wrap=True)
    if plan.moves:
        _print_moves(plan.moves, console)
    for consequence in plan.consequences:
        print_prose(consequence, console, "  - ", "    ")
    for url in plan.certificates.values():
        console.print(Text(f"      {printable(url)}", "dim"), soft_wrap=True)


def _print_moves(moves: Sequence[Move], console: Console) -> None:
    names = [printable(move.kid) if move.kid else "a new key" for move in moves]
    name_width, width = max(map(len, names)), max(len(move.before) for move in moves)
    for name, move in zip(names, moves, strict=True):
        text = f"  {name:<{name_width}}  {move.before:<{width}}  ->  "
        style = "bold red" if move.after == "revoked" else "bold"
        console.print(Text.assemble(text, (move.after, style)), soft_wrap=True)
    console.print()


def _of_tokens(kid: str) -> str:
    return (
        f"Every token that {kid} signed is dead, whatever its expiry; ID tokens and Management API "
        "tokens are among them."
    )


def _of_fleet(instances: Instances | None, *, emergency: bool) -> str:
    return instances.before_revocation(emergency=emergency) if instances else _NOBODY_IS_TOLD


def _of_readiness(readiness: RevocationReadiness | None) -> tuple[str, ...]:
    if readiness is None:
        return ()
    if readiness.verdict == "yes":
        return ("Nothing speaks against it: every instance was watched, and none needs the key.",)
    blockers = (f"It is not ready ({readiness.verdict}): {b.message}" for b in readiness.blockers)
    return tuple(blockers)


def _of_expiry(
    key: SigningKey,
    lifetime: timedelta | None,
    readiness: RevocationReadiness | None,
    now: datetime,
) -> str:
    if readiness is not None and (readiness.earliest_safe_time or 0.0) >= NEVER:
        return "Some of them never expire: valid ones are refused."
    if (end := last_expiry(key, lifetime, readiness)) is None:
        until = f", from {utc(key.current_until)} UTC on" if key.current_until else ""
        return (
            f"How long the last of them would have lived{until}, is not known here: "
            "JWKS_GUARD_TOKEN_LIFETIME_SECONDS would tell."
        )
    if end <= now:
        return f"The last of them expired by {utc(end)} UTC, as far as is known."
    return f"The last of them expires at {utc(end)} UTC: until then, valid ones are refused."


def _of_certificates(kid: str) -> str:
    return (
        "SAML and WS-Fed parties that check this tenant's signature break at the rotation, until "
        f"they have the new certificate. Now `jwks-guard keys show {kid} --pem` prints it; "
        "afterwards it is at:"
    )


def _certificates(tenant: str) -> Mapping[str, str]:
    return {kind: tenant + path for kind, path in CERTIFICATES.items()}
