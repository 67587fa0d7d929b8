"""The group of all commands."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import click
from typing_extensions import override

from .. import __version__
from .answering import cancel, resume, retry
from .backups import export_command, import_command
from .driving import start, sweep, worker
from .indexing import indexes
from .inspecting import delete, doctor, history, show
from .listing import count, list_command
from .maintaining import expire, gc, migrate, purge, rewrap
from .watching import watch

_SIGPIPE: Final = 13  # Python's signal has no such name on Windows


class SignalledError(Exception):
    """A signal, or the end of whoever reads its output, has ended the command.

    Attributes:
        number: The number of the signal: SIGPIPE if nobody reads on, as in ``flowstate list | head``.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class _Commands(click.Group):
    @override
    def invoke(self, ctx: click.Context) -> Any:
        with _signals():
            result = super().invoke(ctx)
            if sys.stdout is not None:
                sys.stdout.flush()
        return result

    @override
    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> click.Context:
        with _signals():  # --help and --version print while the arguments are read
            return super().make_context(info_name, args, parent, **extra)


@contextmanager
def _signals() -> Iterator[None]:
    """Raise `SignalledError` for what ends a command from outside. Click would treat all of it as failures."""
    try:
        yield
    except BrokenPipeError as error:
        raise SignalledError(_SIGPIPE) from error
    except KeyboardInterrupt as interrupt:
        raise SignalledError(next(iter(interrupt.args), signal.SIGINT)) from interrupt


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="flowstate")
def flowstate() -> None:
    """Look at, drive, move and maintain flow states in Firestore.

    Options name the collection, or else the environment does, as for the package: FLOWSTATE_PROJECT,
    FLOWSTATE_COLLECTION, FLOWSTATE_SHARDS, FLOWSTATE_KEYS and so on, GOOGLE_CLOUD_PROJECT and FIRESTORE_EMULATOR_HOST.

    Results go to standard output; questions, progress, warnings and errors go to standard error. The exit code is 0 if
    the command has done its work, 1 if it failed or found something, 2 if arguments or settings are wrong, and 128 + n
    if signal n ended it.
    """


for _command in (
    list_command,
    show,
    watch,
    history,
    count,
    delete,
    export_command,
    import_command,
    indexes,
    start,
    resume,
    retry,
    cancel,
    sweep,
    worker,
    doctor,
    expire,
    gc,
    purge,
    migrate,
    rewrap,
):
    flowstate.add_command(_command)
