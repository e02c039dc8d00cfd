from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from math import gcd

import httpx
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from jwks_guard import RevokedKeyError, TokenVerifier
from jwks_guard.testing import LocalTenant
from jwks_guard.testing.keys import new_rsa_key
from jwks_guard.testing.primes import SharedPrimes


async def distrust_in_one_tenant_and_use_another(make: Callable[[], RSAPrivateKey]) -> str:
    """What a second tenant's token is once all keys of a first one are distrusted; may raise."""
    kids = []
    for name in ("first", "second"):
        url = f"https://{name}.test/"
        async with LocalTenant(in_process=True, issuer=url, make_rsa_key=make) as tenant:
            transport = tenant.transport
            client = httpx.AsyncClient(transport=transport)
            async with client, TokenVerifier(url, tenant.audience, http_client=client) as verifier:
                kids.append((await verifier.verify(tenant.token())).kid)
                if name == "first":
                    for key in tenant.signing_keys:
                        await verifier.distrust(key.kid, reason="leaked", force=True)
    return kids[-1]


async def test_key_that_two_tenants_share_is_refused_for_both() -> None:
    """Why the fixtures can't keep the keys of one test for the next."""
    made = cycle([new_rsa_key(), new_rsa_key()])
    with pytest.raises(RevokedKeyError):
        await distrust_in_one_tenant_and_use_another(lambda: next(made))


async def test_distrust_does_not_reach_a_tenant_whose_keys_share_only_primes() -> None:
    primes = SharedPrimes()
    for _ in range(2):
        primes.key()  # the next four keys are made of known primes only
    assert await distrust_in_one_tenant_and_use_another(primes.key)


def test_no_key_is_given_twice_and_few_primes_are_looked_for() -> None:
    primes = SharedPrimes()
    with ThreadPoolExecutor(4) as threads:
        keys = list(threads.map(lambda _: primes.key(), range(28)))
    moduli = {key.public_key().public_numbers().n for key in keys}
    factors = {prime for n in moduli for m in moduli if (prime := gcd(n, m)) not in (1, n)}
    assert (len(moduli), len(factors)) == (28, 8)


def test_its_keys_are_whole_and_sign_as_others_do() -> None:
    primes = SharedPrimes()
    for key in [primes.key() for _ in range(6)]:
        key.private_numbers().private_key()  # OpenSSL's own check
        assert key.key_size == 2048
        signature = key.sign(b"signed", padding.PKCS1v15(), hashes.SHA256())
        key.public_key().verify(signature, b"signed", padding.PKCS1v15(), hashes.SHA256())
