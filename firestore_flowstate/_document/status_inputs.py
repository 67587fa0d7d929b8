"""What the status of a flow follows from, of a state or of a document of which only some fields were read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

from .._rpc.messages import Document
from ..models import FlowState, FlowStatus, Operation
from ..unset import Unset
from .payload import DocumentContext
from .root import PAYLOAD

NATIVE_STATUS_INPUTS: Final[tuple[str, ...]] = (
    "operation.name",
    "operation.done",
    "operation.result.error",
    "executions",
    f"{PAYLOAD}.v",
)
SERIALIZED_STATUS_INPUTS: Final[tuple[str, ...]] = ("status", "blockedOnStep", f"{PAYLOAD}.executions")


class StatusInputs(NamedTuple):
    """What the status of a flow follows from."""

    ended: Literal["", "done", "failed"]
    blocked: bool
    executed: bool

    @classmethod
    def of(cls, state: FlowState) -> StatusInputs:
        """Return the inputs of the status of the state."""
        return cls(_ended(state.operation), state.blocked_on_step is not None, bool(state.executions))

    def after(
        self, operation: Operation | Unset, blocked_on_step: object, executions: Sequence[object] | Unset
    ) -> StatusInputs:
        """Return the inputs once these have replaced what they name."""
        return StatusInputs(
            self.ended if isinstance(operation, Unset) else _ended(operation),
            self.blocked if isinstance(blocked_on_step, Unset) else blocked_on_step is not None,
            self.executed if isinstance(executions, Unset) else bool(executions),
        )

    @property
    def status(self) -> FlowStatus:
        """The status, as `FlowState.status` has it."""
        if self.ended:
            return self.ended
        if self.blocked:
            return "blocked"
        return "running" if self.executed else "scheduled"


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
    status = document.fields["status"].string_value
    payload = document.fields[PAYLOAD].map_value.fields
    stored = payload.get("executions")
    if stored is None or stored.WhichOneof("value_type") == "map_value":
        executed = stored is not None  # so many that they are in parts
    else:
        executed = bool(context.unpack(stored.string_value.encode() or stored.bytes_value, "executions"))
    return StatusInputs(status if status in ("done", "failed") else "", is_blocked(document), executed)


def is_blocked(document: Document) -> bool:
    """Return whether a document of either layout says that the flow waits for a step."""
    fields = document.fields
    return "blockedOnStep" in fields and fields["blockedOnStep"].WhichOneof("value_type") == "map_value"


def _ended(operation: Operation) -> Literal["", "done", "failed"]:
    if operation.result is not None and operation.result.error is not None:
        return "failed"
    return "done" if operation.done else ""
