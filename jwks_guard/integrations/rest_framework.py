"""Authenticate with access tokens in Django REST framework (extra `django`; install it, too).

The setting JWKS_GUARD is that of `jwks_guard.integrations.django`, whose middleware is not needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, ClassVar, Unpack

from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import APIException
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from jwks_guard.errors import MissingCredentialsError, Refusal, RequestRefusedError
from jwks_guard.integrations.django_guard import project_guard
from jwks_guard.net.refusals import description
from jwks_guard.verify.request import Requirements, checked_requirements
from jwks_guard.verify.token import VerifiedToken


@dataclass(frozen=True, slots=True)
class TokenUser:
    """`request.user` of a request with an accepted token; its `pk` is the token's subject."""

    token: VerifiedToken
    is_authenticated: ClassVar[bool] = True
    is_anonymous: ClassVar[bool] = False
    is_active: ClassVar[bool] = True
    is_staff: ClassVar[bool] = False

    @property
    def pk(self) -> str:
        """The token's `sub`, or an empty string if it has none; throttles count by it."""
        return self.token.subject or ""

    def __str__(self) -> str:
        return self.pk


class TokenRefused(APIException):
    """A refused request, with the status, challenge and Retry-After that the guard gave it."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(description(refusal) or HTTPStatus(refusal.status).phrase)
        self.status_code = refusal.status
        # Where the exception handler of the framework looks for them.
        self.auth_header = refusal.fields.get("www-authenticate")
        seconds = refusal.fields.get("retry-after", "")
        self.wait = int(seconds) if seconds.isdecimal() else None


def _late(error: RequestRefusedError) -> TokenRefused:
    return TokenRefused(error.refusal)


class JWKSGuardAuthentication(BaseAuthentication):
    """Makes `request.auth` the VerifiedToken, and `request.user` what `get_user` gives for it.

    A request without a bearer token is left to the next authentication class, and to the
    permissions of the view: without IsAuthenticated or another one, it is let in as anonymous.
    """

    def authenticate(self, request: Request) -> tuple[Any, VerifiedToken] | None:
        """The user and token of `request`; raises TokenRefused."""
        try:
            token = project_guard().admit(request._request, late=_late).token
        except MissingCredentialsError:
            return None
        except RequestRefusedError as error:
            raise TokenRefused(error.refusal) from error
        return None if token is None else (self.get_user(token), token)

    def get_user(self, token: VerifiedToken) -> Any:
        """The user that `token` stands for; override it to look one up in the database."""
        return TokenUser(token)

    def authenticate_header(self, request: Request) -> str:
        """The challenge for a request without credentials, so that it gets 401 and not 403."""
        missing = MissingCredentialsError("the request carries no token")
        return project_guard().refusal(missing).fields.get("www-authenticate", "Bearer")


def require_token(**required: Unpack[Requirements]) -> type[BasePermission]:
    """A permission class for requests whose token grants that, as RequestGuard takes it.

    It raises where a token does not, to name the missing scopes: in `A | B` it belongs last.
    """
    required = checked_requirements(**required)

    class RequireToken(BasePermission):
        def has_permission(self, request: Request, view: object) -> bool:
            if not isinstance(request.auth, VerifiedToken):
                return False
            try:
                project_guard().check(request.auth, **required)
            except RequestRefusedError as error:
                raise TokenRefused(error.refusal) from error
            return True

    return RequireToken
