"""Verify a tenant's access tokens, and stop trusting a revoked key at once."""

__version__ = "0.1.0"
