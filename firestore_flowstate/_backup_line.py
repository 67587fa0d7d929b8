"""One line of a backup: a flow state under its id, as JSON that reads back exactly.

docs/backup.md has the format. A line can hold every value that a store can: the fields, steps and events of the state
are encoded one by one. As in stores, the objects around a value do not count towards its limit of 200 levels.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any, Final, NamedTuple

from ._document.encoded_state import encode_state, state_from_wire
from ._document.json_text import decode, encode
from ._error_texts import with_flow_id
from ._limits import check_flow_id
from .errors import FlowStateDecodeError, FlowStateEncodeError, shown
from .models import FlowState

VERSION: Final = 1

_SCHEMA: Final = frozenset(FlowState.wire_names.values())

_LINE_ENDS: Final = {0x85: "\\u0085", 0x2028: "\\u2028", 0x2029: "\\u2029"}
"""Characters that end a line for Unicode, and so for `str.splitlines`, but not for JSON.

In JSON text they occur in strings only, so that each can be replaced by its escape.
"""


class Entry(NamedTuple):
    """What a line holds.

    Attributes:
        id: The id that the state is stored under.
        state: The state.
        expire_at: When it expires; None if it does not.
    """

    id: str
    state: FlowState
    expire_at: datetime | None


def to_line(id: str, state: FlowState) -> str:
    r"""Return the line of a flow state, with its "\n". Equal states under equal ids have equal lines.

    Raises:
        FlowStateEncodeError: A value has no JSON form; `path` names it.
    """
    try:
        encoded = encode_state(state)
    except FlowStateEncodeError as error:
        raise with_flow_id(error, id) from error.__cause__
    fields = dict(encoded.fields)
    # Sorted, since documents do not keep the order of the unknown keys.
    unknown = {name: fields.pop(name) for name in sorted(fields.keys() - _SCHEMA)}
    members = {**fields, "cache": _object(encoded.cache), "eventsTriggered": _object(encoded.events), **unknown}
    entry = {"v": b"%d" % VERSION, "id": encode(id, "id"), "state": _object(members)}
    if state.expire_at is not None:
        entry["expireAt"] = encode(state.expire_at.astimezone(timezone.utc).isoformat(), "expire_at")
    return _object(entry).decode().translate(_LINE_ENDS) + "\n"


def from_line(line: str | bytes) -> Entry:
    """Return what a line holds.

    Raises:
        FlowStateDecodeError: The line is damaged, or of a newer version; the text says what is wrong with it.
        InvalidFlowIdError: Nothing can be stored under the id in the line.
    """
    try:
        entry = decode(line)
    except ValueError as error:
        raise FlowStateDecodeError(f"it is not JSON: {error}") from error
    if not isinstance(entry, dict) or not {"v", "id", "state"} <= entry.keys():
        raise FlowStateDecodeError('it is not a flow state of a backup: {"v": 1, "id": ..., "state": {...}}')
    if type(entry["v"]) is not int:  # True and 1.0 are equal to 1
        raise FlowStateDecodeError(f"its version is {shown(entry['v'], 50)}, and a version is a whole number")
    if entry["v"] != VERSION:
        raise FlowStateDecodeError(
            f"it is of version {shown(entry['v'], 50)}; this version of the package reads {VERSION}. "
            "Upgrade the package"
        )
    id = check_flow_id(entry["id"])
    if not isinstance(entry["state"], dict):
        raise FlowStateDecodeError(f"the state of {id!r} is not an object", flow_id=id)
    return Entry(id, state_from_wire(entry["state"], flow_id=id), _moment(entry.get("expireAt"), id))


def _object(members: Mapping[str, bytes]) -> bytes:
    return b"{%s}" % b",".join(b"%s:%s" % (encode(name, "key"), text) for name, text in members.items())


def _moment(text: Any, id: str) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            return moment.astimezone(timezone.utc)
    except (TypeError, ValueError, OverflowError):  # OverflowError: before the year 1 or after 9999 in UTC
        pass
    raise FlowStateDecodeError(f"expireAt of {id!r} is not a time with a time zone: {shown(text)}", flow_id=id)
