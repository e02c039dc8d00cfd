"""A key set fetched once, for libraries that leave fetching to the application."""

from __future__ import annotations

import json
import urllib.request
from typing import Any


def fetched(jwks_uri: str) -> dict[str, Any]:
    """The JWK Set at `jwks_uri`."""
    with urllib.request.urlopen(jwks_uri, timeout=10) as response:
        document: dict[str, Any] = json.load(response)
    return document
