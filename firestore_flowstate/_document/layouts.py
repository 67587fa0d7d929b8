"""The layouts: what each knows of how a document holds a state, so that nobody else asks which one it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import ClassVar, Final, Protocol

from .._rpc.messages import Document, Value
from ..models import FlowState
from ..unset import Unset
from .difference import Change
from .encoded_state import EncodedState
from .head import Reason, Shown, StatusInputs
from .native import NativeLayout
from .native_values import ReferenceOf
from .payload import DocumentContext, Payloads
from .serialized import SerializedLayout
from .stored_document import LayoutName, StoredDocument
from .update import Update
from .version import Expectation, Written


class Layout(Protocol):
    """How documents hold states.

    Attributes:
        name: Its name, as settings and versions have it.
        packs_values: Whether codecs pack its values: so they can be encrypted, and rewrapped with another key.
        has_log: Whether a document keeps its steps as a log, which can be compacted.
        has_head: Whether a document has fields with its status and its shard, by which queries find it.
        is_genkits: Whether Genkit JS reads it, and Firestore's own types are its values.
    """

    name: ClassVar[LayoutName]
    packs_values: ClassVar[bool]
    has_log: ClassVar[bool]
    has_head: ClassVar[bool]
    is_genkits: ClassVar[bool]

    def check_readable(self, payloads: Payloads) -> None:
        """Raise FlowStateDecodeError if the settings require encryption and the layout has none."""

    def read_state(
        self,
        document: StoredDocument,
        resolved: Mapping[str, bytes],
        context: DocumentContext,
        reference_of: ReferenceOf,
    ) -> FlowState:
        """Return the state of a document.

        Args:
            document: The document, whole.
            resolved: The bytes of each of its references to parts, by the name of that.
            context: The context of the document.
            reference_of: Makes DocumentReferences.

        Raises:
            FlowStateDecodeError: A value cannot be read; the text says which.
        """

    def encode(self, state: FlowState) -> EncodedState:
        """Encode a state. Two values have the same text if and only if this layout stores them alike."""

    def write_state(
        self,
        document: Document,
        state: FlowState,
        context: DocumentContext,
        *,
        expected: Expectation,
        expire_at: datetime | None,
    ) -> Written:
        """Fill a document with a whole state.

        Args:
            document: The document to fill. Its name is not set here.
            state: What to store.
            context: The context of the document.
            expected: What the write expects to replace.
            expire_at: When the state expires; None: it does not.

        Raises:
            FlowStateEncodeError: A value cannot be stored, or the settings require encryption and the layout has none.
            FlowStateTooLargeError: The state is larger than the layout can hold.
        """

    def pack_update(self, change: Change, context: DocumentContext) -> Update:
        """Pack what a change names. Raises what `write_state` raises, as far as that is known by now."""

    def write_update(
        self, document: Document, update: Update, base: StatusInputs, expire_at: datetime | Unset | None
    ) -> list[str]:
        """Fill a document with the fields that an update replaces; return the field paths of its mask.

        Args:
            document: The document to fill.
            update: What to write, as `pack_update` has returned it.
            base: What the status of the version that it goes on top of follows from.
            expire_at: When the state expires from now on; UNSET: as before.

        Raises:
            FlowStateEncodeError: A value cannot be stored.
        """

    def check_size(self, path: str, fields: Mapping[str, Value]) -> None:
        """Raise FlowStateTooLargeError if fields are more than a document may have.

        Args:
            path: The path of the document relative to the database.
            fields: The fields of the whole document.
        """

    def has_made(
        self, document: Document, mask: Sequence[str] | None, stored: StoredDocument, base: StoredDocument | None
    ) -> bool:
        """Return whether a write has made a stored document, if the layout has no revision to tell by.

        Args:
            document: The document of the write.
            mask: The mask of the write; None: it replaces the whole document.
            stored: The document that is stored.
            base: The document before that; None if the write replaces whatever is stored.
        """

    def read_shown(self, document: StoredDocument) -> Shown:
        """Return what a summary shows of a document, whole or read by `summary.summary_mask`.

        Raises:
            FlowStateDecodeError: A field is damaged; the text names it.
        """

    def hidden_by_shard(self, document: StoredDocument, shards: int) -> Reason | None:
        """Return why lists over so many shards, more than one, do not show a document; None if they do."""

    def contradictions(self, document: StoredDocument, state: FlowState) -> Iterator[str]:
        """Yield a message for each field of a document that queries go by and that differs from its state."""


LAYOUTS: Final[Mapping[LayoutName, Layout]] = {"serialized": SerializedLayout(), "native": NativeLayout()}
