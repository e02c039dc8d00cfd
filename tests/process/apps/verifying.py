"""A program that verifies and distrusts as its standard input says, one JSON array per line.

Arguments: a JSON object with those of SyncTokenVerifier. It answers each line with one of JSON.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from jwks_guard import JWKSGuardError, SyncTokenVerifier


def obey(verifier: SyncTokenVerifier, order: str, *arguments: str) -> Any:
    if order == "verify":
        try:
            return verifier.verify(*arguments).kid
        except JWKSGuardError as error:
            return error.code
    if order == "distrust":
        return verifier.distrust(*arguments, reason="leaked", force=True)
    if order == "distrusted":
        return sorted(verifier.distrusted)
    return verifier.health().status


if __name__ == "__main__":
    with SyncTokenVerifier(**json.loads(sys.argv[1])) as verifier:
        for line in sys.stdin:
            sys.stdout.write(json.dumps(obey(verifier, *json.loads(line))) + "\n")
            sys.stdout.flush()
