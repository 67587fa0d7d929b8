"""The two layouts as objects: how each encodes a state, and how a state is read out of a document of either."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from .._own_fields import HEAD_FIELDS, NATIVE_FIELDS, PAYLOAD
from ..errors import FlowStateDecodeError
from ..models import FlowState
from .encoded_state import EncodedState, encode_state, state_from_wire
from .log import merge_unpacked, packed_values
from .native import encode_native_state, read_native
from .native_values import ReferenceOf, read_value
from .payload import DocumentContext, Payloads
from .root import Root
from .stored_document import LayoutName, StoredDocument
from .stored_values import bytes_of

Reader: TypeAlias = Callable[[StoredDocument, Mapping[str, bytes], DocumentContext, ReferenceOf], FlowState]
"""A function that takes a whole document, the bytes of each reference to parts by its name, the document's context, and
a function that makes DocumentReferences. It returns the flow state, or raises FlowStateDecodeError."""

_NOT_UNKNOWN: Final = frozenset(FlowState.wire_names.values()) - {"name"}  # extra has "name" if the name is null


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How documents hold states.

    Attributes:
        check_readable: Raises FlowStateDecodeError if the settings require encryption and the layout has none.
        read_state: Reads a state.
        encode: Encodes a state. Two values have the same text if and only if this layout stores them alike.
    """

    check_readable: Callable[[Payloads], None]
    read_state: Reader
    encode: Callable[[FlowState], EncodedState]


def layout_of(document: StoredDocument) -> Layout:
    """Return the layout of a document."""
    return LAYOUTS[document.layout]


def _read_serialized(
    document: StoredDocument, resolved: Mapping[str, bytes], context: DocumentContext, reference_of: ReferenceOf
) -> FlowState:
    return read_state(document.read_root(), resolved, context, flow_id=document.id, native=reference_of)


def _read_native(
    document: StoredDocument, resolved: Mapping[str, bytes], context: DocumentContext, reference_of: ReferenceOf
) -> FlowState:
    return read_native(document.message, flow_id=document.id, reference_of=reference_of)


LAYOUTS: Final[Mapping[LayoutName, Layout]] = {
    "serialized": Layout(
        check_readable=lambda payloads: None,  # whether a value is encrypted is seen when it is unpacked
        read_state=_read_serialized,
        encode=encode_state,
    ),
    "native": Layout(check_readable=Payloads.check_native, read_state=_read_native, encode=encode_native_state),
}


def read_state(
    root: Root, resolved: Mapping[str, bytes], context: DocumentContext, *, flow_id: str, native: ReferenceOf
) -> FlowState:
    """Return the flow state of a root and its parts.

    Args:
        root: The root.
        resolved: The bytes of each reference, by its name.
        context: The context of the document.
        flow_id: The id it is stored under.
        native: Makes DocumentReferences, of values that others have put into the head.

    Raises:
        FlowStateDecodeError: A value cannot be read; the text says which.
    """
    wire: dict[str, Any] = {
        name: read_value(value, native)
        for name, value in root.head.items()
        if name not in HEAD_FIELDS or name in ("flowId", "name", "startTime")
    }
    if clash := NATIVE_FIELDS & wire.keys():
        raise FlowStateDecodeError(f"it has both {', '.join(sorted(clash))} and {PAYLOAD}: two writers mixed layouts")
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
    return state_from_wire(wire, flow_id=flow_id)
