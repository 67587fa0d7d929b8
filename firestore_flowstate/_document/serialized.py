"""The serialized layout: a readable head, every value as packed JSON, the cache and events as a log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar, Final, get_args

from .._error_texts import in_cache, in_events
from .._limits import MAX_DOCUMENT_BYTES, document_size, new_id, size_at_most, value_size
from .._own_fields import HEAD_FIELDS, NATIVE_FIELDS, PAYLOAD
from .._rpc.messages import Document, Value
from ..errors import FlowStateDecodeError, FlowStateEncodeError, FlowStateTooLargeError
from ..models import FlowState, FlowStatus
from .encoded_state import (
    check_storable,
    encode_cache,
    encode_events,
    encode_state,
    state_from_wire,
)
from .head import (
    EXPIRY,
    Reason,
    Shown,
    check_head,
    expire_after_in,
    is_queryable,
    queryable,
    write_blocked,
    write_expiry,
    write_extra,
    write_number,
    write_summary,
)
from .json_forms import plain
from .json_text import AROUND, encode
from .log import merge_unpacked, packed_values
from .native_values import NUMBER, ReferenceOf, field_of, map_field, read_value, required_field
from .payload import DocumentContext, Payloads
from .root import VERSION
from .serialized_update import pack_update, write_update
from .stored_document import LayoutName, StoredDocument
from .stored_values import (
    ROOT_BYTES,
    PartRef,
    Segment,
    Spill,
    Stored,
    bytes_of,
    largest_field,
    too_many_parts,
    write_log,
    write_stored,
)
from .version import Absent, Exactly, Expectation, Written, revisions_to_remember
from .wire import cache_to_wire, executions_to_wire, to_wire, values_by_path

_NOT_UNKNOWN: Final = frozenset(FlowState.wire_names.values()) - {"name"}  # extra has "name" if the name is null
_PATHS: Final = {"flowId": "flow_id", "blockedOnStep": "blocked_on_step.name"}
_BOUNDED: Final = frozenset({PAYLOAD, "summary"})  # by ROOT_BYTES, and by the unknown keys that the summary repeats
_STATUSES: Final = get_args(FlowStatus)
_ENCRYPTED: Final = frozenset({"map_value", "array_value", "null_value"})  # unknown keys that the head never holds
_PLAIN: Final = frozenset({str, int, float, bool, dict, list, type(None)})
_AROUND_VALUES: Final = 4096  # bytes: more than a payload of one segment has beside its values (names, references, ids)


class SerializedLayout:
    """The serialized layout; `layouts.Layout` says what each method does."""

    name: ClassVar[LayoutName] = "serialized"
    packs_values: ClassVar = True
    has_log: ClassVar = True
    has_head: ClassVar = True
    is_genkits: ClassVar = False

    encode = staticmethod(encode_state)
    pack_update = staticmethod(pack_update)
    write_update = staticmethod(write_update)

    def check_readable(self, payloads: Payloads) -> None:
        """Do nothing: whether a value is encrypted is seen when it is unpacked."""

    def read_state(
        self,
        document: StoredDocument,
        resolved: Mapping[str, bytes],
        context: DocumentContext,
        reference_of: ReferenceOf,
    ) -> FlowState:
        """Return the state of a root and its parts.

        `reference_of` makes the DocumentReferences of values that others have put into the head.
        """
        root = document.read_root()
        wire: dict[str, Any] = {
            name: read_value(value, reference_of)
            for name, value in root.head.items()
            if name not in HEAD_FIELDS or name in ("flowId", "name", "startTime")
        }
        if context.payloads.require_encryption:
            _refuse_clear_values(root.head)
        if clash := NATIVE_FIELDS & wire.keys():
            raise FlowStateDecodeError(
                f"it has both {', '.join(sorted(clash))} and {PAYLOAD}: two writers mixed layouts"
            )
        packed = [(name, bytes_of(stored, resolved)) for name, stored in root.values.items()]
        unpacked = context.unpack_each(packed + packed_values(root.unique_log, resolved))
        values = {name: next(unpacked) for name in root.values}
        extra = values.pop("extra", {})
        if not isinstance(extra, dict):
            raise FlowStateDecodeError("extra is not an object")
        if taken := _NOT_UNKNOWN & extra.keys():
            raise FlowStateDecodeError(f"extra has {', '.join(sorted(taken))}, which have a place of their own")
        merged = merge_unpacked(root.unique_log, unpacked)
        # For an unknown key in both the head wins: a partial write sets the key there, and leaves the payload as it is.
        wire = {**extra, **wire, **values, "cache": merged.set, "eventsTriggered": merged.events}
        return state_from_wire(wire, flow_id=document.id)

    def write_state(
        self,
        document: Document,
        state: FlowState,
        context: DocumentContext,
        *,
        expected: Expectation,
        expire_at: datetime | None,
    ) -> Written:
        """Fill a document with a state, its log in one segment. Values that are too large for it are left to parts.

        Args:
            document: The document to fill. Its name is not set here.
            state: What to store.
            context: The context of the document.
            expected: What the write expects to replace. If that is a version, the document remembers its revisions.
            expire_at: When the state expires; None: it does not.

        Raises:
            FlowStateEncodeError: A value cannot be stored.
            FlowStateTooLargeError: The state cannot be stored; nothing was sent.
        """
        head, shown, extra = _write_head(document, state, context)
        try:
            texts = {name: encode(value, name, around=AROUND) for name, value in _values_wire(state).items()}
            if state.has("input"):
                texts["input"] = encode(state.input, "input")
            if extra:
                texts["extra"] = encode(extra, "extra", around=1)
            set_text = encode(cache_to_wire(state.cache), "cache", around=2)
            events_text = encode(dict(state.events_triggered), "events_triggered", around=1)
        except FlowStateEncodeError:
            check_storable(values_by_path(state))
            raise
        write_expiry(head, expire_at)
        write_summary(
            head,
            steps=len(state.cache),
            size=_size(state, {**texts, "cache": set_text, "eventsTriggered": events_text}, shown),
            executions=state.executions,
            operation=state.operation,
            encrypted=context.payloads.keyring is not None,
        )
        id = new_id()
        base = expected.version if isinstance(expected, Exactly) else None
        head_bytes = size_at_most(context.path, document)
        spill = Spill(room=ROOT_BYTES - head_bytes)
        values: dict[str, Stored] = {name: context.pack(text, name) for name, text in texts.items()}
        if state.cache:
            values["log.set"] = context.pack(set_text, f"log.{id}.set")
        if state.events_triggered:
            values["log.events"] = context.pack(events_text, f"log.{id}.events")
        value_bytes = sum([len(stored) for stored in values.values() if isinstance(stored, bytes)])
        if value_bytes > spill.room:
            values = spill.move_largest(values)
            if spill.count > context.most_parts:
                raise too_many_parts(spill.count, most=context.most_parts, path=_largest_path(values, state))
        segment = Segment(
            id=id,
            set=values.pop("log.set", None),
            events=values.pop("log.events", None),
            ids=revisions_to_remember(state, base),
        )
        created = id if isinstance(expected, Absent) else None if base is None else base.created
        payload = head["_flowstate"].map_value.fields
        write_payload(payload, values, [segment], parts=spill.count, created=created)
        if head_bytes + min(value_bytes, ROOT_BYTES) + _AROUND_VALUES > MAX_DOCUMENT_BYTES:
            _check_size(context.path, head)
        return Written(
            layout="serialized",
            expire_at=expire_at,
            expire_after=expire_after_in(head),
            revision=id,
            weight=segment.weight(),
            parts=spill.moved,
            created=created,
            has_extra="extra" in values,
        )

    def check_size(self, path: str, fields: Mapping[str, Value]) -> None:
        """Raise FlowStateTooLargeError if fields are more than a document may have."""
        _check_size(path, fields)

    def has_made(
        self, document: Document, mask: Sequence[str] | None, stored: StoredDocument, base: StoredDocument | None
    ) -> bool:
        """Return False: a document tells by its revisions who has made it."""
        return False

    def read_shown(self, document: StoredDocument) -> Shown:
        """Return what the head shows in a summary."""
        fields = document.fields
        summary = map_field(fields, "summary")
        return Shown(
            status=_status(fields),
            step_count=max(0, field_of(summary, "steps", "integer_value") or 0),  # below 0: removed what was not there
            size_bytes=max(0, field_of(summary, "bytes", "integer_value") or 0),  # below 0: another writer's number
            last_end_time=field_of(summary, "lastEnd", *NUMBER),
            error_line=field_of(summary, "errorLine", "string_value"),
            extra=map_field(summary, "extra"),
        )

    def hidden_by_shard(self, document: StoredDocument, shards: int) -> Reason | None:
        """Return why lists over several shards do not show the document; None if they do."""
        fields = document.fields
        if "shard" not in fields or fields["shard"].WhichOneof("value_type") != "integer_value":
            return (
                "hidden",
                f"shard is missing or is not an integer, so no list over {shards} shards shows it. Save it again.",
            )
        number = fields["shard"].integer_value
        if 0 <= number < shards:
            return None
        return "hidden", f"It is in shard {number}, which no list over {shards} shards asks. Migrate, or raise shards."

    def contradictions(self, document: StoredDocument, state: FlowState) -> Iterator[str]:
        """Yield a message for each field of the head that differs from the state. Filters go by the head."""
        fields = document.fields
        if EXPIRY in fields and document.expire_at is None:
            yield "expireAt is not a timestamp, so that the state never expires. Save it again."
        status = fields["status"].string_value if "status" in fields else None
        if status != state.status:
            told = f"says {status!r}" if status in get_args(FlowStatus) else "is missing, or is not one"
            yield f"status {told}, and the flow is {state.status}: filters go by the head. Save it again."
        blocked = fields["blockedOnStep"].map_value.fields if "blockedOnStep" in fields else {}
        name = blocked["name"].string_value if "name" in blocked else None
        if name != (None if state.blocked_on_step is None else state.blocked_on_step.name):
            yield f"blockedOnStep says {name!r}, which is not the step that the flow waits for. Save it again."


def _refuse_clear_values(head: Mapping[str, Value]) -> None:
    """Raise FlowStateDecodeError if the head has a value that is to be encrypted.

    Only somebody else can have put it there. Its key stands for the same key in the payload, and would hide that value.
    """
    for name, value in head.items():
        if name not in HEAD_FIELDS and (
            value.WhichOneof("value_type") in _ENCRYPTED
            or not is_queryable(name, value.string_value)  # "" if it is of another type, which every name can have
        ):
            raise FlowStateDecodeError(
                f"{name} is not encrypted, and the settings require encryption of objects, arrays, null and long texts"
            )


def _status(fields: Mapping[str, Value]) -> FlowStatus:
    status: FlowStatus = required_field(fields, "status", "string_value")
    if status not in _STATUSES:
        raise FlowStateDecodeError(f"its status is {status!r:.80}")
    return status


def _values_wire(state: FlowState) -> dict[str, Any]:
    """Return the payload values but for the input and unknown keys."""
    blocked = state.blocked_on_step
    wire: dict[str, Any] = {
        "operation": to_wire(state.operation),
        "executions": executions_to_wire(state.executions),
        "blockedOnStep": None if blocked is None else to_wire(blocked),
    }
    if state.has("trace_context"):
        wire["traceContext"] = state.trace_context
    return wire


def _write_head(
    document: Document, state: FlowState, context: DocumentContext
) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """Fill the head; return its fields, its unknown keys, and those that only the payload can hold, as a null name."""
    check_head(state)
    head = document.fields
    shown, extra = _unknown(state.__pydantic_extra__) if state.__pydantic_extra__ else ({}, {})
    head["flowId"].string_value = state.flow_id
    if state.name is not None:
        head["name"].string_value = state.name
    elif state.has("name"):
        extra["name"] = None
    write_number(head["startTime"], state.start_time)
    head["status"].string_value = state.status
    write_blocked(head, state.blocked_on_step)
    head["shard"].integer_value = context.shard
    write_extra(head, shown)
    return head, shown, extra


def _size(state: FlowState, texts: Mapping[str, bytes], shown: Mapping[str, Any]) -> int:
    """Return how many bytes the state has as one JSON object, as `EncodedState.size` counts them.

    Args:
        state: The state.
        texts: The JSON of its payload values, of all steps and of all events.
        shown: The unknown keys in its head.
    """
    in_head = {"flowId": state.flow_id, "startTime": state.start_time, **shown}
    if state.name is not None:
        in_head["name"] = state.name
    size = len(encode(in_head, ""))
    for name, text in texts.items():  # for the name with its quotes, a colon and a comma; for other braces a comma
        size += len(text) - 1 if name == "extra" else len(name) + len(text) + len('"":,')
    return size


def _largest_path(values: Mapping[str, Stored], state: FlowState) -> str:
    """Return the path of the largest value in parts: of a step or event, if it is all of them together."""
    refs = {name: stored for name, stored in values.items() if isinstance(stored, PartRef)}
    largest = max(refs, key=lambda name: refs[name].bytes)
    if largest == "log.set":
        steps = encode_cache(state.cache)
        return in_cache(max(steps, key=lambda step: len(steps[step])))
    if largest == "log.events":
        events = encode_events(state.events_triggered)
        return in_events(max(events, key=lambda step: len(events[step])))
    return largest_field([refs[largest]])


def _unknown(unknown: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the unknown keys that the head can hold, and the others."""
    values = {key: value if type(value) in _PLAIN else plain(value, key) for key, value in unknown.items()}
    shown = queryable(values)
    return shown, {key: value for key, value in values.items() if key not in shown}


def _check_size(path: str, fields: Any) -> None:
    size = document_size(path, fields)
    if size <= MAX_DOCUMENT_BYTES:
        return
    sizes = {_PATHS.get(name, name): value_size(value) for name, value in fields.items() if name not in _BOUNDED}
    largest = max(sizes, key=sizes.__getitem__)
    raise FlowStateTooLargeError(
        f"The flow state takes {size:,} bytes in its document, more than Firestore's {MAX_DOCUMENT_BYTES:,}, and what "
        "takes them cannot be moved to parts: the scalar unknown keys, flow id, name and name of the blocked step. "
        f"Make these smaller; the largest is {largest} with {sizes[largest]:,}.",
        path=largest,
        size=size,
        limit=MAX_DOCUMENT_BYTES,
    )


def write_payload(
    fields: Any, values: Mapping[str, Stored], log: Sequence[Segment], *, parts: int, created: str | None
) -> None:
    """Fill the fields of the payload map of a new root."""
    fields["v"].integer_value = VERSION
    for name, stored in values.items():
        write_stored(fields[name], stored)
    write_log(fields, log)
    fields["parts"].integer_value = parts
    if created is not None:
        fields["created"].string_value = created
