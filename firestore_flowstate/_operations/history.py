"""Looking at earlier versions of a document, within what Firestore retains (an hour, or seven days with PITR).

Source: https://firebase.google.com/docs/firestore/pitr
"""

from __future__ import annotations

import time
from collections.abc import Callable

from .._document.root import moment_of
from .._document.version import Moment
from .._rpc.deadline import Deadline
from .._rpc.messages import Document, Timestamp
from ..errors import BackendError, StoreUnavailableError
from .collection import Collection

_STEPS = 50
_CLOCK_SKEW = 60  # seconds that a server's clock may differ from ours


class Forgotten(Exception):  # noqa: N818  # an outcome for the caller to judge
    """Firestore cannot say any more."""


async def was_stored(
    collection: Collection,
    id: str,
    document: Document | None,
    *,
    ours: Callable[[Document], bool],
    base: Callable[[Document], bool] | None,
    since: Moment | None,
    began: float,
    deadline: Deadline,
) -> bool:
    """Return whether any version before the document was ours, walking back from it.

    Args:
        collection: Where.
        id: The flow state.
        document: What is stored now, which is not ours; None: nothing.
        ours: Tells our version, or one that remembers it.
        base: Tells the version that ours would have replaced; None where it could have been any.
        since: The update_time of that version.
        began: When we first sent ours, by our own clock, in seconds.
        deadline: When to give up.

    Raises:
        Forgotten: The history does not reach far enough back.
        StoreUnavailableError: Firestore could not be reached.
    """
    seen = document
    before = _now() if seen is None else moment_of(seen.update_time)
    for _ in range(_STEPS):
        if base is None and before.seconds < began - _CLOCK_SKEW:
            return False  # everything since we began has been looked at
        earlier = await _as_of(collection, id, before.just_before(), deadline)
        if earlier is None:
            if since is None:
                return False
            earlier = await _before_deletion(collection, id, since, before, deadline)
        if ours(earlier):
            return True
        if base is not None and base(earlier):
            return False  # what came next on our base was another's
        before = moment_of(earlier.update_time)
    raise Forgotten


async def _before_deletion(
    collection: Collection, id: str, there: Moment, absent: Moment, deadline: Deadline
) -> Document:
    """Return the last version before a deletion, known to be there at one time and absent just before another."""
    low, high = _micros(there), _micros(absent) - 1
    found = await _as_of(collection, id, _moment(low), deadline)
    while found is not None and high - low > 1:
        middle = (low + high) // 2
        document = await _as_of(collection, id, _moment(middle), deadline)
        if document is None:
            high = middle
        else:
            found, low = document, middle
    if found is None:
        raise Forgotten
    return found


async def _as_of(collection: Collection, id: str, moment: Moment, deadline: Deadline) -> Document | None:
    at = Timestamp(seconds=moment.seconds, nanos=moment.nanos)
    try:
        return await collection.get(id, deadline, read_time=at)
    except StoreUnavailableError:
        raise
    except BackendError as error:  # too long ago
        raise Forgotten from error


def _now() -> Moment:
    nanos = time.time_ns()
    return Moment(nanos // 1_000_000_000, nanos % 1_000_000_000)


def _micros(moment: Moment) -> int:
    return moment.seconds * 1_000_000 + moment.nanos // 1000


def _moment(micros: int) -> Moment:
    return Moment(micros // 1_000_000, micros % 1_000_000 * 1000)
