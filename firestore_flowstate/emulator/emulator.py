"""An emulator that answers: one that was started here, or one that was attached to."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from typing_extensions import Self

from .._rpc.deadline import monotonic
from ..errors import EmulatorError, shown
from .finding import Installation, check_java, find_emulator
from .process import DidNotStartError, EmulatorProcess, PortTakenError, free_port
from .rest import answers, delete_documents, problem_with_rules

HOST_VARIABLE: Final = "FIRESTORE_EMULATOR_HOST"
DEFAULT_PROJECT: Final = "demo-flowstate"

_PORTS_TO_TRY: Final = 5
_ID: Final = re.compile(r"\(default\)|[A-Za-z0-9._:-]+")  # old projects have a domain and a colon in front


class Emulator:
    """An emulator that answers, as `start_emulator` returns it. As a context manager it stops the emulator at the end.

    An emulator that was started here ends with the Python that started it, in whichever way that ends: exit, exception,
    SIGTERM or SIGKILL. One that was attached to is left running.

    Attributes:
        host: ``127.0.0.1:PORT``, the form that FIRESTORE_EMULATOR_HOST takes.
        installation: What was started; None if the emulator was attached to.
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
        """The last 64 KiB of what the emulator has printed; empty if it was attached to."""
        return self._process.log().decode(errors="replace") if self._process else ""

    def is_running(self) -> bool:
        """Return whether the emulator answers."""
        return answers(self.host)

    def reset(self, project: str = DEFAULT_PROJECT, database: str = "(default)") -> None:
        """Delete all documents of one database.

        ::

            emulator.reset("demo-shop")

        Args:
            project: The project of the database.
            database: The database.

        Raises:
            TypeError: An id is not a text.
            ValueError: There can be no project or database of that id.
            EmulatorError: The emulator does not answer, or refuses.
        """
        _check_id(project, "project", DEFAULT_PROJECT)
        _check_id(database, "database", "(default)")
        delete_documents(self.host, project, database)

    def wait(self) -> None:
        """Return when the emulator has ended; at once if it was attached to."""
        if self._process:
            self._process.wait()

    def stop(self) -> None:
        """Stop the emulator, and return when it has ended; a second call does nothing.

        One that was attached to goes on.
        """
        if self._process:
            self._process.stop()

    def kill(self) -> None:
        """End the emulator as a crash would, by SIGKILL, and return when its port is free again.

        `start_emulator(port=emulator.port, attach=False)` starts a new one on the same port. An emulator that was
        attached to goes on.
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

    This blocks for about a second: call it by `asyncio.to_thread` in a coroutine. The environment of this process is
    left as it is: pass `host` on, or put `environment` into it.

    ::

        with start_emulator() as emulator:
            store = FirestoreFlowStateStore(FlowStateSettings(project="demo-shop", emulator_host=emulator.host))

    Args:
        port: The port to listen on; None: a free one.
        rules: The path of a file of security rules; None: everybody may do everything.
        java_options: Further options for Java, such as ``-Xmx4g``.
        attach: Whether to use the emulator that FIRESTORE_EMULATOR_HOST names, if the variable is set. False: a new
            one is started in any case.
        timeout: How many seconds the emulator may take until it answers.

    Raises:
        TypeError: The port is not a number, or `java_options` not a sequence of texts.
        ValueError: The port is not one from 1 to 65535.
        EmulatorError: This machine has no emulator, and the message names the ways to get it. Or the emulator did not
            start, or its rules do not compile. Or the one to attach to does not answer, or a port, rules or options for
            Java are given, which it cannot be given any more.
    """
    _check_port(port)
    _check_java_options(java_options)
    named = os.environ.get(HOST_VARIABLE) if attach else None
    if named:
        return _attach(named, asked_for_its_own=port is not None or rules is not None or bool(java_options))
    if os.name != "posix":
        raise EmulatorError(
            "This package starts the Firestore emulator on Linux and macOS only. Start it with firebase-tools "
            f"or the Google Cloud CLI, and name it as host:port in {HOST_VARIABLE}."
        )
    if rules is not None and not Path(rules).is_file():
        raise EmulatorError(f"There is no file of security rules {os.fspath(rules)}.")
    installation = find_emulator()
    deadline = monotonic() + timeout
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
            emulator.stop()  # and another port is tried
        except DidNotStartError as error:
            emulator.stop()
            check_java(installation.java)  # a Java that is too old is the commonest cause, and has its own message
            said = "\n".join(line for line in emulator.log.splitlines() if not line.startswith("\t"))  # no stacktraces
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
            f"{HOST_VARIABLE} names an emulator that runs already, on {host}, with a port and rules of its own, and "
            "options for its Java. Unset it to have one started."
        )
    if not answers(host):
        raise EmulatorError(
            f"{HOST_VARIABLE} is {host}, and no Firestore emulator answers there. Start one there, or unset the "
            "variable to have one started."
        )
    return Emulator(host)


def _check_port(port: object) -> None:
    if port is None:
        return
    if isinstance(port, bool) or not isinstance(port, int):
        raise TypeError(f"port is a whole number, or None for a free port, not {shown(port)}")
    if not 0 <= port < 65536:  # 0 is a free one too, as everywhere
        raise ValueError(f"port is from 1 to 65535, or None for a free port, not {shown(port)}")


def _check_java_options(options: object) -> None:
    """Refuse a text, each character of which would be an option."""
    if not isinstance(options, Sequence) or isinstance(options, (str, bytes)) or not _are_texts(options):
        raise TypeError(f"java_options is a sequence of options, such as ['-Xmx4g'], not {shown(options)}")


def _are_texts(options: Sequence[object]) -> bool:
    return all(isinstance(option, str) for option in options)


def _check_id(id: object, kind: str, example: str) -> None:
    """Refuse what is not an id, and one with other characters than ids have, to which the emulator gives no answer."""
    if not isinstance(id, str):
        raise TypeError(f"{kind} is the id of a {kind}, such as {example!r}, not {shown(id)}")
    if not _ID.fullmatch(id):
        raise ValueError(f"{kind} is the id of a {kind}, such as {example!r}, not {shown(id)}")


def _check_rules(emulator: Emulator, rules: str | os.PathLike[str]) -> None:
    if problem := problem_with_rules(emulator.host, DEFAULT_PROJECT):
        raise EmulatorError(f"{os.fspath(rules)}: {problem}")
