"""A tenant that is started again with the file in which it kept its state."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import httpx
import pytest

from jwks_guard.errors import ConfigurationError
from jwks_guard.testing import LocalTenant, ManualClock


def tenant_with(path: Path, clock: ManualClock, **options: Any) -> LocalTenant:
    options = {"algorithm": "ES256", "in_process": True, **options}
    return LocalTenant(state=path, clock=clock, **options)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tenant.json"


@pytest.fixture
def saved(path: Path, clock: ManualClock) -> dict[str, Any]:
    """The content of a good file."""
    with tenant_with(path, clock):
        document: dict[str, Any] = json.loads(path.read_bytes())
        return document


@pytest.mark.parametrize("algorithm", ["RS256", "PS512", "ES384", "EdDSA"])
def test_tenant_goes_on_as_the_same_one(path: Path, clock: ManualClock, algorithm: str) -> None:
    with tenant_with(path, clock, algorithm=algorithm) as first:
        first.rotate()
        first.rotate()
        first.revoke(first.signing_keys[-1].kid)
        clock.advance(60)
        last = first.key("revoked").kid
    with tenant_with(path, clock, algorithm=algorithm) as second:
        assert (second.client_id, second.client_secret) == (first.client_id, first.client_secret)
        assert second.jwks() == first.jwks()
        assert second.key("revoked").kid == last
        keys = [(key.kid, key.status, key.current_until, key.cert) for key in second.signing_keys]
        assert keys == [
            (key.kid, key.status, key.current_until, key.cert) for key in first.signing_keys
        ]


async def test_last_modified_is_that_of_the_last_change_not_of_the_restart(
    path: Path, clock: ManualClock
) -> None:
    dates = []
    for _ in range(2):
        async with (
            tenant_with(path, clock) as tenant,
            httpx.AsyncClient(transport=tenant.transport) as client,
        ):
            dates.append((await client.get(tenant.jwks_uri)).headers["Last-Modified"])
        clock.advance(3600)
    assert dates[0] == dates[1]


def test_each_change_is_written_when_it_is_made(path: Path, clock: ManualClock) -> None:
    with tenant_with(path, clock) as tenant:
        old = tenant.key().kid
        for change in (
            tenant.rotate,
            lambda: tenant.revoke(old),
            lambda: tenant.publish(tenant.new_key(kid="extra")),
            lambda: tenant.swap_key(tenant.key().kid),
            lambda: tenant.remove("extra"),
        ):
            change()
            with tenant_with(path, clock) as other:  # as if it had been killed at this moment
                assert other.jwks() == tenant.jwks()
                assert [key.status for key in other.signing_keys] == [
                    key.status for key in tenant.signing_keys
                ]


def test_file_is_for_its_owner_only(path: Path, clock: ManualClock) -> None:
    before = os.umask(0)
    try:
        with tenant_with(path, clock) as tenant:
            tenant.rotate()
            assert path.stat().st_mode & 0o777 == 0o600
            assert [each.name for each in path.parent.iterdir()] == [path.name]
    finally:
        os.umask(before)


def remove_folder(path: Path) -> None:
    path.unlink()
    path.parent.rmdir()


def test_change_that_cannot_be_written_is_not_made(path: Path, clock: ManualClock) -> None:
    with tenant_with(path, clock) as tenant:
        kids = [key.kid for key in tenant.signing_keys]
        remove_folder(path)
        with pytest.raises(ConfigurationError, match=r"can't be written.*Nothing was changed"):
            tenant.rotate()
        assert [key.kid for key in tenant.signing_keys] == kids
        assert len(tenant.jwks()["keys"]) == 2


async def test_management_api_says_so_too(path: Path, clock: ManualClock) -> None:
    async with (
        tenant_with(path, clock) as tenant,
        httpx.AsyncClient(transport=tenant.transport) as client,
    ):
        remove_folder(path)
        audience = tenant.management_audience
        token = tenant.token(audience=[audience], scope="create:signing_keys update:signing_keys")
        answer = await client.post(
            audience + "keys/signing/rotate", headers={"Authorization": f"Bearer {token}"}
        )
        assert (answer.status_code, answer.json()["error"]) == (500, "Internal Server Error")


def test_directory_that_does_not_exist_stops_the_start(path: Path, clock: ManualClock) -> None:
    tenant = tenant_with(path / "tenant.json", clock)
    with pytest.raises(ConfigurationError, match="No such file or directory"):
        tenant.start()


def test_start_that_fails_leaves_the_port_free(path: Path, clock: ManualClock) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    tenant = tenant_with(path / "tenant.json", clock, in_process=False, port=port)
    with pytest.raises(ConfigurationError, match="can't be written"):
        tenant.start()
    with tenant_with(path, clock, in_process=False, port=port) as other:
        assert other.issuer == f"http://127.0.0.1:{port}/"


def loosened(path: Path) -> None:
    path.chmod(0o644)


def linked(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (loosened, "its mode must be 0600"),
        (linked, "symbolic links"),
        (a_directory, "it is not a regular file|Is a directory"),
    ],
)
def test_file_that_may_be_another_ones_is_not_read(
    path: Path, clock: ManualClock, saved: dict[str, Any], harm: Any, reason: str
) -> None:
    harm(path)
    with pytest.raises(ConfigurationError, match=f"can't be read: .*({reason})"):
        tenant_with(path, clock)


def write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    path.chmod(0o600)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"keys": []}', b'{"format": "something else"}'],
)
def test_foreign_file_is_named_and_left_as_it_is(
    path: Path, clock: ManualClock, content: bytes
) -> None:
    write(path, content)
    with pytest.raises(ConfigurationError, match=r"tenant\.json is not the state") as caught:
        tenant_with(path, clock)
    assert "left as it is" in str(caught.value)
    assert path.read_bytes() == content


def edited(saved: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A file whose last key, the current one, is changed."""
    return {**saved, "keys": [*saved["keys"][:-1], {**saved["keys"][-1], **changes}]}


@pytest.mark.parametrize(
    "changes",
    [
        {"private_key": "x"},
        {"certificate": "x"},
        {"algorithm": "RS256"},
        {"algorithm": "ES384"},
        {"algorithm": "HS256"},
        {"status": "next"},
        {"status": "lost"},
        {"kid": None},
        {"kid": ""},
        {"current_since": "yesterday"},
        {"current_since": 1e300},
        {"current_since": -1},
        {"more": 1},
    ],
)
def test_key_that_is_damaged_stops_the_start_and_is_not_shown(
    path: Path, clock: ManualClock, saved: dict[str, Any], changes: dict[str, Any]
) -> None:
    write(path, json.dumps(edited(saved, **changes)).encode())
    with pytest.raises(ConfigurationError, match="is not the state") as caught:
        tenant_with(path, clock)
    assert "PRIVATE KEY" not in str(caught.value)


def test_damage_beside_the_keys_stops_the_start(
    path: Path, clock: ManualClock, saved: dict[str, Any]
) -> None:
    kid = saved["keys"][0]["kid"]
    for damaged in (
        edited(saved, kid=kid),
        {**saved, "changed_at": 1e300},
        {**saved, "client_id": ""},
        {**saved, "client_secret": None},
        {**saved, "published": "x"},
        {**saved, "keys": saved["keys"][:1]},
    ):
        write(path, json.dumps(damaged).encode())
        with pytest.raises(ConfigurationError, match="is not the state"):
            tenant_with(path, clock)


def test_key_of_another_certificate_stops_the_start(
    path: Path, clock: ManualClock, saved: dict[str, Any]
) -> None:
    other = saved["keys"][0]["certificate"]
    write(path, json.dumps(edited(saved, certificate=other)).encode())
    with pytest.raises(ConfigurationError, match="not that of its certificate"):
        tenant_with(path, clock)


def test_two_tenants_without_a_file_are_two(clock: ManualClock) -> None:
    one, other = (LocalTenant(in_process=True, clock=clock) for _ in range(2))
    assert one.client_secret != other.client_secret
