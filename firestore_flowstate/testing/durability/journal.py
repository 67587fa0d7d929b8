"""A journal: what steps do, what functions see, and what is written, in one order for all processes."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

Event = Mapping[str, Any]
"""A line of a journal. ``what`` says what happened; ``run`` is the id of the run."""

_LONGEST_TEXT: Final = 400
"""How many characters of a value a line has: a journal of many runs has to stay small."""


class Journal:
    """Lines in the order in which they were written, in memory, or in a file that several processes append to.

    A process that is killed loses no line: as soon as `note` returns, the operating system has the line.

    Args:
        path: The file; None: the lines are kept in memory.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._file: int | None = None
        self._lines: list[str] = []
        self._lock = threading.Lock()
        if path is not None:
            self._file = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)

    def note(self, what: str, run: str, **about: Any) -> None:
        """Append a line.

        Args:
            what: What happened, such as ``write`` or ``begin``.
            run: The id of the run.
            about: What else the line has.
        """
        line = json.dumps({"what": what, "run": run, "process": os.getpid(), **about})
        if self._file is None:
            with self._lock:
                self._lines.append(line)
        else:
            os.write(self._file, f"{line}\n".encode())

    def events(self) -> list[Event]:
        """Return all lines so far."""
        lines: Iterable[str] = self._lines if self._path is None else self._path.read_text().splitlines()
        return [json.loads(line) for line in lines]

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def short(value: Any) -> Any:
    """Return the value, or the beginning and the length of its JSON text if that is longer than 400 characters."""
    text = json.dumps(value, sort_keys=True)
    return value if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}… {len(text)}"
