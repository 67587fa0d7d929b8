"""The status inputs of documents of which only some fields were read."""

from __future__ import annotations

from typing import Final

from .._document.payload import DocumentContext
from .._document.root import PAYLOAD
from .._document.version import StatusInputs
from .._rpc.messages import Document

NATIVE_STATUS_INPUTS: Final[tuple[str, ...]] = (
    "operation.name",
    "operation.done",
    "operation.result.error",
    "executions",
    f"{PAYLOAD}.v",
)
SERIALIZED_STATUS_INPUTS: Final[tuple[str, ...]] = ("status", "blockedOnStep", f"{PAYLOAD}.executions")


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
