"""`jwks-guard inspect`: what is right and wrong with a token, in words."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from dataclasses import dataclass
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from jwks_guard import (
    ConfigurationError,
    DistrustNotSharedError,
    EnvironmentVariableError,
    InvalidTokenError,
    KeysUnavailableError,
    VerifiedToken,
)
from jwks_guard.cli.configuration import Judge, configured_verifier
from jwks_guard.cli.inspect.explain import Rules, Sections, explain
from jwks_guard.cli.keys.session import ConfigOption
from jwks_guard.cli.words import Line, Mark, printable
from jwks_guard.fleet.settings import ConfiguredFleet
from jwks_guard.jose.algorithms import ALL
from jwks_guard.jose.claims import ClaimsPolicy
from jwks_guard.jose.compact import split, to_bytes

_MAX_TOKEN_BYTES = 16_384
_TOKEN_TYPES = frozenset({"jwt", "at+jwt", None})
_LEEWAY = 5.0
_MOST_NAMED = 20
_STYLES: dict[Mark, str] = {"ok": "green", "NO": "bold red", "??": "bold yellow", "  ": ""}


@dataclass(frozen=True, slots=True)
class _Conclusion:
    mark: Mark
    text: str
    status: int


_BEARER = "`Bearer ` in front was left out: sent twice it is refused (400)."


def inspect(
    token: Annotated[
        list[str],
        typer.Argument(
            metavar="TOKEN",
            help="The token, or - to read it from standard input: arguments show in `ps` and "
            "stay in the shell's history.",
        ),
    ],
    issuer: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Who must have issued it: `iss`, to the letter. Beside it, `domain` and "
            "`jwks_uri` of the settings do not count.",
        ),
    ] = None,
    audience: Annotated[
        list[str] | None,
        typer.Option(metavar="URI", help="The API it must be for; may be repeated."),
    ] = None,
    jwks_uri: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Where the issuer's keys are, if not told by discovery."),
    ] = None,
    algorithm: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="An allowed algorithm; may be repeated.", show_default="all"
        ),
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Explain what is right and wrong with TOKEN; neither it nor its signature is printed.

    It is judged as an API with the same settings (JWKS_GUARD_*, --config) judges it; where a fleet
    is configured, it is asked for the keys that are distrusted. Without an issuer the content is
    shown and nothing is fetched.

    Exit status: 0 valid, 1 not valid or unknown, 2 usage, 3 the issuer or the fleet could not be
    reached.
    """
    options = {"issuer": issuer, "audience": audience, "jwks_uri": jwks_uri}
    pasted = False
    try:
        judge = configured_verifier({**options, "algorithms": algorithm}, os.environ, config)
        if isinstance(judge, str):
            _require_no_option(judge, issuer, audience, jwks_uri, algorithm)
            compact, pasted = _one_token(token, _MAX_TOKEN_BYTES)
            sections, conclusion = _content(compact, judge)
        else:
            compact, pasted = _one_token(token, judge.verifier.verification.max_token_bytes)
            sections, conclusion = asyncio.run(_examined(compact, judge))
    except EnvironmentVariableError as error:
        sections, conclusion = {}, _refusal(error)
    except ConfigurationError as error:
        raise typer.BadParameter(str(error)) from None
    except InvalidTokenError as error:  # not even the form of a token
        sections, conclusion = {}, _refusal(error)
    _print(sections, conclusion, _BEARER if pasted else "")
    raise typer.Exit(conclusion.status)


def _require_no_option(missing: str, *options: object) -> None:
    """Raise unless nothing was asked for: then the content alone is shown."""
    if any(options):
        name, _, rest = missing.partition(" ")
        raise typer.BadParameter(f"it is needed beside the other options {rest}", param_hint=name)


def _one_token(arguments: list[str], longest: int) -> tuple[str, bool]:
    """The one word that is the token, and whether it was pasted with its scheme before it."""
    text = " ".join(arguments)
    if text == "-":
        data = sys.stdin.buffer.read(2 * longest)
        text = data.decode("ascii", "surrogateescape")
    words = text.split()
    pasted = bool(words) and words[0].lower() == "bearer"
    if pasted:
        del words[0]
    if len(words) != 1:  # typer's own message would repeat the words
        raise typer.BadParameter("give one token, or - for standard input", param_hint="TOKEN")
    return words[0], pasted


def _content(compact: str, missing: str) -> tuple[Sections, _Conclusion]:
    """What can be said of a token that nothing is asked about; raises InvalidTokenError."""
    policy = ClaimsPolicy("", frozenset({""}), _LEEWAY, ("exp",), None)
    rules = Rules(ALL, _TOKEN_TYPES, policy, parties=("sub",))
    text = f"Not verified: add {missing} to check key, signature and claims."
    sections = explain(_split(compact, _MAX_TOKEN_BYTES), rules, None, time.time())
    return sections, _Conclusion("??", text, 1)


async def _examined(compact: str, judge: Judge) -> tuple[Sections, _Conclusion]:
    """What can be said of a token, and the verdict; raises ConfigurationError, InvalidTokenError.

    The explanation is by parts, the verdict by the verifier that an API would use.
    """
    verifier, verification = judge.verifier, judge.verifier.verification
    parties = ("iss", "sub", "aud")
    rules = Rules(verification.algorithms, verification.token_types, verification.policy, parties)
    token = _split(compact, verification.max_token_bytes)
    async with verifier:
        unheard = await _heard(judge.fleet)
        sections = explain(token, rules, verifier.keys, verifier.keys.clock.time())
        try:
            verified = await verifier.verify(token)
        except (InvalidTokenError, KeysUnavailableError) as error:
            return sections, _refusal(error)
    return sections, _valid(verified) if unheard is None else _refusal(unheard)


async def _heard(fleet: ConfiguredFleet | None) -> DistrustNotSharedError | None:
    """Have the verifier know what the fleet distrusts; gives why it can't be known."""
    if fleet is None:
        return None
    try:
        await fleet.distrusted()
    except DistrustNotSharedError as error:
        return error
    finally:
        await fleet.aclose()
    return None


def _split(compact: str, longest: int) -> bytes:
    token = to_bytes(compact, longest)
    split(token)
    return token


def _valid(token: VerifiedToken) -> _Conclusion:
    names = sorted(token.scopes | token.permissions)
    more = [f"{len(names) - _MOST_NAMED} more"] if len(names) > _MOST_NAMED else []
    named = ", ".join([*names[:_MOST_NAMED], *more]) or "none"
    text = f"Valid. A route may ask for scopes or permissions too: the token has {named}."
    return _Conclusion("ok", text, 0)


def _refusal(
    error: InvalidTokenError
    | KeysUnavailableError
    | EnvironmentVariableError
    | DistrustNotSharedError,
) -> _Conclusion:
    if isinstance(error, InvalidTokenError):
        return _Conclusion("NO", f"Not valid ({error.code}): {error}", 1)
    return _Conclusion("??", f"Unknown ({error.code}): {error}", 3)


def _print(sections: Sections, conclusion: _Conclusion, note: str) -> None:
    console = Console(highlight=False, soft_wrap=True)
    width = max((len(_name(line)) for lines in sections.values() for line in lines), default=0)
    for title, lines in sections.items():
        console.print(Text(title, "bold"))
        for line in lines:
            console.print(_rendered(line, width))
    if note:
        console.print(note, markup=False)
    console.print(Text(printable(conclusion.text), _STYLES[conclusion.mark]))


def _rendered(line: Line, width: int) -> Text:
    style = _STYLES[line.mark]
    text = Text.assemble("  ", (line.mark, style), f"  {_name(line):<{width}}  ")
    text.append(printable(line.text))
    if line.note:
        text.append(f"\n      {'':<{width}}  {printable(line.note)}", style or "dim")
    return text


def _name(line: Line) -> str:
    return printable(line.name)[:30]
