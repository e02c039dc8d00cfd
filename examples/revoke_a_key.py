"""A key has leaked: rotate, distrust it on this instance, and see that it stays refused.

Runs by itself on a local tenant: `python -m examples.revoke_a_key`.
"""

import asyncio

from jwks_guard import RevokedKeyError, TokenVerifier
from jwks_guard.testing import LocalTenant


async def main() -> None:
    async with (
        LocalTenant() as tenant,
        TokenVerifier(tenant.issuer, tenant.audience) as verifier,
    ):
        stolen = tenant.token(sub="auth0|mallory")
        leaked = (await verifier.verify(stolen)).kid
        print(f"accepted, signed by {leaked}")

        tenant.rotate()  # the tenant signs with its next key, which the verifier knows already
        await verifier.distrust(leaked, reason="found in a public repository")
        await verifier.keys.refresh()  # the tenant still publishes the leaked key

        try:
            await verifier.verify(stolen)
        except RevokedKeyError as refusal:
            print(f"refused: {refusal}")
        fresh = await verifier.verify(tenant.token(sub="auth0|alice"))
        print(f"accepted, signed by {fresh.kid}")


if __name__ == "__main__":
    asyncio.run(main())
