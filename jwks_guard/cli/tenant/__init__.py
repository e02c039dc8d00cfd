"""`jwks-guard tenant`: a local tenant to develop against, and tokens of it."""
