"""Reads settings: by variables of the environment, and by the same names in a TOML file."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast

from msgspec import ValidationError, convert

from jwks_guard.base.arguments import is_encodable
from jwks_guard.base.settings import LISTS, NAMES, Settings, must_be
from jwks_guard.errors import ConfigurationError

PREFIX = "JWKS_GUARD_"
FILE_VARIABLE = PREFIX + "CONFIG"
"""The variable that names the file."""
_IN_FILES = tuple(name for name in NAMES if name != "token")
_SECRETS = (
    *("client_secret", "console_operator_secret", "console_viewer_secret"),
    "console_client_secret",
)
_OF_KUBERNETES = re.compile(r"(\w+_)?(SERVICE_(HOST|PORT\w*)|PORT(_\d+_\w+)?)")
"""Variables that each container has of a Service whose name begins with "jwks-guard"."""


@dataclass(frozen=True, slots=True)
class Found:
    """The settings that were found, and what an error calls each: a variable, or a name in a file.

    `values` may hold secrets.
    """

    values: Settings = field(default_factory=Settings, repr=False)
    names: Mapping[str, str] = field(default_factory=dict)

    def over(self, others: Found) -> Found:
        """Both; where `others` has a setting as well, this one's counts."""
        return Found({**others.values, **self.values}, {**others.names, **self.names})

    def without(self, names: Collection[str]) -> Found:
        """All but the settings of these names."""
        kept = {name: value for name, value in self.values.items() if name not in names}
        return Found(cast(Settings, kept), {name: self.names[name] for name in kept})

    def named(
        self, error: ConfigurationError, settings: Mapping[str, str] | None = None
    ) -> ConfigurationError:
        """`error` with the setting's name instead of the argument's, which it begins with.

        `settings` are the names of settings by argument, where they differ.
        """
        argument, space, text = str(error).partition(" ")
        setting = (settings or {}).get(argument, argument)
        if setting not in self.names or str(error).startswith(self.names[setting]):
            return error  # or it has the name, of a file
        return ConfigurationError(f"{self.names[setting]}{space}{text}")


def variable(name: str) -> str:
    """The environment variable of the setting `name`."""
    return PREFIX + name.upper()


def read_settings(environ: Mapping[str, str], path: str | os.PathLike[str] | None = None) -> Found:
    """The settings in `environ`, and in the file at `path` or else at `environ`'s own.

    The environment wins over the file. Raises ConfigurationError, which shows no value.
    """
    named = path if path is not None else environ.get(FILE_VARIABLE) or None
    found = in_environment(environ)
    return found if named is None else found.over(in_file(Path(named)))


def in_environment(environ: Mapping[str, str]) -> Found:
    """The settings in `environ`; an empty variable counts as unset. Raises ConfigurationError."""
    given = {
        name.removeprefix(PREFIX): text
        for name, text in environ.items()
        if name.startswith(PREFIX) and name != FILE_VARIABLE and text
    }
    known = {name.upper(): name for name in NAMES}
    for name in sorted(given.keys() - known.keys()):
        if not _OF_KUBERNETES.fullmatch(name):
            raise _unknown(PREFIX + name, [variable(each) for each in _near(name.lower(), NAMES)])
    texts = {known[name]: text for name, text in given.items() if name in known}
    for name, text in texts.items():
        if not is_encodable(text):  # the variable holds other bytes than UTF-8
            raise ConfigurationError(f"{variable(name)} must be {must_be(name)}.")
    return _checked(texts, {name: variable(name) for name in texts}, Path(), strict=False)


def in_file(path: Path) -> Found:
    """The settings in the TOML file at `path`; raises ConfigurationError.

    Paths in it start from its folder. A file with a secret may be readable by its owner alone.
    """
    document, mode = _document(path)
    for name in sorted(set(document) - set(_IN_FILES)):
        raise _unknown(f"{name} in {path}", _near(name, _IN_FILES))
    if (secret := _secret_in(document)) and os.name == "posix" and mode & 0o077:
        raise ConfigurationError(
            f"{path} holds a {secret} and can be read by others: chmod 600 {path}"
        )
    names = {name: f"{name} in {path}" for name in document}
    return _checked(document, names, path.parent, strict=True)


def content_of(name: str, path: Path) -> str:
    """The text of the file that `name` names, without the line end that editors leave there."""
    try:
        return path.read_text("ascii").removesuffix("\n").removesuffix("\r")
    except OSError as error:
        why = error.strerror
    except UnicodeDecodeError:
        why = "it is not ASCII text"
    raise ConfigurationError(f"{name}: {path} can't be read: {why}.")


def _checked(
    values: Mapping[str, Any], names: Mapping[str, str], folder: Path, *, strict: bool
) -> Found:
    """The values with the types of Settings; without `strict`, numbers and flags are texts."""

    def path(_: type, text: str) -> Path:
        if not text or "\0" in text:
            raise ValueError
        # Path.expanduser raises for an unknown user; this leaves the path, which is not found then.
        return folder / os.path.expanduser(text)  # noqa: PTH111

    split = {
        name: value.split() if name in LISTS and isinstance(value, str) else value
        for name, value in values.items()
    }
    try:
        return Found(convert(split, Settings, strict=strict, dec_hook=path), names)
    except ValidationError as error:
        found = re.search(r"`\$\.(\w+)", str(error))
    name = found[1] if found else ""
    raise ConfigurationError(f"{names[name]} must be {must_be(name)}.")


def _near(name: str, known: Sequence[str]) -> list[str]:
    return get_close_matches(name, known, n=1)


def _unknown(shown: str, near: list[str]) -> ConfigurationError:
    instead = f"did you mean {near[0]}?" if near else "correct its name, or remove it."
    return ConfigurationError(f"{shown} is no setting: {instead}")


def _secret_in(document: Mapping[str, Any]) -> str:
    """The name of a member that nobody else may read; empty if there is none."""
    if secret := next((name for name in _SECRETS if name in document), ""):
        return secret
    url = str(document.get("fleet", ""))
    return "fleet with a password" if "@" in url or "password" in url else ""


def _document(path: Path) -> tuple[dict[str, Any], int]:
    """The TOML document at `path`, and the file's mode."""
    try:
        with path.open("rb") as file:
            return tomllib.load(file), os.fstat(file.fileno()).st_mode
    except OSError as error:
        raise ConfigurationError(f"{path} can't be read: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        # Of the parser's own words: those of a UnicodeDecodeError would hold the file's bytes.
        why = str(error) if isinstance(error, tomllib.TOMLDecodeError) else "it is not UTF-8 text"
        raise ConfigurationError(f"{path} can't be read as TOML: {why}.") from None
