"""`jwks-guard demo`: a rotation, a revocation and an outage on a local tenant."""
