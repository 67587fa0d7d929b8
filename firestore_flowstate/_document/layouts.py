"""The two layouts as objects: what is done to a state or a document whichever its layout, and what differs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Protocol

from ..models import FlowState
from .encoded_state import EncodedState, encode_state
from .native import encode_native_state, read_native
from .native_values import ReferenceOf
from .payload import DocumentContext, Payloads
from .serialized import read_state
from .stored_document import LayoutName, StoredDocument


class Layout(Protocol):
    """How documents hold states."""

    def check_readable(self, payloads: Payloads) -> None:
        """Raise FlowStateDecodeError if no document of this layout is to be read: what must be encrypted is not."""

    def read_state(
        self,
        document: StoredDocument,
        resolved: Mapping[str, bytes],
        context: DocumentContext,
        *,
        reference_of: ReferenceOf,
    ) -> FlowState:
        """Return the flow state of a whole document.

        Args:
            document: The document.
            resolved: The bytes of each of its references, by their names.
            context: Its context.
            reference_of: Makes references of values that are references.

        Raises:
            FlowStateDecodeError: It cannot be read; says why.
        """

    @property
    def encode(self) -> Callable[[FlowState], EncodedState]:
        """Encodes a state so that two values are equal if this layout stores the same for both."""


class Serialized:
    """A readable head, every value as packed JSON, the cache and events as a log."""

    def check_readable(self, payloads: Payloads) -> None:
        """Nothing is wrong before it is unpacked."""

    def read_state(
        self,
        document: StoredDocument,
        resolved: Mapping[str, bytes],
        context: DocumentContext,
        *,
        reference_of: ReferenceOf,
    ) -> FlowState:
        """Unpack and merge, as of `Layout`."""
        return read_state(document.read_root(), resolved, context, flow_id=document.id, native=reference_of)

    @property
    def encode(self) -> Callable[[FlowState], EncodedState]:
        """As of `Layout`."""
        return encode_state


class Native:
    """The fields of a document are the fields of the state, as Genkit JS has them."""

    def check_readable(self, payloads: Payloads) -> None:
        """As of `Layout`."""
        payloads.check_native()

    def read_state(
        self,
        document: StoredDocument,
        resolved: Mapping[str, bytes],
        context: DocumentContext,
        *,
        reference_of: ReferenceOf,
    ) -> FlowState:
        """Return the fields as a state, as of `Layout`."""
        return read_native(document.message, flow_id=document.id, reference_of=reference_of)

    @property
    def encode(self) -> Callable[[FlowState], EncodedState]:
        """As of `Layout`."""
        return encode_native_state


LAYOUTS: Final[Mapping[LayoutName, Layout]] = {"serialized": Serialized(), "native": Native()}


def layout_of(document: StoredDocument) -> Layout:
    """Return the layout of a document."""
    return LAYOUTS[document.layout]
