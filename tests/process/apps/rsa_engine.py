"""Verifies RSA tokens, or with the argument `ES256` others, and prints what verified them."""

from __future__ import annotations

import asyncio
import json
import sys
import threading

import httpx

from jwks_guard import InvalidSignatureError, TokenVerifier
from jwks_guard.testing import LocalTenant


async def main(algorithm: str) -> None:
    with LocalTenant(in_process=True, algorithm=algorithm) as tenant:
        await verify(tenant)


async def verify(tenant: LocalTenant) -> None:
    verifier = TokenVerifier.from_env(
        issuer=tenant.issuer,
        audience=tenant.audience,
        http_client=lambda: httpx.AsyncClient(transport=tenant.transport),
    )
    imported_before = "awscrt" in sys.modules
    async with verifier:
        results = []
        for _ in range(2):
            token = tenant.token()
            body, _, signature = token.rpartition(".")
            forged = f"{body}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"
            await verifier.verify(token)
            results.append("accepted")
            try:
                await verifier.verify(forged)
            except InvalidSignatureError:
                results.append("refused")
        report = verifier.health().to_dict()
    module = sys.modules.get("awscrt")
    answer = {
        "results": results,
        "engine": report["rsa_engine"],
        "fallbacks": sorted(report["rsa_fallbacks"].values()),
        "imported": [imported_before, module is not None],
        "on_the_loop": getattr(module, "IMPORTED_BY", None) == threading.get_ident(),
    }
    print(json.dumps(answer))  # noqa: T201 - it is what the test reads


asyncio.run(main(sys.argv[1]))
