"""What a write that is ready says of itself: what it expects, and that nothing changes it."""

from __future__ import annotations

import pytest

from firestore_flowstate._commit.pending_write import Part, PendingWrite
from firestore_flowstate._document.head import StatusInputs
from firestore_flowstate._document.version import Absent, Anything, AsRead, Exactly, Expectation, Version
from firestore_flowstate._limits import Moment
from firestore_flowstate._rpc.messages import Precondition, Timestamp, Write

UPDATED = Moment(1_700_000_000, 123_456_000)
VERSION = Version(
    updated=UPDATED, revision="", layout="native", status_inputs=StatusInputs("", blocked=False, executed=False)
)


def pending(expected: Expectation) -> PendingWrite:
    """Return a write with a part, which expects this."""
    write = Write(delete="a/b")
    part = Part(name="a/b/c/d", data=b"data", index=0)
    return PendingWrite(
        id="b", write=write.SerializeToString(), expected=expected, revision="", replaces=True, parts=(part,)
    )


@pytest.mark.parametrize(
    ("expected", "precondition"),
    [
        (Anything(), None),
        (Absent(), Precondition(exists=False)),
        (Exactly(VERSION), Precondition(update_time=Timestamp(seconds=UPDATED.seconds, nanos=UPDATED.nanos))),
        (AsRead(UPDATED), Precondition(update_time=Timestamp(seconds=UPDATED.seconds, nanos=UPDATED.nanos))),
    ],
    ids=["anything", "absent", "exactly", "as read"],
)
def test_the_precondition_follows_from_what_is_expected(
    expected: Expectation, precondition: Precondition | None
) -> None:
    """Firestore checks what the write says that it expects, and nothing else."""
    sent = Write.FromString(pending(expected).conditional_write())

    assert Write(delete="a/b", current_document=precondition) == sent


def test_nothing_changes_a_write_that_is_ready() -> None:
    """It has no list and no message, which somebody could change between two attempts."""
    assert {pending(Absent())} == {pending(Absent())}  # a list or a message has no hash
