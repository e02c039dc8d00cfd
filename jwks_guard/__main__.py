"""`python -m jwks_guard`: the `jwks-guard` command."""

from jwks_guard.cli import main

main()
