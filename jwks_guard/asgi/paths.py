"""Which paths the middleware leaves alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jwks_guard.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.types import Scope

# A proxy, a router and a file server can each read these differently: `/public/..%2fadmin` must
# not be public to the guard and `/admin` to whatever stands behind it.
_AMBIGUOUS = ("//", "\\", ";", "%2f", "%5c", "/./", "/../")


@dataclass(frozen=True, slots=True)
class ExcludedPaths:
    """The compiled `exclude_paths`: whole paths, and prefixes that end in a slash."""

    exact: frozenset[str]
    prefixes: tuple[str, ...]

    @property
    def any(self) -> bool:
        """Whether some path is excluded."""
        return bool(self.exact or self.prefixes)

    def cover(self, scope: Scope) -> bool:
        """Tell whether the path of a request or WebSocket, taken below `root_path`, is excluded.

        One that can be read in two ways, raw or decoded, never is.
        """
        if not self.any:
            return False
        if not self.cover_path(_below_root(scope["path"], scope.get("root_path", ""))):
            return False
        raw = scope.get("raw_path") or b""  # optional in ASGI
        return not _is_ambiguous(raw.decode("latin-1"))

    def cover_path(self, path: str) -> bool:
        """Tell whether `path`, decoded and as the router matches it, is excluded."""
        if path not in self.exact and not path.startswith(self.prefixes):
            return False
        return not _is_ambiguous(path)


def excluded_paths(patterns: Iterable[str]) -> ExcludedPaths:
    """Compile `patterns`: a path, or a path and `/*` for everything below it.

    `/public/*` covers `/public/` and `/public/a/b`, but neither `/public` nor `/publicity`.

    Raises:
        ConfigurationError: a pattern that could never match, or would match every path.

    """
    if isinstance(patterns, str):
        raise ConfigurationError("exclude_paths is a string; write a list: ['/health']")
    checked = [_checked(pattern) for pattern in patterns]
    return ExcludedPaths(
        exact=frozenset(pattern for pattern in checked if not pattern.endswith("*")),
        prefixes=tuple(pattern[:-1] for pattern in checked if pattern.endswith("*")),
    )


def _checked(pattern: str) -> str:
    plain = pattern.removesuffix("/*") if isinstance(pattern, str) else ""
    if not plain.startswith("/") or any(mark in plain for mark in "*?#"):
        raise ConfigurationError(
            f"exclude_paths holds {pattern!r}; write a path that begins with '/', or one that "
            "ends in '/*' for everything below it (to exclude all paths, leave the guard out)"
        )
    if _is_ambiguous(pattern):
        raise ConfigurationError(
            f"exclude_paths holds {pattern!r}; a path with '//', dot segments, ';', backslashes "
            "or an encoded slash is never excluded: write the plain path"
        )
    return pattern


def _is_ambiguous(path: str) -> bool:
    # Not by a regular expression, which takes 4 ms for a path of 60 KB, and anybody can send one.
    plain = path.lower().replace("%2e", ".")
    return (
        any(mark in plain for mark in _AMBIGUOUS)
        or plain.startswith(("./", "../"))
        or plain.endswith(("/.", "/.."))
        or plain in (".", "..")
    )


def _below_root(path: str, root_path: str) -> str:
    """The part of `path` that routes are matched on; empty where frameworks disagree about it.

    With the root path `/a`, Litestar reads `/public/a/admin` as `/admin`, and Quart `/apple` as
    `pple`. Where the server is daphne, the root path is whatever a client's header says.
    """
    if root_path in ("", "/"):
        return path
    if not path.startswith(root_path):
        return "" if root_path in path else path
    below = path[len(root_path) :]
    return below if below.startswith("/") else ""
