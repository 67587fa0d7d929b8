"""A stored document of either layout: what it says, and the masks that ask for what it is to say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Final, Literal, TypeAlias

from .._limits import Moment, document_size, moment_of
from .._own_fields import PAYLOAD
from .._rpc.messages import Document, Timestamp, Value
from ..errors import FlowStateDecodeError
from ..models import FlowStatus
from ..unset import UNSET, Unset
from .head import EXPIRE_AFTER, EXPIRY, WAKE_AT, StatusInputs, expire_after_in, expires_at, has_expired, owns_expiry
from .native_values import number_of
from .payload import DocumentContext
from .root import VALUES, Root, check_layout, read_root, reference_fields, refs_in
from .stored_values import PartRef

LayoutName = Literal["serialized", "native"]
Mask: TypeAlias = tuple[str, ...]
"""Field paths to read."""

NATIVE_STATUS_INPUTS: Final[Mask] = (
    "operation.name",
    "operation.done",
    "operation.result.error",
    "executions",
    f"{PAYLOAD}.v",
)
SERIALIZED_STATUS_INPUTS: Final[Mask] = ("status", "blockedOnStep", f"{PAYLOAD}.executions")
EXISTENCE: Final[Mask] = ("flowId",)
"""The mask of a read that asks only whether a document is there. A mask has to name some field."""
EXPIRY_ALONE: Final[Mask] = (EXPIRY,)
PART_COUNT: Final[Mask] = (f"{PAYLOAD}.parts",)
AGE: Final[Mask] = (
    "startTime",
    EXPIRY,
    *(f"{PAYLOAD}.{name}" for name in ("v", "parts")),
    "status",
    "operation.done",
    "operation.result.error",
)
"""What purging needs to know of a document."""
NATIVE_STATUS: Final[Mask] = ("startTime", EXPIRY, "blockedOnStep", *NATIVE_STATUS_INPUTS)
"""What the status of a native document follows from, with what lists need of it: it has no field with the status."""
UPDATE_BASE: Final[Mask] = (
    EXPIRY,
    EXPIRE_AFTER,
    *(f"{PAYLOAD}.{name}" for name in ("weight", "parts", "created")),
    *SERIALIZED_STATUS_INPUTS,
    *NATIVE_STATUS_INPUTS,
    f"{PAYLOAD}.extra",
    *(field for name in VALUES if name not in ("executions", "extra") for field in reference_fields(name)),
)
"""What an update without a version must know of a document: a few hundred bytes, without the log and the values."""


class StoredDocument:
    """The document under a flow id: the whole of it, or the fields that a mask asked for.

    Attributes:
        message: The protobuf message.
        layout: How it holds its state.
        read_as_of: The server's time as of which it was read, for its parts; None: the present.
    """

    __slots__ = ("_is_native", "_root", "layout", "message", "read_as_of")

    def __init__(self, message: Document, read_as_of: Timestamp | None = None) -> None:
        self.message = message
        self.read_as_of = read_as_of
        self._is_native = PAYLOAD not in message.fields
        self.layout: LayoutName = "native" if self._is_native else "serialized"
        self._root: Root | Unset | None = UNSET

    @property
    def name(self) -> str:
        """The resource name."""
        return str(self.message.name)

    @property
    def id(self) -> str:
        """The id of the flow state."""
        return self.name.rpartition("/")[2]

    @property
    def updated(self) -> Moment:
        """The update_time."""
        return moment_of(self.message.update_time)

    @property
    def created_at(self) -> Moment:
        """The create_time."""
        return moment_of(self.message.create_time)

    @property
    def fields(self) -> Mapping[str, Value]:
        """Its fields, for the format's room alone."""
        return self.message.fields  # type: ignore[no-any-return]  # protobuf's messages are untyped

    @property
    def payload(self) -> Mapping[str, Value]:
        """The fields of the payload; empty if it is native. For the format's room alone."""
        return {} if self._is_native else self.message.fields[PAYLOAD].map_value.fields

    @property
    def root(self) -> Root | None:
        """The serialized document taken apart, once; None if it is native or damaged."""
        if isinstance(self._root, Unset):
            try:
                self._root = None if self._is_native else read_root(self.message)
            except FlowStateDecodeError:
                self._root = None
        return self._root

    def read_root(self) -> Root:
        """Return the serialized document taken apart.

        Raises:
            FlowStateDecodeError: It is damaged, or of a newer version; the text names the field.
        """
        root = self.root
        return read_root(self.message) if root is None else root  # it is damaged: read again, for the error

    def check_layout(self) -> None:
        """Raise FlowStateDecodeError if the document, read by a mask, is of no layout that is known."""
        check_layout(self.message)

    @property
    def revision(self) -> str:
        """The revision; empty if it is native, damaged, or was read without its log."""
        return "" if self.root is None else self.root.revision

    @property
    def revisions(self) -> Sequence[str]:
        """The revisions that it remembers, oldest first, its own last; none if it is native or damaged."""
        return () if self.root is None else self.root.ids

    def has_seen(self, revision: str) -> bool:
        """Return whether the document remembers the write with this id."""
        return self.root is not None and self.root.has_seen(revision)

    @property
    def refs(self) -> tuple[PartRef, ...]:
        """Every reference to parts; none if it is native or damaged."""
        return () if self.root is None else self.root.refs

    @property
    def known_refs(self) -> tuple[PartRef, ...] | None:
        """Every reference to parts, as `refs` has them; None if it has some and was read without its log."""
        if self._is_native or self.has_log:
            return self.refs
        return () if self.part_count <= 0 else None

    def read_refs(self) -> tuple[PartRef, ...]:
        """Return every reference to parts.

        Raises:
            FlowStateDecodeError: It is damaged, so that they are not known.
        """
        return () if self._is_native else self.read_root().refs

    def replaceable(self) -> list[PartRef]:
        """Return the references of values outside the log, also if the document was read by the mask `UPDATE_BASE`.

        Raises:
            FlowStateDecodeError: One is damaged.
        """
        return [] if self._is_native else refs_in(self.message, VALUES)

    @property
    def part_count(self) -> int:
        """How many parts it counts: as many as it refers to, or more. Known too if read by the mask `PART_COUNT`."""
        return self._count("parts")

    @property
    def weight(self) -> int:
        """The weight of the log inside the root, as the document has it."""
        return self._count("weight")

    @property
    def created(self) -> str | None:
        """The id of the create that made it; None if it is native, or no create has made it."""
        return self.payload["created"].string_value if "created" in self.payload else None

    @property
    def has_extra(self) -> bool:
        """Whether its payload has unknown keys."""
        return "extra" in self.payload

    @property
    def has_log(self) -> bool:
        """Whether the log was read, which the masks above leave out."""
        return "log" in self.payload

    @property
    def expire_at(self) -> datetime | None:
        """When it expires; None if it does not."""
        return expires_at(self.message.fields)

    @property
    def owns_expiry(self) -> bool:
        """Whether ``expireAt`` is an unknown key of a native state."""
        return self._is_native and owns_expiry(self.message.fields)

    @property
    def expire_after(self) -> int | float | None:
        """The flow's own duration until it expires, in milliseconds; None if it has none."""
        return expire_after_in(self.message.fields)

    def is_live(self, now: datetime | None = None) -> bool:
        """Return whether it has not expired: a state that has expired counts as absent."""
        return not has_expired(self.expire_at, now or datetime.now(timezone.utc))

    @property
    def start_time(self) -> int | float:
        """When the flow began, in milliseconds since the epoch, as the int or float by which lists are ordered."""
        return number_of(self.message.fields["startTime"])

    @property
    def wake_at(self) -> int | float:
        """The ``wakeAt`` of the flow, in milliseconds since the epoch, as the int or float that is stored."""
        return number_of(self.message.fields[WAKE_AT])

    @property
    def shard(self) -> int:
        """The number in its field ``shard``; 0 if it has none."""
        return self.message.fields["shard"].integer_value if "shard" in self.message.fields else 0

    def status_inputs(self, context: DocumentContext) -> StatusInputs:
        """Return what its status follows from, also if the document was read by the mask `UPDATE_BASE`.

        Raises:
            FlowStateDecodeError: Its executions cannot be read.
        """
        return (
            native_status_inputs(self.message) if self._is_native else serialized_status_inputs(self.message, context)
        )

    @property
    def native_status(self) -> FlowStatus:
        """The status of a native document, also if read by the mask `NATIVE_STATUS`."""
        return native_status_inputs(self.message).status

    @property
    def has_ended(self) -> bool:
        """Whether the flow is done or has failed, also if read by the mask `AGE`."""
        if self._is_native:
            return bool(native_status_inputs(self.message).ended)
        return bool(_ended(self.message))

    def size(self, path: str) -> int:
        """Return its size by Firestore's rules for storage; the path is relative to the database."""
        return document_size(path, self.message.fields)

    @property
    def message_bytes(self) -> int:
        """How many bytes the message has, known without a look at each of its values."""
        return int(self.message.ByteSize())

    def _count(self, name: str) -> int:
        return self.payload[name].integer_value if name in self.payload else 0


def native_status_inputs(document: Document) -> StatusInputs:
    """Return the status inputs of a native document, from the fields `NATIVE_STATUS_INPUTS` and ``blockedOnStep``."""
    fields = document.fields
    operation = fields["operation"].map_value.fields if "operation" in fields else {}
    result = operation["result"].map_value.fields if "result" in operation else {}
    failed = "error" in result and result["error"].WhichOneof("value_type") != "null_value"
    done = "done" in operation and operation["done"].boolean_value
    executed = "executions" in fields and len(fields["executions"].array_value.values) > 0
    return StatusInputs("failed" if failed else "done" if done else "", is_blocked(document), executed)


def serialized_status_inputs(document: Document, context: DocumentContext) -> StatusInputs:
    """Return the status inputs of a document of ours, from the fields `SERIALIZED_STATUS_INPUTS`.

    Raises:
        FlowStateDecodeError: Its executions cannot be read.
    """
    payload = document.fields[PAYLOAD].map_value.fields
    stored = payload.get("executions")
    if stored is None or stored.WhichOneof("value_type") == "map_value":
        executed = stored is not None  # a reference: there are so many executions that they are in parts
    else:
        executed = bool(context.unpack(stored.string_value.encode() or stored.bytes_value, "executions"))
    return StatusInputs(_ended(document), is_blocked(document), executed)


def _ended(document: Document) -> Literal["", "done", "failed"]:
    """Return how the flow of a document of ours has ended; empty if it has not."""
    status = document.fields["status"].string_value if "status" in document.fields else ""
    return "done" if status == "done" else "failed" if status == "failed" else ""


def is_blocked(document: Document) -> bool:
    """Return whether a document of either layout says that the flow waits for a step."""
    fields = document.fields
    return "blockedOnStep" in fields and fields["blockedOnStep"].WhichOneof("value_type") == "map_value"
