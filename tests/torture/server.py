"""The Firestore emulator, killed and started again: as a server that lost everything, or as one that lost nothing."""

from __future__ import annotations

import asyncio
import http.client
import json
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Final

from firestore_flowstate.emulator import Emulator, start_emulator
from tests.support.ports import Port

from .faults import Line
from .history import History, Trouble, now

_SETTLING: Final = 0.3  # seconds in which the server does what has arrived
_HEADERS: Final = {"Authorization": "Bearer owner", "Content-Type": "application/json"}


class Server:
    """An emulator on one port.

    Attributes:
        project: The project whose documents survive if they are to.
    """

    def __init__(self, project: str) -> None:
        self.project = project
        self._port = Port()
        self._emulator = _start(self._port)

    @property
    def host(self) -> str:
        """Its address."""
        return self._port.host

    def stop(self) -> None:
        """Stop it."""
        self._emulator.stop()
        self._port.close()

    async def crash_and_lose_everything(self, history: History) -> tuple[float, float]:
        """Kill it in the middle of the traffic, and start it empty. Return when it was killed."""
        began = now()
        await asyncio.to_thread(self._emulator.kill)
        ended = now()
        await self._start_again()
        history.kills.append(Trouble(None, began, now()))
        return began, ended

    async def crash_and_lose_nothing(self, history: History, lines: Sequence[Line]) -> None:
        """Kill it, and start it with all that it had acknowledged.

        The emulator keeps documents in memory alone. So nothing may pass any more before they are exported: what was
        acknowledged until then is in the export, and what arrived later is lost with its replies.
        """
        async with AsyncExitStack() as stack:
            for line in lines:
                await stack.enter_async_context(line.turn)
            began = now()
            for line in lines:
                line.proxy.hold()
            await asyncio.sleep(_SETTLING)

            def refuse() -> None:
                for line in lines:
                    line.proxy.refuse()
                    line.proxy.let_pass()

            await self.restore(refuse)
            for line in lines:
                line.proxy.listen()
            history.kills.append(Trouble(None, began, now()))

    async def restore(self, when_killed: Callable[[], None] | None = None) -> None:
        """Kill it, and start it again with the documents that it had."""
        with tempfile.TemporaryDirectory() as folder:
            await asyncio.to_thread(self._export, Path(folder))
            await asyncio.to_thread(self._emulator.kill)
            if when_killed is not None:
                when_killed()
            await self._start_again()
            await asyncio.to_thread(self._import, Path(folder))

    async def _start_again(self) -> None:
        self._emulator = await asyncio.to_thread(_start, self._port)

    def _export(self, folder: Path) -> None:
        self._call("export", {"export_directory": str(folder), "export_name": "torture"})

    def _import(self, folder: Path) -> None:
        self._call("import", {"export_directory": str(folder / "torture" / "torture.overall_export_metadata")})

    def _call(self, what: str, body: dict[str, str]) -> None:
        path = f"/emulator/v1/projects/{self.project}:{what}"
        message = json.dumps({"database": f"projects/{self.project}/databases/(default)", **body})
        with closing(http.client.HTTPConnection(self.host, timeout=60)) as connection:
            connection.request("POST", path, message, _HEADERS)
            response = connection.getresponse()
            answer = response.read()
        assert response.status == 200, answer.decode()


def _start(port: Port) -> Emulator:
    return start_emulator(port=port.number, attach=False, java_options=("-Xmx3g",))
