"""The store that a command works on."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

from ..errors import StoreUnavailableError
from ..firestore import FirestoreFlowStateStore
from ..settings import FlowStateSettings

_PATIENCE_SECONDS: Final = 1.5
"""How long a connection is awaited. A host on which nothing listens refuses it at once; one that is slow may still
answer the store."""


@asynccontextmanager
async def opened(settings: FlowStateSettings) -> AsyncIterator[FirestoreFlowStateStore]:
    """Open a store, which is closed at the end.

    Raises:
        StoreUnavailableError: The settings name a host that cannot be resolved, or on which nothing listens.
    """
    await look_for_server(settings)
    async with FirestoreFlowStateStore(settings) as store:
        yield store


async def look_for_server(settings: FlowStateSettings) -> None:
    """Return if something listens at the address that the settings name, or if they name Firestore itself.

    A store tries again until its deadline, since a server may come back. This tells a person at once who has named a
    wrong host, or has no emulator running.

    Raises:
        StoreUnavailableError: They name a host that cannot be resolved, or on which nothing listens.
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
        with suppress(asyncio.TimeoutError):
            _, writer = await asyncio.wait_for(asyncio.open_connection(name.strip("[]"), int(port)), _PATIENCE_SECONDS)
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
    except socket.gaierror as error:
        raise StoreUnavailableError(f"{host} cannot be resolved, {advice}. ({error.strerror})") from error
    except UnicodeError as error:  # DNS cannot have the name, such as one with too long a label
        raise StoreUnavailableError(f"{host} cannot be resolved, {advice}. ({error})") from error
    except OSError as error:
        raise StoreUnavailableError(f"{host} refuses connections, {advice}. ({error})") from error
