"""The Management API side: list, rotate and revoke a tenant's signing keys."""

from jwks_guard.admin.auth import ClientCredentials, PrivateKeyJWT, StaticToken
from jwks_guard.admin.incident import Incident
from jwks_guard.admin.incident_report import IncidentReport
from jwks_guard.admin.journal import AdminEvent
from jwks_guard.admin.receipts import RevocationReceipt, RotationReceipt
from jwks_guard.admin.rotation import KeyRotation
from jwks_guard.admin.signing_key import SigningKey
from jwks_guard.admin.signing_keys import SigningKeysClient
from jwks_guard.admin.sync import SyncSigningKeysClient
from jwks_guard.admin.watcher import RevocationWatcher
from jwks_guard.readiness.state import Refusal
from jwks_guard.readiness.verdict import RevocationReadiness

__all__ = [
    "AdminEvent",
    "ClientCredentials",
    "Incident",
    "IncidentReport",
    "KeyRotation",
    "PrivateKeyJWT",
    "Refusal",
    "RevocationReadiness",
    "RevocationReceipt",
    "RevocationWatcher",
    "RotationReceipt",
    "SigningKey",
    "SigningKeysClient",
    "StaticToken",
    "SyncSigningKeysClient",
]
