"""Apps served by real processes on loopback, and requests to them."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import httpx

from tests.rpc.strict_python import OLD_PYTHONS_BY_ENVIRONMENT
from tests.support.ports import Port

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
PATIENCE = 60.0  # seconds that a server may take to start, answer or end on a busy machine
NO_KEEPING = httpx.Limits(max_keepalive_connections=0)
"""Each request has a connection of its own. A server closes one that was idle (gunicorn after 2 s, uvicorn after 5 s),
perhaps just when the next request is under way, and httpx does not repeat a POST."""

Result = TypeVar("Result")


def environment(host: str, project: str, **more: str) -> dict[str, str]:
    """Return the environment of a process that uses the emulator on this host, and has no credentials."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("GOOGLE_", "FLOWSTATE_"))}
    return {
        **inherited,
        "FIRESTORE_EMULATOR_HOST": host,
        "GOOGLE_CLOUD_PROJECT": project,
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": OLD_PYTHONS_BY_ENVIRONMENT,
        **more,
    }


class Server:
    """``python -m module``. The text {port} in its arguments and environment becomes the port that it is to listen at.

    It starts at once, and is waited for by the first request. Leaving it ends it by SIGTERM, and fails if it did
    not end well by that, or has said anything of an error.
    """

    def __init__(
        self,
        module: str,
        *arguments: str,
        environment: Mapping[str, str],
        cwd: Path | None = None,
        port: Port | None = None,
    ) -> None:
        self._port = port or Port()
        self.port = self._port.number
        self._forgiven: tuple[str, ...] = ()
        self._log = tempfile.TemporaryFile("a+")  # noqa: SIM115  # closed in __exit__
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *(argument.replace("{port}", str(self.port)) for argument in arguments)],
            env={name: value.replace("{port}", str(self.port)) for name, value in environment.items()},
            cwd=cwd,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that its workers can be ended with it
        )
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=PATIENCE, limits=NO_KEEPING)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.http.close()
        self.terminate()
        try:
            self._process.wait(PATIENCE)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            log = self.log()
            self._log.close()
            self._port.close()
        if kind is None:
            for bad in ("Traceback", "Exception", "SIGSEGV", "SIGABRT", "SIGKILL", "WORKER TIMEOUT", "never awaited"):
                assert bad in self._forgiven or bad not in log, log

    def forgive(self, *words: str) -> None:
        """Let the log have this text, which the test itself has caused."""
        self._forgiven += words

    def terminate(self) -> None:
        """Ask the server to end, by SIGTERM."""
        self._process.terminate()

    def kill(self) -> None:
        """End the server by SIGKILL, with its workers."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(PATIENCE)

    def log(self) -> str:
        """Return what the server has printed so far."""
        self._log.seek(0)
        return self._log.read()

    def wait(self) -> Server:
        """Wait until the server listens."""
        deadline = time.monotonic() + PATIENCE
        while True:
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return self
            assert self._process.poll() is None, self.log()
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.05)

    async def ended_while(self, path: str, body: object, *, says: str, within: float) -> tuple[httpx.Response, float]:
        """Ask the server to end once it says so in the middle of a request.

        Return the answer to that, and how many seconds later the server had ended. It fails if the answer does not come
        within so many seconds, or the end within so many more.
        """
        with ThreadPoolExecutor(1) as pool:
            answering = pool.submit(self.http.post, path, json=body)
            while says not in self.log():
                assert not answering.done(), self.log()
                await asyncio.sleep(0.02)
            began = time.monotonic()
            self.terminate()
            answer = await asyncio.wait_for(asyncio.wrap_future(answering), within)
            await asyncio.to_thread(self._process.wait, within)
        return answer, time.monotonic() - began

    def workers(self) -> list[int]:
        """Return the process ids of its children."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        return [int(pid) for pid in children.read_text().split()]


def in_turn(call: Callable[[int], Result], count: int) -> list[Result]:
    """Return what the calls return, one after another."""
    return [call(number) for number in range(count)]


def at_once(call: Callable[[int], Result], count: int) -> list[Result]:
    """Return what the calls return, all under way at the same time."""
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(call, range(count)))
