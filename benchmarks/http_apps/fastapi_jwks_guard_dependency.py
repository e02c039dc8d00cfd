"""FastAPI with a Guard as the dependency of a route."""

import os

from fastapi import Depends, FastAPI

from benchmarks.http_apps.fastapi_plain import hello
from jwks_guard import TokenVerifier
from jwks_guard.integrations.fastapi import Guard

guard = Guard(TokenVerifier(os.environ["ISSUER"], os.environ["AUDIENCE"]))
app = FastAPI(lifespan=guard.lifespan)
app.add_api_route("/", hello, dependencies=[Depends(guard)])
