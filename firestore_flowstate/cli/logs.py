"""What the log says while a command drives runs."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from typing_extensions import override

_LOGGER: Final = logging.getLogger("firestore_flowstate")


class _Lines(logging.Formatter):
    """Formats a warning as one line, with the error in place of its traceback, which `flowstate history --json` prints.

    What is logged as an error is a fault of this package, and keeps its traceback.
    """

    @override
    def format(self, record: logging.LogRecord) -> str:
        if record.levelno >= logging.ERROR or record.exc_info is None:
            return super().format(record)
        error = record.exc_info[1]
        record = copy.copy(record)
        record.exc_info = record.exc_text = None
        message = str(error).partition("\n")[0]
        return f"{super().format(record)} {type(error).__name__}{f': {message}' if message else ''}"


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
