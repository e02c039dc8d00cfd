"""`jwks-guard can-revoke` and `watch`: what the instances show of a key."""
