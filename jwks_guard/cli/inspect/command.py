"""`jwks-guard inspect`: what is right and wrong with a token, in words."""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import dataclass
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from jwks_guard import (
    ConfigurationError,
    EnvironmentVariableError,
    InvalidTokenError,
    KeysUnavailableError,
    TokenVerifier,
)
from jwks_guard.cli.inspect.explain import Rules, Sections, explain
from jwks_guard.cli.words import Line, Mark, printable
from jwks_guard.jose.algorithms import ALGORITHMS, ALL, allow_list
from jwks_guard.jose.claims import ClaimsPolicy
from jwks_guard.jose.compact import split, to_bytes

_MAX_TOKEN_BYTES = 16_384
_TOKEN_TYPES = frozenset({"jwt", "at+jwt", None})
_LEEWAY = 5.0
_REQUIRED_CLAIMS = ("exp",)
_STYLES: dict[Mark, str] = {"ok": "green", "NO": "bold red", "??": "bold yellow", "  ": ""}


@dataclass(frozen=True, slots=True)
class _Conclusion:
    mark: Mark
    text: str
    status: int


_VALID = _Conclusion("ok", "Valid: this API would accept it now.", 0)
_NOT_VERIFIED = _Conclusion(
    "??", "Not verified: add --issuer and --audience to check key, signature and claims.", 1
)


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
        str | None, typer.Option(help="Who must have issued it: `iss`, to the letter.")
    ] = None,
    audience: Annotated[
        list[str] | None, typer.Option(help="The API it must be for; may be repeated.")
    ] = None,
    jwks_uri: Annotated[
        str | None, typer.Option(help="Where the issuer's keys are, if not told by discovery.")
    ] = None,
    algorithm: Annotated[
        list[str] | None, typer.Option(help="An allowed algorithm; may be repeated.  [all]")
    ] = None,
) -> None:
    """Explain what is right and wrong with TOKEN; neither it nor its signature is printed.

    Without --issuer its content is shown and nothing is fetched.

    Exit status: 0 valid, 1 not valid or unknown, 2 usage, 3 the issuer could not be reached.
    """
    compact = _one_token(token)
    if issuer is None and (audience or jwks_uri or algorithm):
        raise typer.BadParameter("it is needed beside the other options", param_hint="--issuer")
    if issuer is not None and not audience:
        raise typer.BadParameter("it is needed beside --issuer", param_hint="--audience")
    try:
        if issuer is None or not audience:
            sections, conclusion = _content(compact)
        else:
            allowed = algorithm or sorted(ALGORITHMS)
            examined = _examined(compact, issuer, audience, jwks_uri, allowed)
            sections, conclusion = asyncio.run(examined)
    except EnvironmentVariableError as error:
        sections, conclusion = {}, _refusal(error)
    except ConfigurationError as error:
        raise typer.BadParameter(str(error)) from None
    except InvalidTokenError as error:  # not even the form of a token
        sections, conclusion = {}, _refusal(error)
    _print(sections, conclusion)
    raise typer.Exit(conclusion.status)


def _one_token(arguments: list[str]) -> str:
    """The one word that is the token; pasted with its scheme it is still meant."""
    text = " ".join(arguments)
    if text == "-":
        data = sys.stdin.buffer.read(2 * _MAX_TOKEN_BYTES)
        text = data.decode("ascii", "surrogateescape")
    words = text.split()
    if words and words[0].lower() == "bearer":
        del words[0]
    if len(words) != 1:  # typer's own message would repeat the words
        raise typer.BadParameter("give one token, or - for standard input", param_hint="TOKEN")
    return words[0]


def _content(compact: str) -> tuple[Sections, _Conclusion]:
    """What can be said of a token that nothing is asked about; raises InvalidTokenError."""
    rules = Rules(ALL, _TOKEN_TYPES, _policy("", [""]), parties=("sub",))
    return explain(_split(compact), rules, None, time.time()), _NOT_VERIFIED


async def _examined(
    compact: str, issuer: str, audience: list[str], jwks_uri: str | None, algorithms: list[str]
) -> tuple[Sections, _Conclusion]:
    """What can be said of a token, and the verdict; raises ConfigurationError, InvalidTokenError.

    The explanation is by parts, the verdict by the verifier that an API would use.
    """
    verifier = TokenVerifier(
        issuer,
        audience,
        jwks_uri=jwks_uri,
        algorithms=algorithms,
        token_types=_TOKEN_TYPES,
        leeway=_LEEWAY,
        required_claims=_REQUIRED_CLAIMS,
        max_token_bytes=_MAX_TOKEN_BYTES,
        background=False,
    )
    policy = _policy(issuer, audience)
    rules = Rules(allow_list(algorithms), _TOKEN_TYPES, policy, parties=("iss", "sub", "aud"))
    token = _split(compact)
    async with verifier:
        sections = explain(token, rules, verifier.keys, verifier.keys.clock.time())
        try:
            await verifier.verify(token)
        except (InvalidTokenError, KeysUnavailableError) as error:
            return sections, _refusal(error)
    return sections, _VALID


def _policy(issuer: str, audience: list[str]) -> ClaimsPolicy:
    return ClaimsPolicy(issuer, frozenset(audience), _LEEWAY, _REQUIRED_CLAIMS, None)


def _split(compact: str) -> bytes:
    token = to_bytes(compact, _MAX_TOKEN_BYTES)
    split(token)
    return token


def _refusal(
    error: InvalidTokenError | KeysUnavailableError | EnvironmentVariableError,
) -> _Conclusion:
    if isinstance(error, InvalidTokenError):
        return _Conclusion("NO", f"Not valid: {error}", 1)
    return _Conclusion("??", f"Unknown: {error}", 3)


def _print(sections: Sections, conclusion: _Conclusion) -> None:
    console = Console(highlight=False, soft_wrap=True)
    width = max((len(_name(line)) for lines in sections.values() for line in lines), default=0)
    for title, lines in sections.items():
        console.print(Text(title, "bold"))
        for line in lines:
            console.print(_rendered(line, width))
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
