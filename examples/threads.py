"""Verifying in threads, as a WSGI app or a worker does: `python -m examples.threads`."""

from concurrent.futures import ThreadPoolExecutor

from jwks_guard import SyncTokenVerifier
from jwks_guard.testing import LocalTenant


def main() -> None:
    with LocalTenant() as tenant, SyncTokenVerifier(tenant.issuer, tenant.audience) as verifier:
        tokens = [tenant.token(sub=f"auth0|{number}") for number in range(100)]
        with ThreadPoolExecutor(4) as pool:
            subjects = {token.subject for token in pool.map(verifier.verify, tokens)}
        print(f"{len(subjects)} tokens verified in 4 threads, {tenant.requests.count()} key fetch")


if __name__ == "__main__":
    main()
