"""Commands that move flow states to files and back."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

import click

from ..backup import ImportReport, export_states, import_states
from ..errors import FlowStateError, InvalidFlowIdError
from ..query import FlowStateQuery
from ..settings import FlowStateSettings
from .connecting import opened
from .interruptible import in_thread, run
from .options import (
    MisusedError,
    as_json_option,
    dry_run_option,
    filter_options,
    given_query,
    given_settings,
    need_output,
    store_options,
)
from .output import about, counted, progress_bar, report, say, shown

_STANDARD: Final = "-"
_AT_ONCE: Final = 1024 * 1024  # bytes of a file that are read in one go, on another thread


@click.command("export")
@click.argument("file", metavar="FILE", type=click.Path(dir_okay=False, allow_dash=True))
@click.option(
    "--skip-unreadable", is_flag=True, help="Leave out flow states that cannot be read, name them, and exit with 1."
)
@filter_options
@store_options
def export_command(file: str, skip_unreadable: bool) -> int:
    """Write flow states to a file of JSON Lines.

    FILE may be - for standard output. Otherwise the file appears when it is complete, in place of one that was there,
    and only its owner may read it.
    """
    skipped: list[str] = []

    def skip(id: str, error: FlowStateError) -> None:
        skipped.append(id)
        say(shown(f"left out: {error}"))

    async def export(settings: FlowStateSettings, query: FlowStateQuery, out: BinaryIO) -> int:
        written = 0
        async with opened(settings) as store:
            with progress_bar("flow states", await about(store, query)) as progress:
                lines = export_states(store, query, on_unreadable=skip if skip_unreadable else None, progress=progress)
                async with aclosing(lines):
                    async for line in lines:
                        out.write(line.encode())
                        written += 1
        return written

    settings, query = given_settings(), given_query()
    with _complete(file) as out:
        written = run(export(settings, query, out))
    say(f"{counted(written)} exported" + (f", {len(skipped):,} left out" if skipped else ""))
    return 1 if skipped else 0


@click.command("import")
@click.argument("file", metavar="FILE", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option(
    "--renew-expiry", is_flag=True, help="Let states expire as if they were written now, not when they would have."
)
@dry_run_option
@as_json_option
@store_options
def import_command(file: str, renew_expiry: bool, dry_run: bool, as_json: bool) -> None:
    """Store the flow states of a file that export has written.

    FILE may be - for standard input. Each flow state replaces what is there under its id, so the whole file may be
    imported once more. If a line is wrong, all lines before it are stored, and nothing of it or after it: correct it,
    and go on from there, as by `tail -n +501 FILE | flowstate import -`. Flow states that have expired since are left
    out.
    """

    async def store_lines(settings: FlowStateSettings, source: int, size: int | None) -> ImportReport:
        async with opened(settings) as store:
            with progress_bar("imported", size, in_bytes=True) as progress:
                return await import_states(
                    store,
                    _lines(source, progress),
                    expiry="renew" if renew_expiry else "keep",
                    dry_run=dry_run,
                )

    settings = given_settings()
    standard = file == _STANDARD
    if standard and sys.stdin is None:
        raise MisusedError("standard input is closed: there is nothing to import")
    with nullcontext(sys.stdin.buffer) if standard else Path(file).open("rb") as source:
        size = None if standard else os.fstat(source.fileno()).st_size
        try:
            found = run(store_lines(settings, source.fileno(), size))
        except InvalidFlowIdError as error:  # an id in the file is wrong, and not an argument
            raise click.ClickException(str(error)) from error
    done = "would be imported" if dry_run else "imported"
    left_out = f", {found.expired:,} left out: expired" if found.expired else ""
    nothing = "" if found.imported or found.expired else ": there is no line in it"
    report(
        f"{counted(found.imported)} {done}{left_out}{nothing}",
        {"imported": found.imported, "expired": found.expired, "dryRun": dry_run},
        as_json=as_json,
    )


async def _lines(source: int, progress: Callable[[int], None]) -> AsyncIterator[bytes]:
    """Yield the lines of an open file, read on another thread: a signal has not to wait for a pipe or a terminal."""
    done = 0
    begun = b""
    while data := await in_thread(partial(os.read, source, _AT_ONCE)):
        *lines, begun = (begun + data).split(b"\n")
        for line in lines:
            yield line
        done += len(data)
        progress(done)
    if begun:
        yield begun


@contextmanager
def _complete(file: str) -> Iterator[BinaryIO]:
    """Open a file to be written, which gets its name when the context ends without an error."""
    if file == _STANDARD:
        need_output()
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    path = Path(file)
    if path.exists() and not path.is_file():  # a pipe or a device is written to, and not replaced
        with path.open("wb") as out:
            yield out
        return
    target = path.resolve()  # what a link leads to is replaced, and not the link
    try:
        descriptor, unfinished = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    except OSError as error:
        raise click.ClickException(f"Cannot write {file!r}: {error.strerror}") from error
    try:
        with os.fdopen(descriptor, "wb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        Path(unfinished).replace(target)
    except BaseException:
        Path(unfinished).unlink(missing_ok=True)
        raise
