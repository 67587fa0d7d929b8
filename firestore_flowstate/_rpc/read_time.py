"""One time that several reads are answered as of."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from .connection import Connection
from .deadline import Deadline, monotonic, sleep
from .messages import Timestamp

_Answer = TypeVar("_Answer")

_GOOD_FOR: Final = 300.0  # seconds: Firestore answers as of any time of the past hour, and callers want recent states
_EMULATOR_SETTLES: Final = 0.02  # seconds: it shows a commit up to 4 ms after the commit's time, in 1 read of 15
_EMULATOR_SETTLES_AGAIN: Final = 5.0  # times what a call takes, in addition: on a busy machine commits show later still
_EMULATOR_SETTLES_AT_MOST: Final = 0.25  # seconds: a call may have taken long for another reason


async def settled_time(connection: Connection, name: str, deadline: Deadline) -> Timestamp | None:
    """Return the time as of which the first of several reads of one moment is to read; None: the server's present.

    Two reads of Firestore as of one time agree. The emulator shows a commit some milliseconds after the time that it
    gives to the commit, so that two reads as of one recent time may differ. So with the emulator this asks for the time
    first and waits a little.

    Args:
        connection: The connection to the database.
        name: The resource name of any document.
        deadline: When the call must have ended.
    """
    await connection.documents(deadline)
    if not connection.is_emulator:
        return None
    asked = monotonic()
    time = await connection.time_of(name, deadline=deadline)
    settles = _EMULATOR_SETTLES + _EMULATOR_SETTLES_AGAIN * (monotonic() - asked)
    await sleep(max(0.0, min(settles, _EMULATOR_SETTLES_AT_MOST, deadline.remaining() / 2)))
    return time


class ReadTime:
    """The server's time of the first read, as of which all further reads are answered.

    So all reads together see one moment. A state that is written between two of them is as before in both, and one that
    moves from the documents of one read to those of another is in exactly one. The clock of this machine does not
    matter.

    Args:
        before_first: Returns the time as of which the first read is to read; None: the server's present. See
            `settled_time`.
    """

    def __init__(self, before_first: Callable[[Deadline], Awaitable[Timestamp | None]]) -> None:
        self._before_first = before_first
        self._time: Timestamp | None = None
        self._good_until: Deadline | None = None
        self._first = asyncio.Lock()

    @property
    def time(self) -> Timestamp | None:
        """The time; None before the first answer."""
        return self._time

    def is_old(self) -> bool:
        """Return whether the first answer came more than five minutes ago."""
        return self._good_until is not None and self._good_until.remaining() <= 0

    async def read(
        self, ask: Callable[[Timestamp | None], Awaitable[tuple[_Answer, Timestamp | None]]], deadline: Deadline
    ) -> _Answer:
        """Return the answer as of this time. Other reads wait for the first one to be answered, and then go at once.

        Args:
            ask: Reads as of a time, or of the present for None, and returns the answer with its time.
            deadline: When the answer must be there.
        """
        async with self._first:
            if self._time is None:
                answer, self._time = await ask(await self._before_first(deadline))
                self._good_until = Deadline.after(_GOOD_FOR)
                return answer
        answer, _ = await ask(self._time)
        return answer


def of_now() -> ReadTime:
    """Return a ReadTime whose first read is of the server's present, also of the emulator's."""
    return ReadTime(_present)


async def _present(_: Deadline) -> None:
    return None
