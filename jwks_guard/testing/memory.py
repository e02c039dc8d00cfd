"""What a tenant keeps between two runs: its client, its keys, and the authority of its TLS."""

from __future__ import annotations

import secrets
from pathlib import Path
from threading import Lock
from typing import Annotated, Any, Literal

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from jwks_guard.base.files import read_private, require_support, write_atomically
from jwks_guard.errors import ConfigurationError
from jwks_guard.testing.authority import Authority, load_authority
from jwks_guard.testing.keyring import Contents, PublishedSet
from jwks_guard.testing.keys import SigningKey, Status, load_signing_key, private_pem

# What `cryptography` raises for keys and certificates that are damaged or not a tenant's.
_UNUSABLE = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.ExtensionNotFound,
)
_Text = Annotated[str, msgspec.Meta(min_length=1)]
_Time = Annotated[float, msgspec.Meta(ge=0, lt=253_402_300_800)]  # a date before the year 10000


# Read strictly: a file that says more, or something else, is not a tenant's.
class _Key(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    kid: _Text
    algorithm: _Text
    private_key: str
    certificate: str
    status: Status
    current_since: _Time | None
    current_until: _Time | None
    revoked_at: _Time | None


class _Authority(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    certificate: str
    private_key: str


class _State(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: Literal["jwks-guard tenant, 1"]
    client_id: _Text
    client_secret: _Text
    keys: tuple[_Key, ...] = ()
    published: tuple[dict[str, Any], ...] = ()
    changed_at: _Time = 0.0
    authority: _Authority | None = None


class Memory:
    """The state of a tenant, in a file of mode 0600 if it has a `path`; safe from any thread.

    The file is replaced atomically by each change, before the change takes effect. Raises
    `ConfigurationError` if the file can't be read or is no tenant's state; it is not overwritten
    then. A change that can't be written raises that, too, and is not made.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._lock = Lock()
        self.contents: Contents | None = None
        self.authority: Authority | None = None
        state = _read(path) if path else None
        if path and state:
            try:
                self.contents, self.authority = _contents(state), _authority(state)
            except _UNUSABLE as error:
                raise _foreign(path, str(error)) from None
        self._state = state or _State(
            "jwks-guard tenant, 1", secrets.token_hex(16), secrets.token_hex(24)
        )

    @property
    def client_id(self) -> str:
        """The identity of the tenant's one client."""
        return self._state.client_id

    @property
    def client_secret(self) -> str:
        """The secret of that client."""
        return self._state.client_secret

    def keep_contents(self, contents: Contents) -> None:
        """Keep the keys and the set that is published now."""
        if self._path is not None:
            keys = tuple(_key(key) for key in contents.keys)
            published = tuple(dict(jwk) for jwk in contents.published.keys)
            changed_at = contents.published.changed_at
            self._write(self._path, keys=keys, published=published, changed_at=changed_at)

    def keep_authority(self, authority: Authority) -> None:
        """Keep the authority that clients trust."""
        if self._path is not None:
            saved = _Authority(authority.pem, private_pem(authority.private_key))
            self._write(self._path, authority=saved)
        self.authority = authority

    def _write(self, path: Path, **changes: Any) -> None:
        with self._lock:
            state = msgspec.structs.replace(self._state, **changes)
            try:
                write_atomically(path, msgspec.json.format(msgspec.json.encode(state)))
            except OSError as error:
                reason = error.strerror or str(error)
                raise ConfigurationError(
                    f"state: {path} can't be written: {reason}. Nothing was changed."
                ) from None
            self._state = state


def _read(path: Path) -> _State | None:
    require_support()
    try:
        data = read_private(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigurationError(f"state: {path} can't be read: {reason}.") from None
    if data is None:
        return None
    try:
        return msgspec.json.decode(data, type=_State)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _foreign(path, str(error)) from None


def _foreign(path: Path, reason: str) -> ConfigurationError:
    return ConfigurationError(
        f"state: {path} is not the state of a local tenant ({reason}). It was left as it is: name"
        " another file, or remove it to begin with new keys."
    )


def _contents(state: _State) -> Contents | None:
    if not state.keys:
        return None
    keys = tuple(
        load_signing_key(
            key.private_key,
            key.certificate,
            kid=key.kid,
            algorithm=key.algorithm,
            status=key.status,
            current_since=key.current_since,
            current_until=key.current_until,
            revoked_at=key.revoked_at,
        )
        for key in state.keys
    )
    statuses = [key.status for key in keys]
    if statuses.count("current") != 1 or statuses.count("next") != 1:
        raise ValueError("it needs one current and one next key")
    if len({key.kid for key in keys}) != len(keys):
        raise ValueError("two keys have one kid")
    return Contents(keys, PublishedSet(state.published, state.changed_at))


def _authority(state: _State) -> Authority | None:
    if state.authority is None:
        return None
    return load_authority(state.authority.certificate, state.authority.private_key)


def _key(key: SigningKey) -> _Key:
    return _Key(
        key.kid,
        key.algorithm,
        private_pem(key.private_key),
        key.cert,
        key.status,
        key.current_since,
        key.current_until,
        key.revoked_at,
    )
