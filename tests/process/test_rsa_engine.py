"""Which engine verifies in a process, with awscrt installed in all the ways that it can be."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.process.programs import PROJECT, run_to_end

APP = ("-m", "tests.process.apps.rsa_engine")
VERDICTS = ["accepted", "refused"] * 2
installed = pytest.mark.skipif(
    importlib.util.find_spec("awscrt") is None, reason="pip install 'jwks-guard[fast]'"
)
HEAD = """
from enum import IntEnum
RSASignatureAlgorithm = IntEnum("RSASignatureAlgorithm", ["PKCS1_5_SHA256", "PSS_SHA256"])
class RSA:
    @staticmethod
    def new_public_key_from_der_data(der):
"""
VERIFY = f"{HEAD}        return RSA()\n    def verify(self, *_):\n"


def verified(algorithm: str = "RS256", **environment: str) -> dict[str, Any]:
    """What the app says, in a process with these variables besides."""
    done = run_to_end([sys.executable, *APP, algorithm], cwd=PROJECT, env=os.environ | environment)
    assert done.returncode == 0
    answer: dict[str, Any] = {**json.loads(done.stdout), "logged": done.stderr}
    assert answer.pop("results") == VERDICTS, "whichever engine it is"
    return answer


def package(folder: Path, crypto: str) -> dict[str, str]:
    """The variables with which a process finds an awscrt that consists of this."""
    home = folder / "awscrt"
    home.mkdir()
    started = "import threading\n__version__ = '0.0'\nIMPORTED_BY = threading.get_ident()\n"
    (home / "__init__.py").write_text(started)
    (home / "crypto.py").write_text(crypto)
    return {"PYTHONPATH": str(folder)}


@installed
def test_awscrt_is_imported_with_the_first_rsa_key_and_not_before() -> None:
    answer = verified()
    assert answer["engine"].startswith("awscrt ")
    assert answer["fallbacks"] == []
    assert answer["imported"] == [False, True]


def test_awscrt_is_not_imported_where_no_key_is_of_rsa() -> None:
    answer = verified("ES256")
    assert (answer["engine"], answer["imported"]) == ("cryptography", [False, False])


def test_awscrt_is_not_imported_where_a_variable_says_so() -> None:
    answer = verified(JWKS_GUARD_FAST_RSA="false")
    assert (answer["engine"], answer["imported"]) == ("cryptography", [False, False])
    assert answer["fallbacks"] == []


def test_awscrt_is_imported_in_another_thread_than_the_event_loops(tmp_path: Path) -> None:
    answer = verified(**package(tmp_path, f"{HEAD}        raise ValueError('too odd')\n"))
    assert answer["imported"] == [False, True]
    assert not answer["on_the_loop"]


@pytest.mark.parametrize(
    ("crypto", "engine", "why"),
    [
        ("raise OSError('bad ELF')", "cryptography", "awscrt: OSError: bad ELF"),
        ("import no_such_part", "cryptography", "ModuleNotFoundError: No module named 'no_such"),
        ("", "awscrt 0.0", "awscrt: AttributeError: "),
        (f"{HEAD}        raise ValueError('too odd')", "awscrt 0.0", "awscrt: ValueError: too odd"),
        (f"{HEAD}        return RSA()", "awscrt 0.0", "awscrt: AttributeError: "),
        (f"{VERIFY}        raise RuntimeError('no')", "awscrt 0.0", "awscrt: RuntimeError: no"),
    ],
)
def test_keys_are_verified_by_cryptography_where_awscrt_fails_and_health_says_why(
    tmp_path: Path, crypto: str, engine: str, why: str
) -> None:
    answer = verified(**package(tmp_path, crypto))
    assert answer["engine"] == engine
    assert answer["fallbacks"]
    assert all(why in each for each in answer["fallbacks"])
    logged = [line for line in answer["logged"].splitlines() if "left to cryptography" in line]
    assert [why in line for line in logged] == [True]


@pytest.mark.parametrize("given", ["None", "1", "'yes'", "[True]"])
def test_only_true_is_taken_for_a_signature_that_verifies(tmp_path: Path, given: str) -> None:
    crypto = f"{VERIFY}        return {given}\n"
    environment = os.environ | package(tmp_path, crypto)
    done = run_to_end([sys.executable, *APP, "RS256"], cwd=PROJECT, env=environment)
    assert "InvalidSignatureError" in done.stderr
