"""The processes of an emulator that was started here."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import IO, Final

from .._rpc.deadline import monotonic  # which no test of an application's freezes
from . import supervisor
from .finding import Installation
from .rest import answers

MAIN_CLASS: Final = "com.google.cloud.datastore.emulator.firestore.CloudFirestore"
_JAVA_OPTIONS: Final = ("-XX:TieredStopAtLevel=1", "-Xshare:auto")  # the start takes 0.75 s in place of 1 s
_ANNOUNCEMENT: Final = b"Dev App Server is now running"
_POLL_SECONDS: Final = 0.02
_STOP_SECONDS: Final = 5.0
"""How long the supervisor may take to end Java and itself; after that the process group of both is killed."""
_LOG_BYTES: Final = 64 * 1024
"""How much of the end of the log is read."""


class PortTakenError(Exception):
    """Another program listens on the port."""


class DidNotStartError(Exception):
    """Java ended, or did not answer in time."""


class EmulatorProcess:
    """A supervisor, and Java as its child, in a session and process group of their own."""

    def __init__(
        self, installation: Installation, *, port: int, rules: str | None = None, java_options: Sequence[str] = ()
    ) -> None:
        self.port = port
        # The class is named, since the jar of the Google Cloud CLI has no main class in its manifest.
        java = [str(installation.java), *_JAVA_OPTIONS, *java_options, "-cp", str(installation.jar), MAIN_CLASS]
        java += ["--host=127.0.0.1", f"--port={port}", *(["--rules", rules] if rules is not None else [])]
        self._owner = os.getpid()
        self._last_log = b""
        # The log is a file and not a pipe: nobody reads it while the emulator runs, and a thread that did would make
        # every later fork of this process unsafe. It is opened for appending, so that to read it moves no position.
        self._log: IO[bytes] = tempfile.TemporaryFile("a+b")  # noqa: SIM115 - closed by stop()
        self._supervisor = subprocess.Popen(  # noqa: S603 - our own script
            [sys.executable, "-I", "-S", supervisor.__file__, str(self._owner), *java],
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a Ctrl-C in the terminal goes to the caller alone, who decides
        )

    def await_answer(self, *, deadline: float) -> None:
        """Return when the emulator answers. By its announcement in the log it is told from another program on the port.

        Args:
            deadline: When it must have answered, by `_rpc.deadline.monotonic`, in seconds.

        Raises:
            PortTakenError: Another program has the port.
            DidNotStartError: Java ended, or did not answer in time; the message says which.
        """
        while not (_ANNOUNCEMENT in self.log() and answers(f"127.0.0.1:{self.port}")):
            if (code := self._exit_code()) is not None:
                if b"BindException" in self.log():
                    raise PortTakenError
                raise DidNotStartError(f"Java ended with exit code {code}")
            if monotonic() > deadline:
                raise DidNotStartError("it did not answer in time")
            time.sleep(_POLL_SECONDS)

    def log(self) -> bytes:
        """Return the last 64 KiB of what Java has printed, also when it has ended."""
        if not self._log.closed:
            size = os.fstat(self._log.fileno()).st_size
            self._last_log = os.pread(self._log.fileno(), _LOG_BYTES, max(0, size - _LOG_BYTES))
        return self._last_log

    def wait(self) -> None:
        """Return when Java has ended."""
        while self._exit_code() is None:
            time.sleep(_POLL_SECONDS)

    def stop(self) -> None:
        """End Java, and return when it has ended. A second call does nothing."""
        if self._is_not_ours_to_end():
            return
        if self._exit_code() is None:
            os.kill(self._supervisor.pid, signal.SIGTERM)
        code = self._exit_code_within(_STOP_SECONDS)
        if code is None or code < 0:  # the supervisor hangs or was killed, and has left Java behind
            self._kill_group()
        self._close()

    def kill(self) -> None:
        """End Java by SIGKILL, and return when its port is free."""
        if self._is_not_ours_to_end():
            return
        self._kill_group()
        self._close()

    def _is_not_ours_to_end(self) -> bool:
        return self._log.closed or os.getpid() != self._owner  # a forked child leaves its parent's emulator alone

    def _exit_code(self) -> int | None:
        """Return the exit code of the supervisor, None while it runs.

        Popen is not asked. If a signal's handler raises, as that of Ctrl-C does, while Popen.poll or Popen.wait takes
        its lock, nobody releases the lock, and the next Popen.wait never returns.
        """
        if self._supervisor.returncode is None:
            try:
                pid, status = os.waitpid(self._supervisor.pid, os.WNOHANG)
            except ChildProcessError:  # a handler raised between the two lines below, or the program reaps all children
                self._supervisor.returncode = -signal.SIGKILL  # it may have left Java behind
            else:
                if pid:
                    self._supervisor.returncode = os.waitstatus_to_exitcode(status)
        code: int | None = self._supervisor.returncode
        return code

    def _exit_code_within(self, seconds: float) -> int | None:
        """Return the exit code of the supervisor when it has ended, or None after so many seconds."""
        deadline = monotonic() + seconds
        while self._exit_code() is None and monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        return self._exit_code()

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._supervisor.pid, signal.SIGKILL)
        self._exit_code_within(_STOP_SECONDS)
        # Java was the supervisor's child, so this process cannot wait for it: its port shows when it has ended.
        deadline = monotonic() + _STOP_SECONDS
        while _is_taken(self.port) and monotonic() < deadline:
            time.sleep(_POLL_SECONDS)

    def _close(self) -> None:
        self.log()  # keeps the end of the log, which can be asked for later
        assert self._supervisor.stdin  # noqa: S101 - for mypy: Popen was asked for a pipe
        self._supervisor.stdin.close()
        self._log.close()


def free_port() -> int:
    """Return a port on 127.0.0.1 that was free a moment ago.

    The emulator can listen on a free port of its own choice, but does not print which.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _is_taken(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
