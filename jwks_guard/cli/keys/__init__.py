"""`jwks-guard keys`: list, show, rotate and revoke a tenant's signing keys."""
