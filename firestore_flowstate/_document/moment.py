"""Times of the server, exact to the nanosecond, as versions need them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any, Final, NamedTuple

EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)
SECONDS: Final = range(-62_135_596_800, 253_402_300_800)  # since then, of the years 1 to 9999: a Timestamp's
NANOS: Final = range(1_000_000_000)


class Moment(NamedTuple):
    """A time of the server, exact to the nanosecond."""

    seconds: int
    nanos: int

    def as_datetime(self) -> datetime:
        """Return the moment in UTC, cut to microseconds."""
        return EPOCH + timedelta(seconds=self.seconds, microseconds=self.nanos // 1000)

    def just_before(self) -> Moment:
        """Return the moment one microsecond earlier, which is how finely Firestore tells versions apart."""
        nanos = self.nanos - 1000
        return Moment(self.seconds, nanos) if nanos >= 0 else Moment(self.seconds - 1, nanos + len(NANOS))


def moment_of(timestamp: Any) -> Moment:
    """Return a protobuf Timestamp as a Moment."""
    return Moment(timestamp.seconds, timestamp.nanos)
