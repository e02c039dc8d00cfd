"""A private RSA key of 8192 bits that takes no seconds to make: its two primes are published.

They are the primes of 4096 bits of RFC 3526 section 5 and of RFC 7919 appendix A.3.
"""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.rsa import (
    RSAPrivateKey,
    RSAPrivateNumbers,
    RSAPublicNumbers,
    rsa_crt_dmp1,
    rsa_crt_dmq1,
    rsa_crt_iqmp,
)

_GUARD_BITS = 64


def key_of_8192_bits(exponent: int) -> RSAPrivateKey:
    """The key with that public exponent; nothing that is signed with it is secret."""
    p = _prime(_pi(3966) + 240_904)
    q = _prime(_e(3966) + 5_736_041)
    d = pow(exponent, -1, (p - 1) * (q - 1))
    numbers = RSAPrivateNumbers(
        p=p,
        q=q,
        d=d,
        dmp1=rsa_crt_dmp1(d, p),
        dmq1=rsa_crt_dmq1(d, q),
        iqmp=rsa_crt_iqmp(p, q),
        public_numbers=RSAPublicNumbers(exponent, p * q),
    )
    # The check takes as long as it does to make another key.
    return numbers.private_key(unsafe_skip_rsa_key_validation=True)


def _prime(middle: int) -> int:
    return 2**4096 - 2**4032 + 2**64 * middle - 1


def _pi(bits: int) -> int:
    """The integer part of pi times 2 to the `bits`, by Machin's formula."""
    one = 1 << bits + _GUARD_BITS
    return 4 * (4 * _arctan_of_inverse(5, one) - _arctan_of_inverse(239, one)) >> _GUARD_BITS


def _arctan_of_inverse(number: int, one: int) -> int:
    total = term = one // number
    divisor, sign = 3, -1
    while term:
        term //= number**2
        total += sign * (term // divisor)
        divisor, sign = divisor + 2, -sign
    return total


def _e(bits: int) -> int:
    """The integer part of e times 2 to the `bits`."""
    total = term = 1 << bits + _GUARD_BITS
    number = 1
    while term:
        term //= number
        total += term
        number += 1
    return total >> _GUARD_BITS
