"""An emulator that answers: started here, or attached to."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from typing_extensions import Self

from ..errors import EmulatorError
from .finding import Installation, check_java, find_emulator
from .process import DidNotStartError, EmulatorProcess, PortTakenError, free_port
from .rest import answers, delete_documents, problem_with_rules

HOST_VARIABLE: Final = "FIRESTORE_EMULATOR_HOST"
DEFAULT_PROJECT: Final = "demo-flowstate"

_PORTS_TO_TRY: Final = 5


class Emulator:
    """An emulator that answers, as `start_emulator` returns it; leaving it as a context manager stops it.

    One that was started here never outlives the Python that started it, however that ends: exit, exception,
    SIGTERM, SIGKILL.

    Attributes:
        host: ``127.0.0.1:PORT``, which is also what FIRESTORE_EMULATOR_HOST takes.
        installation: What was started; None if the emulator was there already, which is left running.
    """

    def __init__(
        self, host: str, *, installation: Installation | None = None, process: EmulatorProcess | None = None
    ) -> None:
        self.host = host
        self.installation = installation
        self._process = process

    def __repr__(self) -> str:
        return f"<Emulator {self.host}, {'attached' if self._process is None else 'started here'}>"

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
        """The end of what the emulator has printed, up to 64 KiB; empty if it was there already."""
        return self._process.log().decode(errors="replace") if self._process else ""

    def is_running(self) -> bool:
        """Tell whether the emulator answers."""
        return answers(self.host)

    def reset(self, project: str = DEFAULT_PROJECT, database: str = "(default)") -> None:
        """Delete all documents of one database.

        Raises:
            EmulatorError: The emulator does not answer, or refuses.
        """
        delete_documents(self.host, project, database)

    def wait(self) -> None:
        """Return when the emulator that was started here has ended."""
        if self._process:
            self._process.wait()

    def stop(self) -> None:
        """Stop the emulator and wait until it is gone. One that was there already goes on; twice is harmless."""
        if self._process:
            self._process.stop()

    def kill(self) -> None:
        """End the emulator as a crash would, by SIGKILL, and wait until its port is free again.

        A new one on the same port is `start_emulator(port=emulator.port, attach=False)`. One that was there
        already goes on.
        """
        if self._process:
            self._process.kill()


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
        attach: Whether to use the emulator that FIRESTORE_EMULATOR_HOST names, if that is set. False starts
            a new one in any case.
        timeout: Seconds until the emulator must answer.

    Raises:
        EmulatorError: There is no emulator on this machine (the message names the ways to get it), it did not
            start, its rules do not compile, or the one to attach to does not answer or cannot have the port or
            the rules asked for.
    """
    named = os.environ.get(HOST_VARIABLE) if attach else None
    if named:
        return _attach(named, asked_for_its_own=port is not None or rules is not None)
    if os.name != "posix":
        raise EmulatorError(
            "This package starts the Firestore emulator on Linux and macOS only. Start it with firebase-tools "
            f"or the Google Cloud CLI, and name it as host:port in {HOST_VARIABLE}."
        )
    if rules is not None and not Path(rules).is_file():
        raise EmulatorError(f"There is no file of security rules {os.fspath(rules)}.")
    installation = find_emulator()
    deadline = time.monotonic() + timeout
    for _ in range(1 if port else _PORTS_TO_TRY):
        process = EmulatorProcess(
            installation,
            port=port or free_port(),
            rules=os.fspath(rules) if rules is not None else None,
            java_options=java_options,
        )
        emulator = Emulator(f"127.0.0.1:{process.port}", installation=installation, process=process)
        try:
            process.await_answer(deadline=deadline)
            if rules is not None:
                _check_rules(emulator, rules)
        except PortTakenError:
            emulator.stop()  # and try another
        except DidNotStartError as error:
            emulator.stop()
            check_java(installation.java)  # the commonest cause has a message of its own
            said = "\n".join(line for line in emulator.log.splitlines() if not line.startswith("\t"))  # no Java traces
            message = f"The Firestore emulator ({installation.jar}) did not start: {error}.\n{said}"
            raise EmulatorError(message.rstrip()) from None
        except BaseException:  # KeyboardInterrupt too
            emulator.stop()
            raise
        else:
            return emulator
    raise EmulatorError(f"Port {process.port} on 127.0.0.1 is taken by another program. Choose another one.")


def _attach(named: str, *, asked_for_its_own: bool) -> Emulator:
    host = named.removeprefix("http://").removeprefix("https://").rstrip("/")
    try:
        address = urlsplit(f"//{host}")
        valid = bool(address.hostname and address.port and address.netloc == host)
    except ValueError:
        valid = False
    if not valid:
        raise EmulatorError(f"{HOST_VARIABLE} must be host:port such as 127.0.0.1:8080, not {named!r}.")
    if asked_for_its_own:
        raise EmulatorError(
            f"{HOST_VARIABLE} names an emulator that runs already, on {host}, with a port and rules of its own. "
            "Unset it to have one started."
        )
    if not answers(host):
        raise EmulatorError(
            f"{HOST_VARIABLE} is {host}, where no Firestore emulator answers. Start it there, or unset the "
            "variable to have one started."
        )
    return Emulator(host)


def _check_rules(emulator: Emulator, rules: str | os.PathLike[str]) -> None:
    if problem := problem_with_rules(emulator.host, DEFAULT_PROJECT):
        raise EmulatorError(f"{os.fspath(rules)}: {problem}")
