"""Clients that hold WebSockets open and note when the server closes them; a process of its own.

A command opens so many: {"url", "count", "token"}. The answer says how many are open. A second
answer follows when the server has closed all: when the last one heard of it, and each close code.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

AT_ONCE = 64
CLOSED_WITHIN = 60.0  # s


async def _opened(command: dict[str, Any]) -> list[ClientConnection]:
    gate = asyncio.Semaphore(AT_ONCE)
    headers = {"Authorization": f"Bearer {command['token']}"}

    async def one() -> ClientConnection:
        async with gate:
            return await connect(
                command["url"],
                additional_headers=headers,
                compression=None,
                ping_interval=None,
                open_timeout=30,
                proxy=None,
            )

    return await asyncio.gather(*(one() for _ in range(command["count"])))


async def _closed(connections: list[ClientConnection]) -> dict[str, Any]:
    at: list[float] = []

    async def one(connection: ClientConnection) -> None:
        await connection.wait_closed()
        at.append(time.monotonic())

    async with asyncio.timeout(CLOSED_WITHIN):
        await asyncio.gather(*map(one, connections))
    codes = Counter(connection.close_code for connection in connections)
    return {"last": max(at), "codes": {str(code): number for code, number in codes.items()}}


async def main() -> None:
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        command = json.loads(line)
        connections = await _opened(command)
        print(json.dumps({"open": len(connections)}), flush=True)
        if command["until_closed"]:
            print(json.dumps(await _closed(connections)), flush=True)
        else:
            await loop.run_in_executor(None, sys.stdin.readline)
            await asyncio.gather(*(each.close() for each in connections))
            print(json.dumps({}), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
