"""HTTP: exchanges, addresses, bodies, caching (RFC 9111), bearer tokens (RFC 6750)."""
