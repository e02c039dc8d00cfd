"""A guarded Django API in one file: set JWKS_GUARD_ISSUER and JWKS_GUARD_AUDIENCE, then

`uvicorn examples.django_api:asgi` or `gunicorn examples.django_api:wsgi`.
"""

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import path

from jwks_guard import SyncTokenVerifier
from jwks_guard.integrations.django import get_token, get_verifier, require_token

settings.configure(
    ROOT_URLCONF=__name__,
    ALLOWED_HOSTS=["localhost", "127.0.0.1"],
    MIDDLEWARE=[
        "django.middleware.common.CommonMiddleware",
        "jwks_guard.integrations.django.DjangoGuardMiddleware",
    ],
    JWKS_GUARD={
        "VERIFIER": SyncTokenVerifier.from_env(),
        "EXCLUDE_PATHS": ["/health"],
    },
)


async def me(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"sub": get_token(request).subject})


@require_token(required_scopes=["read:things"])
def things(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"owner": get_token(request).subject, "things": []})


def health(request: HttpRequest) -> JsonResponse:
    report = get_verifier().health()
    return JsonResponse(report.to_dict(), status=503 if report.status == "unavailable" else 200)


urlpatterns = [path("me", me), path("things", things), path("health", health)]
wsgi = get_wsgi_application()
asgi = get_asgi_application()
