"""RSA keys by the hundred, for tests: each pair of a few primes makes one."""

from __future__ import annotations

from threading import Lock

from cryptography.hazmat.primitives.asymmetric import rsa

from jwks_guard.testing.keys import RSA_EXPONENT, new_rsa_key


class SharedPrimes:
    """Makes RSA keys that share primes, and no key twice. Safe from any thread.

    To find two primes takes about 50 ms, to make a key of two known ones 0.2 ms; n primes make
    n(n-1)/2 keys. Each key has its own modulus, and so its own thumbprint (RFC 7638): tenants of
    one process can't share a key, of which the distrust in one test would reach the next.

    From two public keys with a prime in common anybody computes both private keys. Use it only for
    tenants that last no longer than a test run.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._primes: list[int] = []
        self._pairs: list[tuple[int, int]] = []

    def key(self) -> rsa.RSAPrivateKey:
        """A key that was not given before."""
        with self._lock:
            if not self._pairs:
                self._find_primes()
            return _key_of(*self._pairs.pop())

    def _find_primes(self) -> None:
        found = new_rsa_key().private_numbers()
        for prime in (found.p, found.q):
            self._pairs += [(known, prime) for known in self._primes]
            self._primes.append(prime)


def _key_of(p: int, q: int) -> rsa.RSAPrivateKey:
    # The primes of every key of this size lie above 2**1023.5, so any two make a full modulus.
    d = rsa.rsa_recover_private_exponent(RSA_EXPONENT, p, q)
    numbers = rsa.RSAPrivateNumbers(
        p=p,
        q=q,
        d=d,
        dmp1=rsa.rsa_crt_dmp1(d, p),
        dmq1=rsa.rsa_crt_dmq1(d, q),
        iqmp=rsa.rsa_crt_iqmp(p, q),
        public_numbers=rsa.RSAPublicNumbers(RSA_EXPONENT, p * q),
    )
    # To test known primes once more would take as long as to find them.
    return numbers.private_key(unsafe_skip_rsa_key_validation=True)
