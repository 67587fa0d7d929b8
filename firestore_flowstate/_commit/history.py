"""The history of a document: its earlier versions, found by reading it as of a time.

Firestore answers reads as of any time of the past hour: https://firebase.google.com/docs/firestore/pitr. Times here are
whole microseconds of the server's clock, which is how finely Firestore tells versions apart. The clock of this machine
may be wrong, so it is used for durations alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from .._collection.collection import Collection
from .._document.stored_document import StoredDocument
from .._limits import Moment, moment_of
from .._rpc.concurrency import for_each
from .._rpc.deadline import Deadline, monotonic
from .._rpc.messages import Timestamp
from ..errors import BackendError, StoreUnavailableError

_AN_HOUR: Final = 3_600_000_000  # microseconds for which Firestore answers
_STEPS: Final = 50  # versions that are looked at one by one before the history counts as too long
# Versions that are looked at one by one before the time is halved instead. If eight or fewer lie in between, that takes
# two or three reads more than there are versions, while halving a second down to a microsecond takes 20.
_STEPS_BACK: Final = 8
_MARGIN: Final = 2_000  # microseconds by which the clocks of machine and server may differ in speed
_PROBE_GROWTH: Final = 1.2  # times the distance of the probe before from the beginning: 13 probes for a factor of 10
_PROBES_AT_ONCE: Final = 16  # reads


class HistoryEnded(Exception):  # noqa: N818  # an outcome for the caller to judge
    """Firestore cannot tell what was stored then: its history ends too early, or has too many versions since."""


@dataclass(frozen=True, kw_only=True)
class Successor:
    """What came directly on top of a version.

    Attributes:
        version: The version, as it was last.
        document: What came next; None: the document was deleted.
    """

    version: StoredDocument
    document: StoredDocument | None


@dataclass(frozen=True, kw_only=True)
class History:
    """What became of a flow state's document since a write was first sent.

    Attributes:
        collection: The collection.
        id: The flow state.
        deadline: When to give up.
        since: A time that is not later than the first sending, in microseconds since the epoch.
        last_sent: A time that is not later than the last sending, in microseconds since the epoch.
        until: The time of the present, in microseconds since the epoch.
    """

    collection: Collection
    id: str
    deadline: Deadline
    since: int
    last_sent: int
    until: int

    async def successor(
        self, is_version: Callable[[StoredDocument], bool], updated: Moment, present: StoredDocument | None
    ) -> Successor | None:
        """Return what came on top of a version first; None if that was before the first sending.

        Args:
            is_version: Tells whether a document is the version, also as maintenance has packed it anew.
            updated: The update_time of the version as the writer knows it.
            present: The document that is stored now, which is another version; None: there is none.

        Raises:
            HistoryEnded: The history does not reach far enough back.
            BackendError: Firestore could not be asked.
        """
        low = max(self.since, _micros(updated))
        high = self.until if present is None else _micros(present.updated)
        following = present
        version = await self._as_of(low) if low < high else None
        if version is None or not is_version(version):
            return None
        # The version is there at the time `low` and not at the time `high`; in between it ended. Usually not much lies
        # on top of it, so that some steps back from `high` find its end with fewer reads than halving the time.
        steps = 0
        while high - low > 1:
            steps += 1
            middle = high - 1 if following is not None and steps <= _STEPS_BACK else (low + high) // 2
            found = await self._as_of(middle)
            if found is not None and is_version(found):
                low, version = middle, found
            else:
                following = found
                high = middle if found is None else _micros(found.updated)
        return Successor(version=version, document=following)

    async def check_has(self, document: StoredDocument) -> None:
        """Raise HistoryEnded unless Firestore can tell of a document that was read before.

        A server that was given its documents by an import has none of their history, and gives them new create times,
        so that each looks as if it had been deleted and created again.

        Args:
            document: The document, which was read in the past half hour.

        Raises:
            HistoryEnded: The history does not have it.
            BackendError: Firestore could not be asked.
        """
        found = await self._as_of(max(_micros(document.updated), self.until - _AN_HOUR // 2))
        if found is None or found.created_at != document.created_at:
            raise HistoryEnded

    async def last_of(
        self, is_ours: Callable[[StoredDocument], bool], present: StoredDocument | None
    ) -> StoredDocument | None:
        """Return the last version since the first sending that has our write in it; None if none was seen.

        If the document was absent meanwhile, a version that was stored for a very short time only may not be seen.

        Args:
            is_ours: Tells whether a document is such a version.
            present: The document that is stored now; None: there is none.

        Raises:
            HistoryEnded: The history does not reach far enough back.
            BackendError: Firestore could not be asked.
        """
        found, high = present, self.until + 1
        absent: int | None = None
        for _ in range(_STEPS):
            if found is None:
                absent, found = absent or high, await self._before_absence(high)
            high = self.since - 1 if found is None else _micros(found.updated)
            if found is None or high < self.since:
                return None if absent is None else await self._probe(is_ours, absent)
            if is_ours(found):
                return found
            found = await self._as_of(high - 1)
        raise HistoryEnded

    async def _before_absence(self, absent: int) -> StoredDocument | None:
        """Return the version that was deleted before a time of absence; None if there was none at the beginning."""
        low, high = self.since, absent
        found = await self._as_of(low)
        while found is not None and high - low > 1:
            middle = (low + high) // 2
            document = await self._as_of(middle)
            if document is None:
                high = middle
            else:
                found, low = document, middle
        return found

    async def _probe(self, is_ours: Callable[[StoredDocument], bool], absent: int) -> StoredDocument | None:
        """Return a version that is ours, if one is seen at a time between the beginning and a time of absence.

        Most of the times that are tried lie near the first sending, and near the last, since a write arrives soon
        after it was sent. This takes about 40 reads for a second, and 50 for ten, for each of the two. It tells a
        create whose request was lost from one that was stored and then deleted by others. Otherwise the create would
        undo that deletion, or its outcome would be unknown (tests/faults/test_lost_replies.py).
        """
        times = sorted({*_times_after(self.since, absent), *_times_after(self.last_sent, absent)})
        seen = await for_each(times, self._as_of, at_once=_PROBES_AT_ONCE)
        new = (d for d in seen if d is not None and _micros(d.updated) >= self.since)
        return next((document for document in new if is_ours(document)), None)

    async def _as_of(self, micros: int) -> StoredDocument | None:
        read_time = Timestamp(seconds=micros // 1_000_000, nanos=micros % 1_000_000 * 1000)
        try:
            return await self.collection.get(self.id, self.deadline, read_time=read_time)
        except StoreUnavailableError:
            raise
        except BackendError as error:  # the time is too long ago
            raise HistoryEnded from error


async def history_since(
    collection: Collection, id: str, began: float, deadline: Deadline, *, last_sent: float | None = None
) -> History:
    """Return the history of a flow state up to the present.

    Args:
        collection: The collection.
        id: The flow state.
        began: Since when, by `monotonic`.
        deadline: When to give up.
        last_sent: When the write was sent last, by `monotonic`; None: at `began`.

    Raises:
        BackendError: Firestore could not be asked.
    """
    until = _micros(moment_of(await collection.connection.time_of(collection.name(id), deadline=deadline)))
    now = monotonic()

    def before(time: float) -> int:
        return until - math.ceil((now - time) * 1_000_000) - _MARGIN

    since = before(began)
    last = since if last_sent is None else max(since, before(last_sent))
    return History(collection=collection, id=id, deadline=deadline, since=since, last_sent=last, until=until)


def _times_after(micros: int, end: int) -> list[int]:
    """Return times after one and before another, at distances that grow from a millisecond on."""
    first = math.log(1_000, _PROBE_GROWTH)  # a millisecond
    last = math.log(max(end - micros, 1_001), _PROBE_GROWTH)
    times = (micros + round(_PROBE_GROWTH ** (first + i)) for i in range(math.ceil(last - first)))
    return [time for time in times if time < end]


def _micros(moment: Moment) -> int:
    return moment.seconds * 1_000_000 + moment.nanos // 1000
