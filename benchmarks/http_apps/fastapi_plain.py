"""FastAPI, unguarded."""

# mypy: disable-error-code=import-not-found
# FastAPI is in the environments of those that are measured with it.

from fastapi import FastAPI


async def hello() -> dict[str, str]:
    return {"message": "hello"}


app = FastAPI()
app.add_api_route("/", hello)
