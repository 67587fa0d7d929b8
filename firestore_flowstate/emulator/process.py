"""A running emulator: started here, or attached to."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Final
from urllib.parse import quote, urlsplit

from typing_extensions import Self

from ..errors import EmulatorError
from . import supervisor
from .finding import Installation, check_java, find_emulator

HOST_VARIABLE: Final = "FIRESTORE_EMULATOR_HOST"
DEFAULT_PROJECT: Final = "demo-flowstate"

_MAIN_CLASS: Final = "com.google.cloud.datastore.emulator.firestore.CloudFirestore"
_JAVA_OPTIONS: Final = ("-XX:TieredStopAtLevel=1", "-Xshare:auto")  # a quarter of the start-up time less
_ANNOUNCEMENT: Final = b"Dev App Server is now running"
_PORTS_TO_TRY: Final = 5
_POLL_SECONDS: Final = 0.02
_STOP_SECONDS: Final = 5.0
_RESET_SECONDS: Final = 60.0
_LOG_BYTES: Final = 64 * 1024


class Emulator:
    """An emulator that answers, as `start_emulator` returns it; leaving it as a context manager stops it.

    The emulator runs under a process and process group of its own and never outlives the Python that started
    it, however that ends: exit, exception, SIGTERM, SIGKILL.

    Attributes:
        host: ``127.0.0.1:PORT``, which is also what FIRESTORE_EMULATOR_HOST takes.
        installation: What was started; None where the emulator was there already, which `stop` leaves alone.
    """

    def __init__(self, host: str, *, installation: Installation | None = None, run: _Run | None = None) -> None:
        self.host = host
        self.installation = installation
        self._run = run

    def __repr__(self) -> str:
        return f"<Emulator {self.host}, {'attached' if self.installation is None else 'started here'}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    @property
    def port(self) -> int:
        """The port of `host`."""
        return int(self.host.rpartition(":")[2])

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables by which Google's libraries and this package find the emulator."""
        return {HOST_VARIABLE: self.host}

    @property
    def log(self) -> str:
        """The end of what the emulator has printed; empty where it was there already."""
        return self._run.log().decode(errors="replace") if self._run else ""

    def is_running(self) -> bool:
        """Tell whether the emulator answers."""
        return _answers(self.host)

    def reset(self, project: str = DEFAULT_PROJECT, database: str = "(default)") -> None:
        """Delete all documents of one database.

        Raises:
            EmulatorError: The emulator does not answer, or refuses.
        """
        path = f"/emulator/v1/projects/{quote(project, safe='')}/databases/{quote(database, safe='()')}/documents"
        try:
            status, body = _request(self.host, "DELETE", path, timeout=_RESET_SECONDS)
        except (OSError, http.client.HTTPException) as error:
            raise EmulatorError(f"The Firestore emulator on {self.host} does not answer: {error!r}") from error
        if status != http.HTTPStatus.OK:
            said = body.decode(errors="replace").strip()
            raise EmulatorError(f"The Firestore emulator on {self.host} refused to reset: {status} {said}")

    def stop(self) -> None:
        """Stop the emulator and wait until it is gone. One that was there already goes on; twice is harmless."""
        if self._run:
            self._run.stop()

    def kill(self) -> None:
        """End the emulator as a crash would, by SIGKILL, and wait until its port is free again.

        A new one on the same port is `start_emulator(port=emulator.port, attach=False)`. One that was there
        already goes on.
        """
        if self._run:
            self._run.kill()
            _await_free_port(self.port)


def start_emulator(
    *,
    port: int | None = None,
    rules: str | os.PathLike[str] | None = None,
    java_options: Sequence[str] = (),
    attach: bool = True,
    timeout: float = 60.0,
) -> Emulator:
    """Return an emulator that answers: the one FIRESTORE_EMULATOR_HOST names, else a new one on 127.0.0.1.

    Blocks for about a second; from a coroutine call it by `asyncio.to_thread`. The environment of this process
    is left as it is: pass `host` on, or put `environment` into it.

    Args:
        port: The port to listen on; None: a free one.
        rules: A file of security rules; None: everybody may do everything.
        java_options: More options for Java, such as ``-Xmx4g``.
        attach: Whether to use the emulator that FIRESTORE_EMULATOR_HOST names, where that is set. False starts
            a new one in any case.
        timeout: Seconds until the emulator must answer.

    Raises:
        EmulatorError: There is no emulator on this machine (the message names the ways to get it), it did not
            start, or the one to attach to does not answer or cannot have the port or the rules asked for.
    """
    named = os.environ.get(HOST_VARIABLE) if attach else None
    if named:
        return _attach(named, port=port, rules=rules)
    if os.name != "posix":
        raise EmulatorError(
            "This package starts the Firestore emulator on Linux and macOS only. Start it with firebase-tools "
            f"or the Google Cloud CLI, and name it as host:port in {HOST_VARIABLE}."
        )
    if rules is not None and not Path(rules).is_file():
        raise EmulatorError(f"There is no file of security rules {os.fspath(rules)}.")
    installation = find_emulator()
    deadline = time.monotonic() + timeout
    for attempt in range(1, _PORTS_TO_TRY + 1):
        chosen = port or _free_port()
        run = _Run(_command(installation, port=chosen, rules=rules, java_options=java_options))
        try:
            run.await_answer(chosen, deadline=deadline)
        except _PortTakenError:
            run.stop()
            if port or attempt == _PORTS_TO_TRY:
                raise EmulatorError(
                    f"Port {chosen} on 127.0.0.1 is taken by another program: stop it, or choose another port."
                ) from None
        except _DidNotStartError as error:
            run.stop()
            check_java(installation.java)  # the commonest cause has a message of its own
            said = run.log().decode(errors="replace").strip()
            raise EmulatorError(
                f"The Firestore emulator ({installation.jar}) did not start: {error}.\n{said}".rstrip()
            ) from None
        except BaseException:  # KeyboardInterrupt too
            run.stop()
            raise
        else:
            return Emulator(f"127.0.0.1:{chosen}", installation=installation, run=run)
    raise AssertionError("the last attempt returns or raises")


def _attach(named: str, *, port: int | None, rules: str | os.PathLike[str] | None) -> Emulator:
    bare = named.removeprefix("http://").rstrip("/")
    try:
        address = urlsplit(f"//{bare}")
        valid = bool(address.hostname and address.port and address.netloc == bare)
    except ValueError:
        valid = False
    if not valid:
        raise EmulatorError(f"{HOST_VARIABLE} must be host:port such as 127.0.0.1:8080, not {named!r}.")
    if port is not None or rules is not None:
        raise EmulatorError(
            f"{HOST_VARIABLE} names an emulator that runs already, on {bare}, with a port and rules of its own. "
            "Unset it to have one started."
        )
    if not _answers(bare):
        raise EmulatorError(
            f"{HOST_VARIABLE} is {bare}, where no Firestore emulator answers. Start it there, or unset the "
            "variable to have one started."
        )
    return Emulator(bare)


def _command(
    installation: Installation, *, port: int, rules: str | os.PathLike[str] | None, java_options: Sequence[str]
) -> list[str]:
    command = [str(installation.java), *_JAVA_OPTIONS, *java_options]
    # By class, since the Cloud CLI's jar has no main class in its manifest.
    command += ["-cp", str(installation.jar), _MAIN_CLASS, "--host=127.0.0.1", f"--port={port}"]
    return command if rules is None else [*command, "--rules", os.fspath(rules)]


def _free_port() -> int:
    # The emulator does listen on a free port when given 0, but tells nobody which.
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await_free_port(port: int) -> None:
    """Return when nobody listens: a killed Java is not ours to wait for, its supervisor was killed with it."""
    for _ in range(int(_STOP_SECONDS / _POLL_SECONDS)):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return
        time.sleep(_POLL_SECONDS)


def _answers(host: str) -> bool:
    try:
        status, _ = _request(host, "GET", "/", timeout=5.0)
    except (OSError, http.client.HTTPException):
        return False
    return status == http.HTTPStatus.OK


def _request(host: str, method: str, path: str, *, timeout: float) -> tuple[int, bytes]:
    # http.client, since urllib would send this through a proxy that the environment names.
    with contextlib.closing(http.client.HTTPConnection(host, timeout=timeout)) as connection:
        connection.request(method, path, headers={"Authorization": "Bearer owner"})
        response = connection.getresponse()
        return response.status, response.read()


class _PortTakenError(Exception):
    pass


class _DidNotStartError(Exception):
    pass


class _Run:
    """The processes of an emulator that was started here: a supervisor, and Java under it."""

    def __init__(self, command: Sequence[str]) -> None:
        self._owner = os.getpid()
        # A file and not a pipe: nobody reads while the emulator runs, and a thread that did would make every
        # later fork of this process unsafe. Appending, so that reading does not move the writer's position.
        self._log: IO[bytes] = tempfile.TemporaryFile("a+b")  # noqa: SIM115 - closed by stop()
        self._supervisor = subprocess.Popen(  # noqa: S603 - our own script
            [sys.executable, "-I", "-S", supervisor.__file__, str(self._owner), *command],
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a Ctrl-C in the terminal is the caller's to handle
        )
        self._last_log = b""

    def await_answer(self, port: int, *, deadline: float) -> None:
        """Return when this emulator answers: its announcement tells it from another program on the port."""
        while not (_ANNOUNCEMENT in self.log() and _answers(f"127.0.0.1:{port}")):
            if self._supervisor.poll() is not None:
                if b"BindException" in self.log():
                    raise _PortTakenError
                raise _DidNotStartError(f"Java ended with exit code {self._supervisor.returncode}")
            if time.monotonic() > deadline:
                raise _DidNotStartError("it did not answer in time")
            time.sleep(_POLL_SECONDS)

    def log(self) -> bytes:
        if not self._log.closed:
            size = os.fstat(self._log.fileno()).st_size
            self._last_log = os.pread(self._log.fileno(), _LOG_BYTES, max(0, size - _LOG_BYTES))
        return self._last_log

    def stop(self) -> None:
        if self._log.closed or os.getpid() != self._owner:  # a forked child does not end its parent's emulator
            return
        self._supervisor.terminate()
        try:
            code = self._supervisor.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            code = -signal.SIGKILL
        if code < 0:  # the supervisor hangs or was killed, and has left Java behind
            self._kill_group()
        self._close()

    def kill(self) -> None:
        if self._log.closed or os.getpid() != self._owner:
            return
        self._kill_group()
        self._close()

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._supervisor.pid, signal.SIGKILL)
        self._supervisor.wait()

    def _close(self) -> None:
        self.log()  # the last reading is kept
        assert self._supervisor.stdin  # noqa: S101 - for mypy: Popen was asked for a pipe
        self._supervisor.stdin.close()
        self._log.close()
