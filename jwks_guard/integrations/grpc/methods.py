"""Which guard a method has, by its full name."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Generic, TypeVar

from jwks_guard.errors import ConfigurationError
from jwks_guard.verify.request import RequestGuard, Requirements, SyncRequestGuard

_G = TypeVar("_G", RequestGuard, SyncRequestGuard)
_METHOD = re.compile(r"/[^/*\s]+/([^/*\s]+|\*)")


class GuardsByMethod(Generic[_G]):
    """The guard of each method; None for those that need no token."""

    def __init__(
        self, guard: _G, methods: Mapping[str, Requirements], excluded: Collection[str]
    ) -> None:
        _require_patterns("methods", methods)
        _require_patterns("exclude_methods", excluded)
        if both := sorted(set(methods) & set(excluded)):
            raise ConfigurationError(f"{both[0]!r} is in methods and in exclude_methods: leave one")
        self._otherwise: _G = guard
        self._guards: dict[str, _G | None] = dict.fromkeys(excluded)
        for name in sorted(methods, key=lambda name: not name.endswith("/*")):  # services first
            all_of_it = self._guards.get(_service(name)) or guard
            self._guards[name] = all_of_it.requiring(**methods[name])

    def of(self, method: str) -> _G | None:
        """The guard of `method`, else that of its service, else that of all others."""
        otherwise = self._guards.get(_service(method), self._otherwise)
        return self._guards.get(method, otherwise)


def _service(method: str) -> str:
    return method.rpartition("/")[0] + "/*"


def _require_patterns(name: str, patterns: Collection[str]) -> None:
    for each in [patterns] if isinstance(patterns, str) else patterns:
        if patterns is each or not isinstance(each, str) or _METHOD.fullmatch(each) is None:
            raise ConfigurationError(
                f"{name} holds {each!r}; write a list of full names, '/package.Service/Method', or "
                "'/package.Service/*' for all methods of a service"
            )
