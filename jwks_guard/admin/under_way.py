"""Which operations with one journal are under way, in this process and in others that use it."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from jwks_guard.base import files
from jwks_guard.errors import RotationRefusedError

logger = logging.getLogger("jwks_guard")
ROTATION_SECONDS = 45.0
"""How long one rotation waits for another: its answer may be lost, and is looked for that long."""
_LOOK_SECONDS = 0.05
_PATIENCE_SECONDS = 2.0
"""How long an operation may take to read what is unfinished, or to end."""


@dataclass(frozen=True, slots=True)
class UnderWay:
    """Operations mark themselves by locks on files beside `journal`, which end with their process.

    Where these can't be written, and without a journal, only this process is known.
    """

    journal: Path | None
    _rotating: asyncio.Lock = field(default_factory=asyncio.Lock)

    @asynccontextmanager
    async def operation(self) -> AsyncIterator[Operation]:
        """Mark that an operation runs in this block. It waits for no other one."""
        async with self._opened("running") as descriptor:
            operation = Operation(descriptor)
            await operation.share()
            yield operation

    @asynccontextmanager
    async def rotation(self) -> AsyncIterator[None]:
        """Run this block alone among those that may rotate: two of them would rotate twice.

        Raises RotationRefusedError where another one does not end.
        """
        async with AsyncExitStack() as held:
            try:
                async with asyncio.timeout(ROTATION_SECONDS):
                    await held.enter_async_context(self._rotating)
                    descriptor = await held.enter_async_context(self._opened("rotating"))
                    await _locked(descriptor)
            except TimeoutError:
                raise RotationRefusedError(
                    f"Another rotation is under way for {ROTATION_SECONDS:g} s, here or in another "
                    "process with the same journal. Nothing was done. Look at the keys once it has "
                    "ended; rotate again if that is still needed."
                ) from None
            yield

    @asynccontextmanager
    async def _opened(self, kind: str) -> AsyncIterator[int | None]:
        """The descriptor of a file to lock; None where there is none."""
        descriptor = None
        if self.journal is not None:
            path = self.journal.with_name(f"{self.journal.name}.{kind}")
            try:
                descriptor = files.opened_own(path)
            except OSError as error:
                logger.warning(
                    "%s can't be locked (%s): other processes are not seen.", path, error
                )
        try:
            yield descriptor
        finally:
            if descriptor is not None:
                files.unlock(descriptor)
                os.close(descriptor)


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation; `descriptor` is that of the file which all of them share."""

    descriptor: int | None

    async def share(self) -> None:
        """Show that it runs, once nobody reads what was left unfinished."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await _locked(self.descriptor, shared=True)

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[bool]:
        """Whether no other operation runs; if so, none begins in this block.

        For one that is just ending it waits a moment.
        """
        alone = False
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await _locked(self.descriptor)
                alone = True
        try:
            yield alone
        finally:
            await self.share()


async def _locked(descriptor: int | None, *, shared: bool = False) -> None:
    """Wait until the file is locked, if there is one."""
    if descriptor is not None:
        while not files.try_lock(descriptor, shared=shared):  # noqa: ASYNC110 - by other processes
            await asyncio.sleep(_LOOK_SECONDS)
