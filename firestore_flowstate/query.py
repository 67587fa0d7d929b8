"""What a caller asks of a list: filters, the size of a page, and where to go on."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal, get_args

from ._error_texts import NOT_UTF8, in_extra, method_fails
from ._limits import (
    EPOCH,
    MAX_NAME_BYTES,
    MAX_PATH_BYTES,
    MAX_QUERIED_BYTES,
    exact,
    is_int64,
    is_reserved,
    is_utf8,
    utf8_bytes,
)
from ._own_fields import OWN_NAMES, SUMMARY_EXTRA
from .errors import FlowStateEncodeError, InvalidQueryError, shown
from .models import FlowStatus
from .unset import Unset

MAX_LIMIT: Final = 300  # states: a page of whole states is held in memory, and each may have a megabyte and more
MAX_KEY_BYTES: Final = MAX_NAME_BYTES - len(SUMMARY_EXTRA)
_STATUSES: Final = get_args(FlowStatus)
_SCALARS: Final = frozenset(
    {"limit", "continuation_token", "name", "status", "blocked_on", "started_after", "started_before", "on_error"}
)


@dataclass(frozen=True, kw_only=True)
class FlowStateQuery:
    """Which flow states to list, newest start first, ties by id descending. All filters must hold.

    ::

        query = FlowStateQuery(status=["running", "blocked"], where={"owner": "me"}, limit=50)

    Attributes:
        limit: States a page, 1 to 300; None: the store's page size.
        continuation_token: Where the page before ended, as its response gave it. Bound to the collection and
            the filters it was given for.
        name: The name of the flow. Each text in a filter has at most 1,499 bytes of UTF-8, since Firestore's indexes
            hold no more.
        status: What the flow does now: one status, or several of which the flow has one. Several are kept without
            repetitions, in the order of FlowStatus. Native documents without ``operation.done`` are not found by any
            status: `flowstate doctor` names them.
        blocked_on: The name of the step that the flow waits for.
        started_after: The earliest start, inclusive: a datetime with a time zone, or milliseconds since the epoch.
        started_before: The end of the starts, exclusive: a datetime with a time zone, or milliseconds since the epoch.
        where: Unknown keys of the state with the scalar each must equal, such as ``{"owner": uid}``. Fields of the
            schema are not unknown keys. A key has at most 1,486 bytes.
        on_error: What to do about a document that cannot be read: "raise" FlowStateDecodeError, which carries
            the page, or "skip" it and name it in the response.

    Raises:
        InvalidQueryError: A value that no query can have.
    """

    limit: int | None = None
    continuation_token: str | None = None
    name: str | None = None
    status: FlowStatus | Collection[FlowStatus] | None = None
    blocked_on: str | None = None
    started_after: datetime | int | float | None = None
    started_before: datetime | int | float | None = None
    where: Mapping[str, str | int | bool] = field(default_factory=dict)
    on_error: Literal["raise", "skip"] = "raise"

    def __post_init__(self) -> None:
        # First, so that a check looks at what is asked for: the texts of an enumeration may measure otherwise.
        for label in _SCALARS:
            object.__setattr__(self, label, exact(getattr(self, label)))
        check_limit(self.limit)
        if self.continuation_token is not None:
            _check_text("continuation_token", self.continuation_token)
        for label in ("name", "blocked_on"):
            value = getattr(self, label)
            if value is not None:
                _check_asked(label, value)
        with _taking("status", self.status):
            object.__setattr__(self, "status", _one_or_several(self.status))
        on_error: object = self.on_error
        if not isinstance(on_error, str) or on_error not in ("raise", "skip"):
            raise InvalidQueryError(f"on_error is 'raise' or 'skip', not {shown(self.on_error)}")
        check_moment("started_after", self.started_after)
        check_moment("started_before", self.started_before)
        with _taking("where", self.where):
            object.__setattr__(self, "where", _checked_where(self.where))


def statuses(query: FlowStateQuery) -> tuple[FlowStatus, ...] | None:
    """Return the statuses that the query asks for; None: any."""
    if query.status is None:
        return None
    return (query.status,) if isinstance(query.status, str) else tuple(query.status)


def query_or_all(query: FlowStateQuery | None) -> FlowStateQuery:
    """Return the query, or one for all states if it is None; raise InvalidQueryError if it is not a query."""
    if query is None:
        return FlowStateQuery()
    if not isinstance(query, FlowStateQuery):
        raise InvalidQueryError(f"query is a FlowStateQuery, not {type(query).__name__}: {shown(query)}")
    return query


def first_page_or_all(query: FlowStateQuery | None) -> FlowStateQuery:
    """Return the query as `query_or_all` does; raise InvalidQueryError if it has a continuation token."""
    asked = query_or_all(query)
    if asked.continuation_token is not None:
        raise InvalidQueryError("only the first page can be watched: leave continuation_token out")
    return asked


def check_limit(limit: int | None, *, more: str = "follow continuation_token or use iterate()") -> None:
    """Raise InvalidQueryError unless the limit is None or 1 to 300. For others it says `more`: how to get more."""
    if limit is None:
        return
    if isinstance(limit, bool) or not isinstance(limit, int):
        raise InvalidQueryError(f"limit is a whole number from 1 to {MAX_LIMIT}, not {shown(limit)}")
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidQueryError(f"limit is a whole number from 1 to {MAX_LIMIT}, not {shown(limit)}; for more, {more}")


def milliseconds(moment: datetime | float) -> int | float:
    """Return the moment in milliseconds since the epoch; exact for a datetime's whole milliseconds."""
    if not isinstance(moment, datetime):
        return moment
    since = moment - EPOCH  # whole numbers: timestamp() is a float, some microseconds off for times centuries away
    micros = (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
    return micros // 1000 if micros % 1000 == 0 else micros / 1000


def is_queryable_name(key: str) -> bool:
    """Return whether an unknown key of this name can be a field of the document's own."""
    if not key or key in OWN_NAMES or is_reserved(key):
        return False
    size = utf8_bytes(key)
    return size is not None and size <= MAX_KEY_BYTES


def is_queryable_value(value: object) -> bool:
    """Return whether queries can ask for the value: a scalar that Firestore's indexes hold whole."""
    if isinstance(value, str):
        size = utf8_bytes(value)
        return size is not None and size <= MAX_QUERIED_BYTES
    return isinstance(value, (bool, float)) or (isinstance(value, int) and is_int64(value))


def check_extra(key: object, value: object) -> None:
    """Raise FlowStateEncodeError unless an update can set the unknown key by itself; UNSET stands for its removal."""
    key, path = exact(key), in_extra(key)
    if not isinstance(key, str):
        raise FlowStateEncodeError(f"Cannot store {path}: {shown(key)} is not a string.", path=path)
    if key in OWN_NAMES:
        raise FlowStateEncodeError(
            f"Cannot store {path}: a document has a field of its own under that name. save() and edit() take such a "
            "key of the state, if it is one.",
            path=path,
        )
    if not is_queryable_name(key) or len(f"{SUMMARY_EXTRA}{key}".encode()) > MAX_PATH_BYTES:
        raise FlowStateEncodeError(
            f"Cannot store {path}: no field of a document that is set by itself can have that name: it is empty, "
            f"reserved or too long, or {NOT_UTF8}. save() and edit() take any key.",
            path=path,
        )
    if not isinstance(value, Unset) and not is_queryable_value(value):
        raise FlowStateEncodeError(
            f"Cannot store {path}: {shown(value)} is not a bool, a number of 64 bits or a string of at most "
            f"{MAX_QUERIED_BYTES:,} bytes of UTF-8, which is all that can be set by itself. save() and edit() take any "
            "value.",
            path=path,
        )


@contextmanager
def _taking(label: str, value: object) -> Iterator[None]:
    """Raise InvalidQueryError, with its cause, for what a method of an application's own type raises in the block."""
    try:
        yield
    except InvalidQueryError:
        raise
    except Exception as error:
        raise InvalidQueryError(f"{label} is {method_fails(value, error)}") from error


def _one_or_several(status: object) -> FlowStatus | tuple[FlowStatus, ...] | None:
    """Return what a query keeps of a status: a single one is not a tuple, so that equal filters make equal queries."""
    if status is None:
        return None
    given = [status] if isinstance(status, str) or not isinstance(status, Collection) else [*status]
    if not given:
        raise InvalidQueryError("status is empty, and no flow has no status: leave it None for all flows")
    if wrong := [one for one in given if one not in _STATUSES]:
        raise InvalidQueryError(f"status is one or several of {', '.join(_STATUSES)}, not {shown(wrong[0])}")
    found: tuple[FlowStatus, ...] = tuple(one for one in _STATUSES if one in given)
    return found[0] if len(found) == 1 else found


def _check_text(label: str, value: object) -> None:
    if not isinstance(value, str):
        raise InvalidQueryError(f"{label} is a string, not {type(value).__name__}: {shown(value)}")
    if not is_utf8(value):
        raise InvalidQueryError(f"{label} {NOT_UTF8}")


def _check_asked(label: str, value: str) -> None:
    _check_text(label, value)
    size = utf8_bytes(value) or 0
    if size > MAX_QUERIED_BYTES:
        raise InvalidQueryError(
            f"{label} has {size:,} bytes of UTF-8; Firestore's indexes hold no more than {MAX_QUERIED_BYTES:,}"
        )


def check_moment(label: str, value: object) -> None:
    """Raise InvalidQueryError unless the value is None or a moment: a datetime with a zone, or milliseconds."""
    if value is None:
        return
    if isinstance(value, datetime):
        with _taking(label, value):
            if value.utcoffset() is None:
                raise InvalidQueryError(f"{label} needs a time zone: {shown(value)} is another moment in each")
            milliseconds(value)
    elif isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidQueryError(f"{label} is a datetime or milliseconds, not {type(value).__name__}: {shown(value)}")
    elif (isinstance(value, float) and not math.isfinite(value)) or (isinstance(value, int) and not is_int64(value)):
        raise InvalidQueryError(f"{label} is not a moment: {shown(value)}")


def _checked_where(where: object) -> dict[str, str | int | bool]:
    if not isinstance(where, Mapping):
        raise InvalidQueryError(f"where maps keys to scalars, not {type(where).__name__}")
    asked: dict[str, str | int | bool] = {}
    for key, value in ((exact(key), exact(value)) for key, value in where.items()):
        _check_text("a key of where", key)
        if not is_queryable_name(key):
            raise InvalidQueryError(
                f"where has the key {key!r:.100}, under which no unknown key of a state is kept: empty, reserved, "
                "too long, or a field of the schema, some of which have filters of their own"
            )
        if isinstance(value, str):
            _check_asked(f"where[{key!r:.100}]", value)
        elif not isinstance(value, int) or not is_int64(value):
            raise InvalidQueryError(
                f"where[{key!r:.100}] is a string, a whole number of 64 bits or a bool, not {shown(value)}"
            )
        asked[key] = value
    return asked
