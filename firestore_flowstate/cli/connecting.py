"""The store that a command works on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

from ..errors import StoreUnavailableError
from ..firestore import FirestoreFlowStateStore
from ..settings import FlowStateSettings

_PATIENCE: Final = 1.5  # seconds; a host that refuses does so at once, on whichever of its addresses


@asynccontextmanager
async def opened(settings: FlowStateSettings) -> AsyncIterator[FirestoreFlowStateStore]:
    """Open a store, which is closed at the end.

    Raises:
        StoreUnavailableError: Nothing listens where the settings lead to.
    """
    await look_for_server(settings)
    async with FirestoreFlowStateStore(settings) as store:
        yield store


async def look_for_server(settings: FlowStateSettings) -> None:
    """Return if something listens where the settings lead to, or if they lead to Firestore itself.

    A store tries again until its deadline, since a server may come back. A person who has named a wrong host or has no
    emulator running is told at once.

    Raises:
        StoreUnavailableError: Nothing listens where the settings lead to.
    """
    if settings.emulator_host is not None:
        await _look_for(
            settings.emulator_host,
            "so no emulator is there: start one, as `python -m firestore_flowstate.emulator exec` does, or name "
            "another by --emulator-host or FIRESTORE_EMULATOR_HOST. Firestore itself needs neither",
        )
    elif settings.endpoint is not None:
        await _look_for(settings.endpoint, "which FLOWSTATE_ENDPOINT names: correct it, or leave it out")


async def _look_for(host: str, advice: str) -> None:
    name, colon, port = host.rpartition(":")
    if not colon:
        name, port = host, "443"
    try:
        with suppress(asyncio.TimeoutError):  # a slow one may still answer the store
            _, writer = await asyncio.wait_for(asyncio.open_connection(name.strip("[]"), int(port)), _PATIENCE)
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
    except OSError as error:
        raise StoreUnavailableError(f"{host} refuses connections, {advice}. ({error})") from error
