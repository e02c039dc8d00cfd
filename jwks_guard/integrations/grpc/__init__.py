"""Interceptors for gRPC servers, of threads and of asyncio, that let in calls with a good token.

`pip install 'jwks-guard[grpc]'`.
"""

from jwks_guard.integrations.grpc.interceptors import AioGuardInterceptor, GuardInterceptor
from jwks_guard.integrations.grpc.token import call_token, get_token

__all__ = ["AioGuardInterceptor", "GuardInterceptor", "call_token", "get_token"]
