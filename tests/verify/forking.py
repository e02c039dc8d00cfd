"""What a forked child has of the issuers that its parent has asked for; prints one JSON object."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from contextlib import suppress
from typing import Any

from jwks_guard import MultiIssuerVerifier, TokenVerifier
from jwks_guard.testing import LocalTenant
from tests.support import HandClock, tenant_of, verifier_of


def main() -> None:
    clock, calls, heard = HandClock(), list[str](), list[str]()
    gate: asyncio.Event | None = None
    with (
        tenant_of(clock, issuer="https://one.test/") as one,
        tenant_of(clock, issuer="https://two.test/") as two,
    ):
        tenants: dict[str, LocalTenant] = {each.issuer: each for each in (one, two)}

        async def resolve(issuer: str) -> TokenVerifier | None:
            calls.append(issuer)
            if gate is not None and issuer == two.issuer:
                await gate.wait()
            return verifier_of(tenants[issuer], clock, background=False)

        multi = MultiIssuerVerifier([], resolve=resolve, clock=clock)

        async def parent() -> None:
            nonlocal gate
            await multi.verify(one.token())
            gate = asyncio.Event()
            with suppress(TimeoutError):  # the call itself goes on
                await asyncio.wait_for(multi.verify(two.token()), 0.1)
            gate = None
            in_child(lambda: asyncio.Runner().run(child()))

        async def child() -> dict[str, Any]:
            accepted = [(await multi.verify(each.token())).issuer for each in (one, two)]
            stop = multi.subscribe(lambda: heard.append("changed"))
            await multi.forget(two.issuer)
            stop()
            await multi.aclose()
            return {"accepted": accepted, "calls": calls, "heard": bool(heard)}

        def in_child(work: Any) -> None:
            if (pid := os.fork()) == 0:
                signal.alarm(60)
                try:
                    asyncio._set_running_loop(None)  # it is the parent's
                    os.write(sys.stdout.fileno(), json.dumps(work()).encode())
                finally:
                    os._exit(0)
            os.waitpid(pid, 0)

        asyncio.run(parent())


if __name__ == "__main__":
    main()
