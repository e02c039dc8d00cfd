"""Receipts as people read them."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

from jwks_guard.admin import Refusal, RevocationReceipt, RotationReceipt
from jwks_guard.cli.keys.table import print_prose, utc
from jwks_guard.cli.words import printable

_INFERRED = "That it is done was read from the tenant's list of keys."
HANGING = " " * 19
"""What comes behind the name of a step."""


def print_receipt(receipt: RotationReceipt | RevocationReceipt, console: Console) -> None:
    """Print what was done, and what is left to do."""
    if isinstance(receipt, RotationReceipt):
        headline, style = f"Rotated at {utc(receipt.rotated_at, 'seconds')} UTC.", "bold green"
        lines = _of_rotation(receipt)
    else:
        headline, style = _headline(receipt)
        lines = _of_revocation(receipt)
    console.print(Text(printable(headline), style), soft_wrap=True)
    for line in lines:
        print_prose(line, console, hanging=HANGING if line.startswith("  ") else "")


def _of_rotation(receipt: RotationReceipt) -> Iterator[str]:
    yield f"  current          {receipt.current.kid}"
    yield f"  next             {receipt.next.kid}"
    yield f"  previously used  {receipt.previous.kid}"
    if receipt.inferred:
        yield _INFERRED
    if receipt.tokens_expire_by is not None:
        kid, end = receipt.previous.kid, utc(receipt.tokens_expire_by, "seconds")
        yield (
            f"Its tokens have expired by {end} UTC. When `jwks-guard can-revoke {kid}` says yes, "
            "revoking it refuses no valid token."
        )


def _headline(receipt: RevocationReceipt) -> tuple[str, str]:
    if receipt.complete:
        return f"{receipt.kid} is revoked, and the JWKS no longer lists it.", "bold green"
    return f"{receipt.kid} is revoked, but some steps are not done.", "bold yellow"


def _of_revocation(receipt: RevocationReceipt) -> Iterator[str]:
    if receipt.rotation is not None:
        yield f"  rotated          {utc(receipt.rotation.rotated_at, 'seconds')} UTC"
        yield f"  current          {receipt.rotation.current.kid}"
        yield f"  next             {receipt.rotation.next.kid}"
    yield f"  acknowledged     {utc(receipt.acknowledged_at, 'seconds')} UTC"
    for refusal in receipt.refusals:
        yield refusal_line(refusal)
    left = utc(receipt.left_jwks_at, "seconds")
    yield f"  left the JWKS    {f'{left} UTC' if left else 'not seen so far'}"
    if receipt.inferred or (receipt.rotation is not None and receipt.rotation.inferred):
        yield _INFERRED
    if receipt.readiness is not None and receipt.readiness.verdict != "yes":
        yield f"It was forced: the verdict before was {receipt.readiness.verdict}."
    if not receipt.refused_everywhere:
        yield "Not every verifier is known to refuse the key: look at `jwks-guard watch`."
    if not left:
        yield (
            "The JWKS still lists the key, or could not be read. Verifiers that do not refuse the "
            "key trust it until that changes: call `distrust` on them."
        )
    if not receipt.complete:
        yield f"To finish, and to see whether that is done: `{_again(receipt)}`."
    yield receipt.consequences


def _again(receipt: RevocationReceipt) -> str:
    """The command that finishes what is left; it never rotates."""
    emergency = ["--emergency"] if receipt.emergency else []
    return shlex.join(["jwks-guard", "keys", "revoke", *emergency, "--", receipt.kid])


def refusal_line(refusal: Refusal) -> str:
    """Whether one instance refuses the key; further lines of it hang by HANGING."""
    if refusal.error is not None:
        return f"  NOT KNOWN        {refusal.who}: {refusal.error}"
    return f"  refused          {utc(refusal.since, 'milliseconds')} UTC by {refusal.who}"
