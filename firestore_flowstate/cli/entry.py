"""The entry point: whatever goes wrong becomes one line on standard error and an exit code."""

from __future__ import annotations

import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Final, TextIO

from ..errors import (
    FlowStateError,
    FlowStateWarning,
    InvalidContinuationTokenError,
    InvalidFlowIdError,
    InvalidQueryError,
)

_FAILED: Final = 1  # the exit code of a command that has failed, or found something
_MISUSED: Final = 2  # as click's own for a wrong argument
_SIGNALLED: Final = 128  # plus the number of the signal, as shells have it
_ARGUMENTS: Final = (InvalidFlowIdError, InvalidContinuationTokenError, InvalidQueryError)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that the arguments name, and return its exit code.

    The code is 0 if the command has done its work, 1 if it failed or found something, 2 if arguments or settings are
    wrong, and 128 + n if signal n ended it.

    Args:
        arguments: The arguments, without the name of the program; None: those of this process.
    """
    _fill_descriptors()
    with _ended_by_ctrl_c() if arguments is None else nullcontext():
        try:
            import click
            import rich  # noqa: F401  # to say at once which package is missing, before a command needs it
        except ImportError as error:
            _say(f"{error.name} is missing: the command needs pip install 'firestore-flowstate[cli]'")
            return _FAILED
        from .group import SignalledError, flowstate

    given = None if arguments is None else list(arguments)
    try:
        with _own_warnings():
            result = flowstate.main(given, prog_name="flowstate", standalone_mode=False)
    except click.exceptions.Abort as abort:
        # Click makes one error of Ctrl-C and of the end of the input, at a question and wherever else it takes them.
        if isinstance(abort.__context__, KeyboardInterrupt):
            _say("interrupted")
            return _SIGNALLED + signal.SIGINT
        _say("aborted")
        return _FAILED
    except click.exceptions.NoArgsIsHelpError as error:
        if sys.stderr is not None:
            print(error.format_message(), file=sys.stderr)
        return _MISUSED
    except click.ClickException as error:
        context, message = getattr(error, "ctx", None), error.format_message()
        if context is not None:
            end = "" if message.endswith((".", "!", "?", "?)")) else "."
            message += f"{end} See {context.command_path} --help"
        _say(message)
        return error.exit_code
    except SignalledError as signalled:
        if isinstance(signalled.__cause__, BrokenPipeError):
            _give_up_output()
        else:
            _say("interrupted")
        return _SIGNALLED + signalled.number
    except FlowStateError as error:
        _say(str(error))
        return _MISUSED if isinstance(error, _ARGUMENTS) else _FAILED
    except ImportError as error:  # of an extra: the error of an application's own module comes as a MisusedError
        _say(str(error))
        return _FAILED
    except OSError as error:
        _say(str(error))
        _give_up_output()
        return _FAILED
    return result if isinstance(result, int) else 0


def _fill_descriptors() -> None:
    """Open the null device in place of standard streams that are closed, so that no connection gets their descriptors.

    Otherwise what libraries write to standard error would go to Firestore. sys.stdin, sys.stdout and sys.stderr stay
    None, as Python sets them then.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it gets the lowest number that is free


@contextmanager
def _ended_by_ctrl_c() -> Iterator[None]:
    """Have Ctrl-C end the process at once, with one line: while modules are loaded there is nothing to clear up.

    As a KeyboardInterrupt it would be printed with the modules that it came in the middle of. SIGINT stays as it is if
    it is ignored, as under nohup, or if this is not the main thread.
    """
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, _end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _end(number: int, _: object) -> None:
    """End the process by the signal, so that a script that runs the command sees what has ended it."""
    _say("interrupted")
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)


def _give_up_output() -> None:
    """If standard output takes no more, drop what is left for it: the interpreter would print an error as it exits."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say(message: str) -> None:
    if sys.stderr is None:  # print takes None for standard output
        return
    line = "".join(char if char.isprintable() else " " for char in message)
    print(f"flowstate: {line}", file=sys.stderr)


@contextmanager
def _own_warnings() -> Iterator[None]:
    """Print warnings of this package as lines of the command; show those of libraries only if Python's -W asks."""
    with warnings.catch_warnings():
        if not sys.warnoptions:
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", FlowStateWarning)
        warnings.showwarning = _say_warning
        yield


def _say_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    _say(f"warning: {message}")
