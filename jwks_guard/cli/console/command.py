"""`jwks-guard console`: serve the operator's web page until Ctrl-C."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from contextlib import AsyncExitStack, nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jwks_guard.admin import KeyRotation, SigningKeysClient
from jwks_guard.base.settings_reader import Found, read_settings
from jwks_guard.cli.configuration import (
    Configuration,
    configured,
    configured_fleet,
    default_journal,
    manages_a_tenant,
)
from jwks_guard.cli.console.address import Address, address_of, listening
from jwks_guard.cli.console.demo.stage import DemoStage, staged
from jwks_guard.cli.console.introduction import introduce, introduce_demo, open_browser
from jwks_guard.cli.console.logs import log_to_stderr
from jwks_guard.cli.console.serving import server_of
from jwks_guard.cli.keys.journal import JournalOption, usable
from jwks_guard.cli.keys.session import (
    ClientIDOption,
    ConfigOption,
    DomainOption,
    errors_told,
)
from jwks_guard.errors import ConfigurationError
from jwks_guard.fleet.settings import ConfiguredFleet

if TYPE_CHECKING:
    from starlette.types import ASGIApp


DEFAULT_PORT = 8766
_NEEDED = ("jinja2", "itsdangerous")
_INSTALL = "The console needs its extra: pip install 'jwks-guard[cli,console]'"


def console(
    port: Annotated[
        int,
        typer.Option(
            min=0, max=65_535, metavar="PORT", help="Port to listen on; 0 takes a free one."
        ),
    ] = DEFAULT_PORT,
    host: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS",
            help="Address to listen on. By default only this machine reaches it; another one needs "
            "a configured log-in, and https or a proxy.",
        ),
    ] = "127.0.0.1",
    certificate: Annotated[
        Path | None,
        typer.Option(
            "--tls-certificate", metavar="FILE", help="PEM file with its certificate, for https."
        ),
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option("--tls-key", metavar="FILE", help="PEM file with the certificate's key."),
    ] = None,
    root_path: Annotated[
        str,
        typer.Option(
            metavar="PATH",
            help="Where a proxy serves it, like /console. The proxy takes that off the path.",
        ),
    ] = "",
    proxies: Annotated[
        list[str] | None,
        typer.Option(
            "--proxy",
            metavar="ADDRESS",
            help="Address or network of a proxy in front, whose X-Forwarded-For and "
            "X-Forwarded-Proto count; may be repeated. It passes the Host header on.",
        ),
    ] = None,
    demo: Annotated[
        bool,
        typer.Option(
            "--demo",
            help="Start a local tenant, two guarded processes and traffic, and show them.",
        ),
    ] = False,
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="With --demo: open no browser.")
    ] = False,
    journal: JournalOption = None,
    domain: DomainOption = None,
    client_id: ClientIDOption = None,
    config: ConfigOption = None,
) -> None:
    """Serve the operator's web page: keys, instances, a timeline, and what can be done about a key.

    It needs the fleet (JWKS_GUARD_FLEET) and the issuer; with access to the Management API it
    also shows the tenant's keys, and rotates and revokes them. JWKS_GUARD_CONSOLE_OPERATOR_SECRET
    (or _FILE) says who may log in, or JWKS_GUARD_CONSOLE_ISSUER and the others of a provider.
    Without them it makes a secret and prints it once. Ctrl-C ends it.

    Exit status: 0 ended, 2 usage.
    """
    with errors_told():
        if any(find_spec(name) is None for name in _NEEDED):
            raise ConfigurationError(_INSTALL)
        address = address_of(host, port, certificate, key, root_path, proxies or [])
        options = {"domain": domain, "client_id": client_id}
        stage = staged() if demo else nullcontext()
        with stage as running:
            environ: Mapping[str, str] = os.environ
            if running is not None:
                options, environ, config, journal = {}, {}, running.config, None
            target = _target_of(options, environ, config, journal)
            asyncio.run(_served(target, address, running, opens=demo and not no_browser))


@dataclass(frozen=True, slots=True)
class _Target:
    """What the console is about; `configuration` is that of a tenant, if there is one."""

    fleet: ConfiguredFleet
    configuration: Configuration | None
    journal: Path | None
    found: Found


def _target_of(
    options: Mapping[str, str | None],
    environ: Mapping[str, str],
    config: Path | None,
    journal: Path | None,
) -> _Target:
    found = read_settings(environ, config)
    fleet = configured_fleet({"domain": options.get("domain")}, environ, config)
    if not (manages_a_tenant(found) or options.get("client_id")):
        return _Target(fleet, None, None, found)
    configuration = configured(options, environ, config, None)
    path = journal or configuration.journal or default_journal(environ)
    return _Target(fleet, configuration, usable(path, emergency=False), found)


async def _served(
    target: _Target, address: Address, stage: DemoStage | None, *, opens: bool
) -> None:
    async with AsyncExitStack() as stack:
        stack.push_async_callback(target.fleet.aclose)
        rotation = None
        if (configuration := target.configuration) is not None:
            client = SigningKeysClient(configuration.domain, auth=configuration.auth)
            stack.push_async_callback(client.aclose)
            rotation = configuration.rotation(client, target.fleet, journal=target.journal)
        app, secret = _app(target, rotation, address)
        listener = stack.enter_context(listening(address))
        url = address.url(listener.getsockname()[1])
        log_to_stderr()
        if stage is None:
            introduce(url, target.fleet.issuer, secret, rotation is not None)
        else:
            introduce_demo(url, stage)
            await stack.enter_async_context(stage.traffic())
        if opens:
            open_browser(url)
        server = server_of(app, address.front)
        await server.serve([listener])
        if not server.started:
            raise typer.Exit(1)


def _app(
    target: _Target, rotation: KeyRotation | None, address: Address
) -> tuple[ASGIApp, str | None]:
    """The console, and the secret that was made for it, if the settings name no log-in."""
    from jwks_guard.cli.console.login import login_of, new_login
    from jwks_guard.console import console as application

    secret = None
    if (login := login_of(target.found)) is None:
        address.require_private()
        login, secret = new_login()
    return application(rotation, target.fleet, login=login), secret
