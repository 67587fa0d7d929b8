"""`python -m firestore_flowstate.emulator`: exec, start, download, where."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, NoReturn

from ..errors import EmulatorError
from .download import PINNED, Jar, download_emulator
from .emulator import HOST_VARIABLE, Emulator, start_emulator
from .execution import run_command
from .finding import check_java, find_emulator

_FAILED: Final = 1
_SIGNALLED: Final = 128  # plus the number of the signal, as shells have it
_SIGPIPE: Final = 13  # Python's signal has no such name on Windows
_OWN_HOST_VARIABLE: Final = "FLOWSTATE_EMULATOR_HOST"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that the arguments name, and return its exit code.

    Args:
        arguments: The arguments, without the name of the program; None: those of this process.
    """
    try:
        return _run(sys.argv[1:] if arguments is None else arguments)
    except EmulatorError as error:
        _say(str(error))
        return _FAILED
    except KeyboardInterrupt:
        return _SIGNALLED + signal.SIGINT
    except BrokenPipeError:  # nobody reads on, as in `start | true`
        _give_up_output()
        return _SIGNALLED + _SIGPIPE
    except OSError as error:
        _say(str(error))
        _give_up_output()
        return _FAILED


def _run(arguments: Sequence[str]) -> int:
    try:
        options = _parse(arguments)
        for signum in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(signum) is not signal.SIG_IGN:  # as under nohup
                signal.signal(signum, _leave)  # SystemExit leaves the context managers, which stop the emulator
        return int(options.run(options))
    finally:
        if sys.stdout is not None:
            sys.stdout.flush()  # the interpreter would do it at the end, and print an error if it fails


def _give_up_output() -> None:
    """Drop what is left for standard output, if it takes no more: the interpreter would print an error as it exits."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m firestore_flowstate.emulator", description="Run the official Firestore emulator."
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    execute = commands.add_parser(
        "exec",
        usage="%(prog)s [options] -- COMMAND...",
        help="run a command with the emulator up",
        description=f"Run a command with the emulator up and {HOST_VARIABLE} set, then stop the emulator and exit "
        f"as the command did. If {HOST_VARIABLE} is set already, that emulator is used and left running. "
        f"{_OWN_HOST_VARIABLE} is not passed on.",
    )
    _add_emulator_options(execute)
    execute.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND", help="the command and its arguments")
    execute.set_defaults(run=_exec)

    start = commands.add_parser(
        "start",
        help="run the emulator until Ctrl-C",
        description="Start an emulator, print its address, and stop it on Ctrl-C or SIGTERM.",
    )
    _add_emulator_options(start)
    start.set_defaults(run=_start)

    download = commands.add_parser(
        "download",
        help="fetch the emulator's jar",
        description=f"Fetch the emulator's jar into the cache folder, by default {PINNED.url}",
    )
    download.add_argument("--url", default=PINNED.url, help="another address, such as a mirror's")
    download.add_argument(
        "--sha256", default=PINNED.sha256, help="the checksum that the jar must have, if it is another version"
    )
    download.set_defaults(run=_download)

    where = commands.add_parser("where", help="print which Java and which jar would be used")
    where.set_defaults(run=_where)

    # "--" is taken out before the parser sees it, since versions of Python differ in what they make of it here.
    own, separator, command = _split(list(arguments))
    options = parser.parse_args(own)
    if options.run is _exec:
        options.command += [*separator, *command] if options.command else command
        if not options.command:
            execute.error("a command is needed, such as: exec -- pytest")
    elif separator:
        parser.error("only exec takes a command")
    return options


def _split(arguments: list[str]) -> tuple[list[str], list[str], list[str]]:
    if "--" not in arguments:
        return arguments, [], []
    place = arguments.index("--")
    return arguments[:place], ["--"], arguments[place + 1 :]


def _add_emulator_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", type=_port, help="the port on 127.0.0.1 (default: a free one)")
    parser.add_argument(
        "--rules", metavar="FILE", help="a file of security rules (default: everybody may do everything)"
    )
    parser.add_argument(
        "--java-option",
        action="append",
        default=[],
        metavar="OPTION",
        help="an option for Java, such as --java-option=-Xmx4g; repeatable",
    )


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port, 1 to 65535")
    return int(text)


def _exec(options: argparse.Namespace) -> int:
    with _emulator(options, attach=True) as emulator:
        code, problem = run_command(options.command, {**_without_own_host(os.environ), **emulator.environment})
        if problem:
            _say(problem)
        elif not emulator.is_running():
            _say(f"The Firestore emulator ended before the command did.\n{emulator.log}")
    return code


def _without_own_host(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without this package's own variable, which would win over FIRESTORE_EMULATOR_HOST."""
    return {name: value for name, value in environment.items() if name.upper() != _OWN_HOST_VARIABLE}


def _start(options: argparse.Namespace) -> int:
    with _emulator(options, attach=False) as emulator:
        print(f"{HOST_VARIABLE}={emulator.host}", flush=True)
        try:
            emulator.wait()
        except (KeyboardInterrupt, SystemExit):
            return 0  # it was asked to stop, which is not a failure
        raise EmulatorError(f"The Firestore emulator ended by itself.\n{emulator.log}")


def _emulator(options: argparse.Namespace, *, attach: bool) -> Emulator:
    return start_emulator(port=options.port, rules=options.rules, java_options=options.java_option, attach=attach)


def _download(options: argparse.Namespace) -> int:
    with _progress() as progress:
        jar = download_emulator(Jar(url=options.url, sha256=options.sha256.lower()), progress=progress)
    _tell(str(jar))
    return 0


def _where(options: argparse.Namespace) -> int:
    named = os.environ.get(HOST_VARIABLE)
    if named:
        print(f"host  {start_emulator().host} ({HOST_VARIABLE})")
        return 0
    installation = find_emulator()
    _tell(f"java  {installation.java} ({check_java(installation.java)})")
    _tell(f"jar   {installation.jar} ({installation.source})")
    return 0


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[int, int | None], None]]:
    """Show a progress bar on standard error, or lines with figures if rich is not installed."""
    try:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
    except ImportError:
        yield _figures()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("Firestore emulator", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _figures() -> Callable[[int, int | None], None]:
    _say("There is no progress bar: pip install 'firestore-flowstate[emulator]' brings one.")
    shown = 0

    def show(done: int, total: int | None) -> None:
        nonlocal shown
        step = done * 10 // total if total else done // (10 * 1024 * 1024)
        if step > shown:
            shown = step
            _say(f"{done / 1024**2:.0f} MiB" + (f" of {total / 1024**2:.0f} MiB" if total else ""))

    return show


def _leave(signum: int, frame: object) -> NoReturn:
    raise SystemExit(_SIGNALLED + signum)


def _tell(line: str) -> None:
    """Print a line with a path to standard output, whose encoding may lack a character of it."""
    try:
        print(line)
    except UnicodeEncodeError:
        print(line.encode("ascii", "backslashreplace").decode())


def _say(message: str) -> None:
    print(message, file=sys.stderr)
