"""Encoded messages signed by hand: the right one of RSASSA-PKCS1-v1_5, and many wrong ones."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

DIGEST_INFO_OF_SHA256 = bytes.fromhex("3031300d060960864801650304020105000420")
BLOCK = 256


def filled(start: bytes, end: bytes) -> bytes:
    """Give an encoded message of full length: as many octets 0xff between as there is room for."""
    return start + b"\xff" * (BLOCK - len(start) - len(end)) + end


def forged_messages(digest: bytes) -> dict[str, bytes]:
    """Give what a lax parser takes for EMSA-PKCS1-v1_5 of `digest` (RFC 8017 section 9.2)."""
    right = DIGEST_INFO_OF_SHA256 + digest
    no_null = bytes.fromhex("302f300b0609608648016503040201") + b"\x04\x20" + digest
    other_null = bytes.fromhex("3033300f06096086480165030402010502beef0420") + digest
    long_form = bytes.fromhex("308131300d060960864801650304020105000420") + digest
    sha1 = bytes.fromhex("3021300906052b0e03021a05000414") + digest[:20]
    return {
        "garbage after the hash": b"\0\1" + b"\xff" * 8 + b"\0" + right + b"g" * 194,
        "garbage in the padding": b"\0\1" + b"\xff" * 100 + b"g" * 102 + b"\0" + right,
        "garbage instead of the separator": filled(b"\0\1", b"\1" + right),
        "short padding": (b"\0\1" + b"\xff" * 8 + b"\0" + right).ljust(BLOCK, b"\0"),
        "padding of block type 0": b"\0\0" + b"\0" * (BLOCK - 3 - len(right)) + b"\0" + right,
        "padding of block type 2": filled(b"\0\2", b"\0" + right),
        "first octet not zero": filled(b"\0\1", b"\0" + right)[1:] + b"\0",
        "no padding": right.rjust(BLOCK, b"\0"),
        "no parameters": filled(b"\0\1", b"\0" + no_null),
        "parameters with content": filled(b"\0\1", b"\0" + other_null),
        "length in long form": filled(b"\0\1", b"\0" + long_form),
        "the hash without DigestInfo": filled(b"\0\1", b"\0" + digest),
        "half of the hash": filled(b"\0\1", b"\0" + right[:-16]),
        "another hash's DigestInfo": filled(b"\0\1", b"\0" + sha1),
        "nothing after the separator": filled(b"\0\1", b"\0"),
    }


def raw_signature(private_key: Any, encoded: bytes) -> bytes:
    numbers = private_key.private_numbers()
    modulus = numbers.public_numbers.n
    signed = pow(int.from_bytes(encoded, "big") % modulus, numbers.d, modulus)
    return int(signed).to_bytes(BLOCK, "big")


def digest_of(message: bytes) -> bytes:
    return sha256(message).digest()
