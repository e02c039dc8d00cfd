"""The commands of `jwks-guard tenant`."""

from __future__ import annotations

import typer

from jwks_guard.cli.tenant.serve import serve
from jwks_guard.cli.tenant.token import token

tenant = typer.Typer(invoke_without_command=True, rich_markup_mode=None)

tenant.callback()(serve)
tenant.command()(token)
