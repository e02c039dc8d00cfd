from __future__ import annotations

from posixpath import normpath
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jwks_guard.asgi.paths import excluded_paths
from jwks_guard.errors import ConfigurationError

EXCLUDED = excluded_paths(["/health", "/", "/public/*", "/a b/*"])


def covered(raw_path: str, root_path: str = "") -> bool:
    scope = {"path": unquote(raw_path), "raw_path": raw_path.encode(), "root_path": root_path}
    return EXCLUDED.cover(scope)


@pytest.mark.parametrize(
    "path",
    ["/health", "/", "/public/", "/public/a", "/public/a/b.css", "/public/...", "/a%20b/%C3%A9"],
)
def test_exact_path_and_what_lies_below_a_prefix_are_excluded(path: str) -> None:
    assert covered(path)


@pytest.mark.parametrize(
    "path",
    ["", "/health/", "/healthy", "/Health", "/health/x", "/public", "/publicity", "/x/public/a"],
)
def test_a_path_is_excluded_on_segment_borders_only(path: str) -> None:
    assert not covered(path)


@pytest.mark.parametrize(
    "path",
    [
        "/public//admin",
        "//health",
        "/public/../admin",
        "/public/./a",
        "/public/..",
        "/public/.",
        "/public/%2e%2e/admin",
        "/public/.%2E/admin",
        "/public/%2e",
        "/public/..%2fadmin",
        "/public/a%2Fb",
        "/public%2fa",
        "/public/a%5Cb",
        "/public/..%5cadmin",
        "/public/a\\b",
        "/public/a;b=c",
        "/public/..;/admin",
        "/public/%3b",
        "/public/%252e%252e/admin",
        "/public/..%252fadmin",
        "/health;x",
        "/%68ealth/..",
    ],
)
def test_a_path_that_can_be_read_in_two_ways_is_never_excluded(path: str) -> None:
    assert not covered(path)
    assert not covered("/api" + path, root_path="/api")


PIECES = st.lists(
    st.sampled_from(["/", ".", "public", "health", "a", "é", ";", "\\", "//"])
    | st.sampled_from(["%2e", "%2F", "%5c", "%3B", "%25", "%252e"])
)


@given(PIECES)
def test_whoever_decodes_and_tidies_up_an_excluded_path_ends_up_at_an_excluded_one(
    pieces: list[str],
) -> None:
    raw_path = "/" + "".join(pieces)
    scope = {"path": unquote(raw_path), "raw_path": raw_path.encode()}
    if EXCLUDED.cover(scope):
        most_decoded = unquote(unquote(raw_path)).replace("\\", "/").partition(";")[0]
        assert (normpath(most_decoded) + "/").startswith(("/health/", "/public/")) or (
            most_decoded == "/"
        )


def test_the_raw_path_counts_although_the_decoded_one_looks_plain() -> None:
    scope = {"path": "/public/a/b", "raw_path": b"/public/a%2fb", "root_path": ""}
    assert not EXCLUDED.cover(scope)


@pytest.mark.parametrize("raw_path", [{}, {"raw_path": None}])
def test_without_a_raw_path_the_decoded_one_decides(raw_path: dict[str, None]) -> None:
    assert EXCLUDED.cover({"path": "/health", **raw_path})
    assert not EXCLUDED.cover({"path": "/public/../admin", **raw_path})
    assert not EXCLUDED.cover({"path": "/public/a;b", **raw_path})


@pytest.mark.parametrize(
    ("path", "root_path", "expected"),
    [
        ("/api/health", "/api", True),
        ("/api/public/a", "/api", True),
        ("/api/", "/api", True),
        ("/api", "/api", False),
        ("/apihealth", "/api", False),
        ("/api/api/health", "/api", False),
        ("/health", "/api", True),  # a server that leaves the root path out, as Starlette reads it
        ("/health/health", "/health", True),
        ("/health", "/health", False),
        ("/health", "/", True),
        ("/public/a", "/x/public", True),
    ],
)
def test_paths_are_compared_below_the_root_path(path: str, root_path: str, expected: bool) -> None:
    assert covered(path, root_path) is expected


@pytest.mark.parametrize(
    ("path", "root_path"),
    [
        ("/public/admin", "/public/"),
        ("/public/xadmin", "/public/x"),
        ("/public/admin", "/pub"),
        ("/public/a/admin", "/a"),
        ("/public/a/admin", "a/"),
        ("/x/health", "/x/"),
    ],
)
def test_a_path_that_frameworks_read_differently_below_its_root_is_never_excluded(
    path: str, root_path: str
) -> None:
    assert not covered(path, root_path)


def test_a_raw_path_without_the_root_path_is_fine() -> None:
    scope = {"path": "/api/health", "raw_path": b"/health", "root_path": "/api"}
    assert EXCLUDED.cover(scope)


def test_nothing_is_excluded_by_default() -> None:
    nothing = excluded_paths(())
    assert not nothing.cover({"path": "/", "raw_path": b"/", "root_path": ""})
    assert not nothing.cover({"path": "", "raw_path": b"", "root_path": ""})


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "health",
        "*",
        "/*",
        "/public*",
        "/*/health",
        "/public/*/",
        "/public/**",
        "/health?x=1",
        "/health#top",
        "/public//*",
        "/a//b",
        "/a/../b",
        "/a;b",
        "/a%2fb",
        "/a\\b",
    ],
)
def test_a_pattern_that_is_not_meant_so_is_a_configuration_error(pattern: str) -> None:
    with pytest.raises(ConfigurationError, match="exclude_paths"):
        excluded_paths(["/ok", pattern])


@pytest.mark.parametrize("patterns", ["/health", [None], [b"/health"]])
def test_patterns_of_a_wrong_type_are_a_configuration_error(patterns: list[str]) -> None:
    with pytest.raises(ConfigurationError, match="exclude_paths"):
        excluded_paths(patterns)
