"""The one Django project of this process, whose settings tests override, and its apps."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any
from weakref import WeakSet

import django
from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.urls import path, re_path
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.cache import cache_page
from django.views.decorators.csrf import csrf_exempt

GUARD = "jwks_guard.integrations.django.DjangoGuardMiddleware"

settings.configure(
    ROOT_URLCONF=__name__,
    ALLOWED_HOSTS=["127.0.0.1", "testserver"],
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes"],
    MIDDLEWARE=["django.middleware.common.CommonMiddleware", GUARD],
    JWKS_GUARD={"ISSUER": "https://issuer.test/", "AUDIENCE": "https://api.test"},
)
django.setup()

# They read the settings when they are imported.
from rest_framework.permissions import IsAuthenticated  # noqa: E402
from rest_framework.request import Request  # noqa: E402
from rest_framework.response import Response  # noqa: E402
from rest_framework.test import APIClient as APIClient  # noqa: E402
from rest_framework.test import APIRequestFactory as APIRequestFactory  # noqa: E402
from rest_framework.test import force_authenticate as force_authenticate  # noqa: E402
from rest_framework.views import APIView  # noqa: E402

from jwks_guard import SyncTokenVerifier  # noqa: E402
from jwks_guard.integrations import rest_framework as drf  # noqa: E402
from jwks_guard.integrations.django import get_token, require_token  # noqa: E402

verifier = SyncTokenVerifier("https://issuer.test/", "https://api.test")


def name_of(request: Any) -> str:
    return "anonymous" if request.token is None else str(request.token.subject)


def hello(request: HttpRequest, *_: str) -> HttpResponse:
    return HttpResponse(name_of(request))


async def hello_async(request: HttpRequest) -> HttpResponse:
    return HttpResponse(name_of(request))


@require_token
def required(request: HttpRequest) -> HttpResponse:
    return HttpResponse(get_token(request).subject)


@require_token(required_scopes=["write:things"])
def writing(request: HttpRequest) -> HttpResponse:
    return HttpResponse("written")


@require_token(required_scopes=["write:things"])
async def writing_async(request: HttpRequest) -> HttpResponse:
    return HttpResponse("written")


@method_decorator(require_token(required_scopes=["write:things"]), name="dispatch")
class Writing(View):
    def get(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse("written")


@method_decorator(require_token(required_scopes=["write:things"]), name="dispatch")
class AsyncWriting(View):
    async def get(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse("written")


class AsyncMethod(View):
    @method_decorator(require_token(required_scopes=["write:things"]))
    async def get(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse("written")


@cache_page(60)
@require_token
def cached(request: HttpRequest) -> HttpResponse:
    return HttpResponse(get_token(request).subject)


def unguarded(request: HttpRequest) -> HttpResponseBase:
    return HttpResponse(get_token(request).subject)


begun = threading.Event()
bodies: list[Any] = []
"""What views have read, each after it has set `begun`."""
requests = WeakSet[HttpRequest]()
"""Those of the requests to these views that are still in memory."""


def reading(read: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], HttpResponse]:
    def view(request: HttpRequest) -> HttpResponse:
        requests.add(request)
        begun.set()
        bodies.append(read(request))
        return HttpResponse("read")

    return csrf_exempt(view)


def heedless(request: HttpRequest) -> bytes:
    try:
        return request.body
    except Exception:  # noqa: BLE001 - as careless code does
        return b"nothing"


async def events(request: HttpRequest) -> StreamingHttpResponse:
    async def one() -> AsyncIterator[str]:
        try:
            yield "data: one\n\n"
            await asyncio.Event().wait()
        finally:
            bodies.append("ended")

    return StreamingHttpResponse(one(), content_type="text/event-stream")


class DRFReading(APIView):
    authentication_classes = (drf.JWKSGuardAuthentication,)
    permission_classes = (IsAuthenticated,)

    def post(self, request: Request) -> Response:
        begun.set()
        bodies.append(request.data)
        return Response("read")


class DRFView(APIView):
    authentication_classes = (drf.JWKSGuardAuthentication,)
    permission_classes: tuple[Any, ...] = (IsAuthenticated,)

    def get(self, request: Request, *_: str) -> Response:
        token: Any = request.auth
        if token is None:
            return Response("anonymous")
        assert str(request.user) == request.user.pk == token.subject
        return Response(token.subject)

    post = get


class DRFOpen(DRFView):
    permission_classes = ()


class DRFWriting(DRFView):
    permission_classes = (drf.require_token(required_scopes=["write:things"]),)


urlpatterns = [
    path("hello", hello),
    path("hello-async", hello_async),
    path("required", required),
    path("cached", cached),
    path("writing", writing),
    path("writing-async", writing_async),
    path("writing-class", Writing.as_view()),
    path("writing-async-class", AsyncWriting.as_view()),
    path("writing-async-method", AsyncMethod.as_view()),
    path("unguarded", unguarded),
    path("drf/", DRFView.as_view()),
    path("drf/optional/", DRFOpen.as_view()),
    re_path(r"^drf/(\w+)/$", DRFView.as_view()),
    path("events", events),
    path("reading-body", reading(lambda request: request.body)),
    path("reading-form", reading(lambda request: request.POST)),
    path("reading-lines", reading(list)),
    path("reading-heedlessly", reading(heedless)),
    path("reading-environ", reading(lambda request: request.META["wsgi.input"].readline())),
    path("reading-underneath", reading(lambda request: request._stream.read())),
    path("reading-required", require_token(reading(heedless))),
    path("reading-drf", DRFReading.as_view()),
    path("drf-open/", DRFOpen.as_view()),
    path("drf-writing/", DRFWriting.as_view()),
    re_path(r"^(public)/", hello),
    re_path(r"^(.*)$", hello),
]
