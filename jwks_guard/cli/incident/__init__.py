"""`jwks-guard incident`: the first five minutes of a leaked key on one screen, and its drill."""
