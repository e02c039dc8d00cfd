"""FastAPI with a middleware that does nothing."""

from benchmarks.http_apps.fastapi_plain import app
from benchmarks.http_apps.starlette_middleware import DoNothing

app.add_middleware(DoNothing)
