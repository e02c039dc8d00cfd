"""auth0-api-python as a client of one tenant, line by line as `clients.mjs`."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from urllib.parse import urlsplit

from auth0_api_python import ApiClient, ApiClientOptions


async def main() -> None:
    domain = urlsplit(os.environ["ISSUER"]).netloc
    client = ApiClient(ApiClientOptions(domain=domain, audience=os.environ["AUDIENCE"]))
    for line in sys.stdin:
        try:
            claims = await client.verify_access_token(json.loads(line)["token"])
            answer = {"accepted": claims["sub"]}
        except Exception as error:  # noqa: BLE001 - whatever it is, the test shows it
            answer = {"refused": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)  # noqa: T201 - the other end of the pipe


asyncio.run(main())
