"""`jwks-guard console`: serve the operator's web page."""
