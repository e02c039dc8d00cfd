"""FastAPI with a dependency that does nothing: what any dependency of a route costs."""

# mypy: disable-error-code=import-not-found
# FastAPI is in the environments of those that are measured with it.

from fastapi import Depends, FastAPI

from benchmarks.http_apps.fastapi_plain import hello


async def nothing() -> None:
    pass


app = FastAPI()
app.add_api_route("/", hello, dependencies=[Depends(nothing)])
