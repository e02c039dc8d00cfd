"""`jwks-guard inspect`: explains a token."""
