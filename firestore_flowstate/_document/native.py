"""The native layout: the fields of a document are the fields of the state, as Genkit JS writes and reads them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar, Final

from .._error_texts import in_cache, in_events, in_extra, in_model
from .._limits import MAX_DOCUMENT_BYTES, MAX_PATH_BYTES, document_size, quoted, value_size
from .._rpc.messages import Document, Value
from ..errors import FlowStateEncodeError, FlowStateTooLargeError
from ..models import FlowState, WireModel
from ..unset import Unset
from .difference import Change
from .encoded_state import EncodedState, check_storable, state_from_wire
from .head import EXPIRY, Reason, Shown, StatusInputs, expire_after_in, first_line, owns_expiry, write_expiry
from .native_values import (
    NUMBER,
    ReferenceOf,
    check_key,
    down_to,
    field_of,
    in_order,
    map_field,
    read_value,
    required_field,
    same_fields,
    write_value,
)
from .payload import NATIVE_IN_THE_CLEAR, DocumentContext, Payloads
from .stored_document import LayoutName, StoredDocument
from .update import Update, changed_fields
from .version import Expectation, Written
from .wire import to_wire, values_by_path

_PATHS: Final = {"cache": in_cache, "eventsTriggered": in_events}
_NAMES: Final = {alias: name for name, alias in FlowState.wire_names.items()}


class NativeLayout:
    """The native layout; `layouts.Layout` says what each method does."""

    name: ClassVar[LayoutName] = "native"
    packs_values: ClassVar = False
    has_log: ClassVar = False
    has_head: ClassVar = False
    is_genkits: ClassVar = True

    def check_readable(self, payloads: Payloads) -> None:
        """Raise FlowStateDecodeError if the settings require encryption."""
        payloads.check_native()

    def read_state(
        self,
        document: StoredDocument,
        resolved: Mapping[str, bytes],
        context: DocumentContext,
        reference_of: ReferenceOf,
    ) -> FlowState:
        """Return the state of a document."""
        return read_native(document.message, flow_id=document.id, reference_of=reference_of)

    def encode(self, state: FlowState) -> EncodedState:
        """Return the state, encoded as Firestore keeps it.

        So a time differs from its text, which JSON does not tell apart.

        Raises:
            FlowStateEncodeError: Firestore cannot hold a value.
        """
        document = Document()
        write_native(document.fields, state)
        stored = {name: value.SerializeToString(deterministic=True) for name, value in document.fields.items()}
        del stored["cache"], stored["eventsTriggered"]
        cache, events = (document.fields[name].map_value.fields for name in ("cache", "eventsTriggered"))
        return EncodedState(
            fields=stored,
            cache={step: cache[step].SerializeToString(deterministic=True) for step in state.cache},
            events={step: events[step].SerializeToString(deterministic=True) for step in state.events_triggered},
        )

    def write_state(
        self,
        document: Document,
        state: FlowState,
        context: DocumentContext,
        *,
        expected: Expectation,
        expire_at: datetime | None,
    ) -> Written:
        """Fill a document with a state and its expiry, unless the state has a key ``expireAt``."""
        _check_may_be_plain(context.payloads)
        write_native(document.fields, state)
        has_own = owns_expiry(document.fields)
        if has_own:
            expire_at = None
        write_expiry(document.fields, expire_at)
        _check_size(context.path, document.fields)
        return Written(
            layout="native", expire_at=expire_at, owns_expiry=has_own, expire_after=expire_after_in(document.fields)
        )

    def pack_update(self, change: Change, context: DocumentContext) -> Update:
        """Return what a change names. Its values are written as they are, and nothing is packed."""
        _check_may_be_plain(context.payloads)
        head = Document()
        return Update(change=change, context=context, mask=write_change(head, change), head=head)

    def write_update(
        self, document: Document, update: Update, base: StatusInputs, expire_at: datetime | Unset | None
    ) -> list[str]:
        """Fill a document with what an update names and with the expiry; return the mask."""
        document.MergeFrom(update.head)
        mask = list(update.mask)
        if not isinstance(expire_at, Unset):
            write_expiry(document.fields, expire_at)
            mask.append(EXPIRY)
        # If the fields of the write alone are too large, the document would be too.
        _check_size(update.context.path, document.fields)
        return mask

    def check_size(self, path: str, fields: Mapping[str, Value]) -> None:
        """Raise FlowStateTooLargeError if fields are more than a document may have."""
        _check_size(path, fields)

    def has_made(
        self, document: Document, mask: Sequence[str] | None, stored: StoredDocument, base: StoredDocument | None
    ) -> bool:
        """Return whether a write has made the stored document. Native documents have no revision to tell by."""
        if mask is None:
            return same_fields(stored.fields, document.fields)
        return base is not None and same_fields(stored.fields, changed_fields(base.fields, document.fields, mask))

    def read_shown(self, document: StoredDocument) -> Shown:
        """Return what a summary shows. There is no count of steps and bytes."""
        fields = document.fields
        required_field(map_field(fields, "operation"), "name", "string_value")
        error = field_of(map_field(map_field(fields, "operation"), "result"), "error", "string_value")
        return Shown(
            status=document.native_status,
            last_end_time=_last_end_time(fields),
            error_line=None if error is None else first_line(error),
        )

    def hidden_by_shard(self, document: StoredDocument, shards: int) -> Reason | None:
        """Return why lists over several shards do not show the document: it has no shard."""
        return (
            "native",
            f"A native document, which carries no shard: no list over {shards} shards shows it. Migrate it.",
        )

    def contradictions(self, document: StoredDocument, state: FlowState) -> Iterator[str]:
        """Yield a message if filters by status cannot find the document."""
        if "done" not in map_field(document.fields, "operation"):
            yield (
                "operation.done is missing, by which filters by status find native documents: this one is in no such "
                f"list, and the flow is {state.status}. Save it again."
            )


def _check_may_be_plain(payloads: Payloads) -> None:
    """Raise FlowStateEncodeError if the settings require encryption, which native documents do not have."""
    if payloads.require_encryption:
        raise FlowStateEncodeError(f"Nothing was written: {NATIVE_IN_THE_CLEAR}.")


def read_native(document: Document, *, flow_id: str, reference_of: ReferenceOf) -> FlowState:
    """Return the flow state of a native document, also of one that Genkit JS has written and cannot read.

    Raises:
        FlowStateDecodeError: It does not match Genkit's schema.
    """
    own = document.fields.keys() - (set() if owns_expiry(document.fields) else {EXPIRY})
    wire = {name: read_value(value, reference_of) for name, value in in_order(document.fields) if name in own}
    # Genkit's client drops a map whose entries are all undefined.
    wire.setdefault("cache", {})
    wire.setdefault("eventsTriggered", {})
    return state_from_wire(wire, flow_id=flow_id)


def write_native(fields: Any, state: FlowState) -> None:
    """Fill the fields of a document. Optional fields that are null are left out: Genkit refuses null there.

    Raises:
        FlowStateEncodeError: Firestore cannot hold a value; `path` names it, and the text says how else to store it.
    """
    try:
        _write_native(fields, state)
    except FlowStateEncodeError:
        check_storable(values_by_path(state))  # if no layout can hold the value, the error is to say that
        raise


def _write_native(fields: Any, state: FlowState) -> None:
    wire = _without_nulls(state)
    del wire["cache"]
    fields["cache"].map_value.SetInParent()
    for step, entry in state.cache.items():
        path = in_cache(step)
        names = down_to(check_key(step, path), path, len("cache"))
        _write(fields["cache"].map_value.fields[step], _entry_wire(entry), path, depth=1, names=names)
    wire["executions"] = [_without_nulls(execution) for execution in state.executions]
    wire["operation"] = operation_wire(state.operation)
    if state.blocked_on_step is not None:
        wire["blockedOnStep"] = _without_nulls(state.blocked_on_step)
    for name, value in wire.items():
        path = _NAMES.get(name, name)
        _write(fields[check_key(name, path)], value, path, names=len(name.encode()))
        if name == "_flowstate" or (name == EXPIRY and not owns_expiry(fields)):
            raise FlowStateEncodeError(
                f"Cannot store the key {name!r} in the native layout: the store keeps something of its own under it. "
                "Choose another key, or the serialized layout.",
                path=name,
            )


class _Wire(dict[str, Any]):
    """The wire form of a model.

    Attributes:
        names: The Python name of each field whose wire name is another one, by that one. So the paths in errors are
            those that an application writes, as in the other layouts.
    """

    def __init__(self, members: Iterable[tuple[str, Any]], model: WireModel) -> None:
        super().__init__(members)
        self.names = model._field_of_wire_name


def _write(message: Value, value: Any, path: str, depth: int = 0, *, names: int) -> None:
    """Do what `write_value` does, for a model in wire form, for a list of such models, and for any other value."""
    if isinstance(value, _Wire):
        message.map_value.SetInParent()
        for key, member in value.items():
            member_path = in_model(path, value.names.get(key, key))
            down = down_to(check_key(key, member_path), member_path, names)
            _write(message.map_value.fields[key], member, member_path, depth + 1, names=down)
    elif type(value) is list and value and isinstance(value[0], _Wire):
        for index, member in enumerate(value):
            _write(message.array_value.values.add(), member, f"{path}[{index}]", depth + 1, names=names)
    else:
        write_value(message, value, path, depth, names=names)


def write_change(document: Document, change: Change) -> list[str]:
    """Fill a document with what a partial write names; return the field paths of its mask.

    Raises:
        FlowStateEncodeError: A value or the name of a step cannot be stored so.
    """
    try:
        return _write_change(document, change)
    except FlowStateEncodeError:
        check_storable(change.values_by_path())  # as in write_native
        raise


def _write_change(document: Document, change: Change) -> list[str]:
    removed = [(step, in_cache(step)) for step in change.remove]
    mask = dict.fromkeys(_member("cache", step, path) for step, path in removed if _may_be_there("cache", step, path))
    for step, entry in change.cache.items():
        path = in_cache(step)
        mask[_member("cache", step, path)] = None
        names = down_to(step, path, len("cache"))
        _write(_map_of(document, "cache")[step], _entry_wire(entry), path, depth=1, names=names)
    for step, payload in change.events_triggered.items():
        path = in_events(step)
        mask[_member("eventsTriggered", step, path)] = None
        names = down_to(step, path, len("eventsTriggered"))
        write_value(_map_of(document, "eventsTriggered")[step], payload, path, depth=1, names=names)
    for name, value in replaced_fields(change).items():
        if value is not None or name == "blockedOnStep":
            _write(document.fields[name], value, _NAMES[name], names=len(name))
        mask[name] = None
    for key, scalar in change.extra.items():
        mask[quoted(key)] = None
        if not isinstance(scalar, Unset):
            write_value(document.fields[key], scalar, in_extra(key), names=len(key.encode()))
    return list(mask)


def replaced_fields(change: Change) -> dict[str, Any]:
    """Return the fields that a change replaces whole, in native wire form."""
    replaced: dict[str, Any] = {}
    if not isinstance(change.operation, Unset):
        replaced["operation"] = operation_wire(change.operation)
    if not isinstance(change.blocked_on_step, Unset):
        blocked = change.blocked_on_step
        replaced["blockedOnStep"] = None if blocked is None else _without_nulls(blocked)
    if not isinstance(change.executions, Unset):
        replaced["executions"] = [_without_nulls(execution) for execution in change.executions]
    if not isinstance(change.trace_context, Unset):
        replaced["traceContext"] = change.trace_context
    return replaced


def operation_wire(operation: WireModel) -> dict[str, Any]:
    """Return an operation without the nulls that Genkit refuses; `metadata` and `response` may be null."""
    wire = _without_nulls(operation, but=("metadata",))
    wire.setdefault("done", False)
    result, blocked = operation.__dict__.get("result"), operation.__dict__.get("blocked_on_step")
    if result is not None:
        wire["result"] = _without_nulls(result, but=("response",))
    if blocked is not None:
        wire["blockedOnStep"] = _without_nulls(blocked)
    return wire


def _entry_wire(entry: WireModel) -> dict[str, Any]:
    return _without_nulls(entry, but=("value",))


def _without_nulls(model: WireModel, but: Sequence[str] = ("input", "blockedOnStep")) -> dict[str, Any]:
    nullable = {alias for alias in model.wire_names.values() if alias not in but}
    present = to_wire(model).items()
    return _Wire(((name, value) for name, value in present if value is not None or name not in nullable), model)


def _last_end_time(fields: Mapping[str, Value]) -> int | float | None:
    """Return when the last execution ended; None too if that is damaged, since no query goes by it."""
    executions = fields["executions"].array_value.values if "executions" in fields else ()
    last = executions[-1].map_value.fields if executions else {}
    kind = last["endTime"].WhichOneof("value_type") if "endTime" in last else None
    end: int | float | None = getattr(last["endTime"], kind) if kind in NUMBER else None
    return end


def _map_of(document: Document, name: str) -> Any:
    return document.fields[name].map_value.fields


def _may_be_there(field: str, key: str, path: str) -> bool:
    """Return whether a document could hold an entry of this name, which else need not be removed."""
    try:
        down_to(check_key(key, path), path, len(field))
    except FlowStateEncodeError:
        return False
    return True


def _member(field: str, key: str, path: str) -> str:
    """Return the field path of a map's entry, quoted."""
    check_key(key, path)
    if len(f"{field}.{key}".encode()) > MAX_PATH_BYTES:
        raise FlowStateEncodeError(
            f"Cannot update {path} of a native document: with its name the field path has more than "
            f"{MAX_PATH_BYTES:,} bytes. Save the whole state, or use the serialized layout.",
            path=path,
        )
    return f"{field}.{quoted(key)}"


def _check_size(path: str, fields: Any) -> None:
    """Raise FlowStateTooLargeError if fields of a native document are more than one may have."""
    size = document_size(path, fields)
    if size <= MAX_DOCUMENT_BYTES:
        return
    sizes = {_NAMES.get(name, name): value_size(value) for name, value in fields.items() if name not in _PATHS}
    for name in _PATHS.keys() & fields.keys():
        sizes.update((_PATHS[name](key), value_size(value)) for key, value in fields[name].map_value.fields.items())
    largest = max(sizes, key=sizes.__getitem__)
    raise FlowStateTooLargeError(
        f"The flow state takes {size:,} bytes as a native document, more than Firestore's {MAX_DOCUMENT_BYTES:,}; "
        f'the largest value is {largest} with {sizes[largest]:,}. The serialized layout (layout="serialized") '
        "stores states of any size.",
        path=largest,
        size=size,
        limit=MAX_DOCUMENT_BYTES,
    )
