"""SyncSigningKeysClient: the same calls for code without an event loop."""

from __future__ import annotations

from functools import partial
from typing import Self, Unpack

from jwks_guard.admin.signing_key import SigningKey
from jwks_guard.admin.signing_keys import ClientOptions, SigningKeysClient
from jwks_guard.base.portal import process_portal

_Keys = list[SigningKey]


class SyncSigningKeysClient:
    """SigningKeysClient for threads; the arguments are the same, `http_client` included.

    The calls run on the process's portal, an event loop in a thread of its own, and block until
    they are done.
    """

    def __init__(self, domain: str, **options: Unpack[ClientOptions]) -> None:
        self._client = SigningKeysClient(domain, **options)
        self.base_url = self._client.base_url

    def close(self) -> None:
        """Close the connections, as SigningKeysClient.aclose does."""
        process_portal.run(self._client.aclose)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def list(self) -> _Keys:
        """Every signing key, as SigningKeysClient.list gives them."""
        return process_portal.run(self._client.list)

    def get(self, kid: str) -> SigningKey:
        """The signing key `kid`; raises NotFoundError."""
        return process_portal.run(self._client.get, kid)

    def rotate(self, *, current: str | None = None) -> SigningKey:
        """Rotate once, as SigningKeysClient.rotate does; gives the new next key."""
        return process_portal.run(partial(self._client.rotate, current=current))

    def revoke(self, kid: str) -> SigningKey:
        """Revoke a previously used key for good, as SigningKeysClient.revoke does."""
        return process_portal.run(self._client.revoke, kid)
