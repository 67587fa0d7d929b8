"""The two layouts as objects: what is done to a state or a document of either layout, each in its own way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from ..models import FlowState
from .encoded_state import EncodedState, encode_state
from .log import read_state
from .native import encode_native_state, read_native
from .native_values import ReferenceOf
from .payload import DocumentContext, Payloads
from .stored_document import LayoutName, StoredDocument

Reader: TypeAlias = Callable[[StoredDocument, Mapping[str, bytes], DocumentContext, ReferenceOf], FlowState]
"""A function that takes a whole document, the bytes of each of its references by their names, its context, and what
makes references of values that are references. It returns the flow state, or raises FlowStateDecodeError, which says
why."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How documents hold states.

    Attributes:
        check_readable: Raises FlowStateDecodeError if its documents may not be read: none is encrypted, all must be.
        read_state: Reads a state.
        encode: Encodes a state so that two values are equal if this layout stores the same for both.
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
        check_readable=lambda payloads: None,  # nothing is wrong before it is unpacked
        read_state=_read_serialized,
        encode=encode_state,
    ),
    "native": Layout(check_readable=Payloads.check_native, read_state=_read_native, encode=encode_native_state),
}
