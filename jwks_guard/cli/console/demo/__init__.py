"""`jwks-guard console --demo`: something to look at and to act on, all of it on this machine."""
