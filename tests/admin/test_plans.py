from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from jwks_guard import ManagementAPIError
from jwks_guard.admin import SigningKey
from jwks_guard.admin.key_set import SigningKeys
from jwks_guard.admin.plans import emergency_plan, revocation_plan, rotation_plan

TENANT = "https://acme.eu.auth0.com/"
NOW = datetime(2027, 1, 15, 8, tzinfo=UTC)
HOUR = timedelta(hours=1)
CURRENT = SigningKey(kid="old", current=True)
NEXT = SigningKey(kid="new", next=True)
BEFORE = SigningKey(kid="older", current_until=NOW - 2 * HOUR)
END = datetime.max.replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("key", "lifetime", "said"),
    [
        (BEFORE, HOUR, "expired by 2027-01-15 07:00:00 UTC, as far as is known."),
        (BEFORE, 3 * HOUR, "expires at 2027-01-15 09:00:00 UTC: until then, valid"),
        (
            BEFORE,
            None,
            "expires: set the tenant's token lifetime (JWKS_GUARD_TOKEN_LIFETIME_SECONDS).",
        ),
        (SigningKey(kid="older"), HOUR, "not known when the last of them expires"),
        (
            SigningKey(kid="older", current_until=END),
            HOUR,
            "stopped signing at 9999-12-31 23:59:59 UTC.",
        ),
    ],
)
def test_revocation_tells_whether_valid_tokens_are_refused(
    key: SigningKey, lifetime: timedelta | None, said: str
) -> None:
    assert said in revocation_plan(TENANT, key, lifetime, NOW).consequences[1]


def test_rotation_tells_until_when_tokens_of_the_previous_key_live() -> None:
    plan = rotation_plan(TENANT, SigningKeys([CURRENT, NEXT]), HOUR, NOW)
    assert (
        "Those of old stay valid until they expire, the last ones no sooner than "
        "2027-01-15 09:00:00 UTC, or until it is revoked."
    ) in plan.consequences[0]


def test_emergency_ends_with_where_the_new_certificate_is() -> None:
    plan = emergency_plan(TENANT, SigningKeys([CURRENT, NEXT]), NOW)
    assert plan.moves[0].kid == "old"
    assert "jwks-guard keys show new --pem" in plan.consequences[-1]
    assert plan.certificates["pem"] == "https://acme.eu.auth0.com/pem"


def test_tenant_without_one_current_and_one_next_key_has_no_plan() -> None:
    for keys in ([CURRENT], [NEXT, CURRENT, CURRENT]):
        with pytest.raises(ManagementAPIError):
            rotation_plan(TENANT, SigningKeys(keys), None, NOW)
