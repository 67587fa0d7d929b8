"""What a write expects to find in place of what it writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from .._document.moment import Moment
from .._document.version import Version
from .._rpc.messages import Precondition, Timestamp, Write


@dataclass(frozen=True)
class Anything:
    """A flow state, or none: the write replaces or deletes whatever there is."""


@dataclass(frozen=True)
class Absent:
    """No flow state, or one that has expired."""


@dataclass(frozen=True)
class Exactly:
    """One version of the flow state, also if maintenance has packed it anew since.

    Attributes:
        version: The version.
    """

    version: Version


Expectation: TypeAlias = Anything | Absent | Exactly


def expect(write: Write, expected: Expectation) -> Write:
    """Return the write of a root, with the precondition that Firestore is to check."""
    if isinstance(expected, Absent):
        write.current_document.exists = False
    elif isinstance(expected, Exactly):
        write.current_document.CopyFrom(if_updated_at(expected.version.updated))
    return write


def if_updated_at(updated: Moment) -> Precondition:
    """Return the precondition that a document is as of an update_time."""
    return Precondition(update_time=Timestamp(seconds=updated.seconds, nanos=updated.nanos))
