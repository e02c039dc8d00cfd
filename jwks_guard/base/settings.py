"""The settings: the names and types of what can be set in the environment and in a TOML file.

Verifiers and the command share the names and the file, so each takes the other's settings as well.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypedDict, get_origin, get_type_hints

from msgspec import Meta

from jwks_guard.base.arguments import MAX_SECONDS
from jwks_guard.jose.algorithms import ALGORITHMS

_FLEET = r"^\s*((rediss?(\+sentinel)?|unix)://\S+|https?://\S+(\s+https?://\S+)*)\s*$"
_NAMES = sorted(ALGORITHMS)
# Every type says in its description what a value must be.
_Text = Annotated[str, Meta(min_length=1, description="a non-empty string")]
# Of commas between values, "a, b" would be the values "a," and "b", and "a,b" a single one.
_Texts = Annotated[
    list[Annotated[str, Meta(pattern="^[^,]+$")]],
    Meta(
        min_length=1,
        description="one or more texts with spaces and no commas between them, or a TOML list",
    ),
]
_Algorithms = Annotated[
    list[Annotated[str, Meta(pattern=f"^({'|'.join(_NAMES)})$")]],
    Meta(min_length=1, description=f"one or more of {' '.join(_NAMES)}"),
]
_Claims = Annotated[
    # Within a value they may be a distinguished name's.
    list[Annotated[str, Meta(pattern="^[^=,]+=.*[^,]$")]],
    Meta(
        min_length=1,
        description="one or more claims of ID tokens as name=value, like groups=sre, with spaces "
        "and no commas between them, or a TOML list",
    ),
]
_Seconds = Annotated[float, Meta(gt=0, le=MAX_SECONDS, description="a number of seconds above 0")]
_SecondsFrom0 = Annotated[
    float, Meta(ge=0, le=MAX_SECONDS, description="a number of seconds of at least 0")
]
_Count = Annotated[int, Meta(ge=1, description="an integer of at least 1")]
_CountFrom0 = Annotated[int, Meta(ge=0, description="an integer of at least 0")]
_Flag = Annotated[bool, Meta(description="true or false")]
_File = Annotated[Path, Meta(description="the path of a file")]
_URLs = Annotated[
    str,
    Meta(
        pattern=_FLEET,
        description="the URL of a Redis (redis://, rediss://, unix://, redis+sentinel://, "
        "rediss+sentinel://), or the URLs of every instance's operations routes (https://) with "
        "spaces between them",
    ),
]


class IssuerSettings(TypedDict, total=False):
    """Whose keys are meant: `issuer`, or the one of the Auth0 domain `domain`."""

    domain: _Text
    issuer: _Text
    jwks_uri: _Text


class VerifierSettings(TypedDict, total=False):
    """The arguments of TokenVerifier that are values."""

    audience: _Texts
    client_ids: _Texts
    allow_http: _Texts
    algorithms: _Algorithms
    leeway: _SecondsFrom0
    required_claims: _Texts
    max_token_age: _Seconds
    token_types: _Texts
    bindings: _Text
    refresh_interval: _Seconds
    max_stale: _Seconds
    max_upstream_age: _SecondsFrom0
    fetch_timeout: _Seconds
    max_wait: _Seconds
    token_cache_size: _CountFrom0
    token_cache_bytes: _Count
    max_token_bytes: _Count
    max_jwks_bytes: _Count
    snapshot_path: _File
    background: _Flag
    fast_rsa: _Flag


class FleetSettings(TypedDict, total=False):
    """Where what is distrusted is shared."""

    fleet: _URLs
    fleet_prefix: _Text
    fleet_secret_file: _File


class CommandSettings(TypedDict, total=False):
    """What only the command needs. `token` can't stand in a file."""

    client_id: _Text
    client_secret: _Text
    client_secret_file: _File
    private_key_file: _File
    token_file: _File
    token: _Text
    management_audience: _Text
    token_lifetime_seconds: _Seconds
    expected_instances: _Count
    quiet_period_seconds: _Seconds
    journal: _File


class ConsoleSettings(TypedDict, total=False):
    """Who may log in at the console."""

    console_operator_secret: _Text
    console_operator_secret_file: _File
    console_viewer_secret: _Text
    console_viewer_secret_file: _File
    console_issuer: _Text
    console_client_id: _Text
    console_client_secret: _Text
    console_client_secret_file: _File
    console_redirect_uri: _Text
    console_operators: _Claims
    console_viewers: _Claims


class Settings(
    IssuerSettings, VerifierSettings, FleetSettings, CommandSettings, ConsoleSettings, total=False
):
    """Everything that can be set."""


_TYPES = get_type_hints(Settings, include_extras=True)
NAMES = tuple(_TYPES)
LISTS = frozenset(name for name in NAMES if get_origin(_TYPES[name].__origin__) is list)
"""Settings that take several values."""


def must_be(name: str) -> str:
    """What a value of the setting `name` must be, in words."""
    description: str = _TYPES[name].__metadata__[0].description
    return description
