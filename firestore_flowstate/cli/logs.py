"""What the log says while a command drives runs."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from typing_extensions import override

from ..flows.entries import message_of
from .output import shown

_LOGGER: Final = logging.getLogger("firestore_flowstate")


class _Lines(logging.Formatter):
    """Formats a warning as one line, with the error in place of its traceback, which `flowstate history --json` prints.

    What is logged as an error is a fault of this package, and keeps its traceback. What moves the cursor of a terminal
    or colours it is escaped.
    """

    @override
    def format(self, record: logging.LogRecord) -> str:
        if record.levelno >= logging.ERROR:
            return "\n".join(map(shown, super().format(record).split("\n")))
        if record.exc_info is None or (error := record.exc_info[1]) is None:
            return shown(super().format(record))
        record = copy.copy(record)
        record.exc_info = record.exc_text = None
        message = message_of(error).partition("\n")[0]
        return shown(f"{super().format(record)} {type(error).__name__}{f': {message}' if message else ''}")


@contextmanager
def logged(form: str, *, level: int) -> Iterator[None]:
    """Print what this package logs in lines of this form, to standard error, unless the application logs itself."""
    if logging.getLogger().handlers or _LOGGER.handlers:
        yield
        return
    handler, before = logging.StreamHandler(), _LOGGER.level
    handler.setFormatter(_Lines(form))
    _LOGGER.addHandler(handler)
    _LOGGER.setLevel(level)
    try:
        yield
    finally:
        _LOGGER.removeHandler(handler)
        _LOGGER.setLevel(before)
