"""Packing stored values again: with the current key, codecs and threshold. Changes no revision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .._rpc.messages import Document
from .log import Segment, with_values
from .parts import PartRef, Spill, Stored
from .payload import DocumentContext, check_together
from .root import PAYLOAD, Root, write_log, write_stored


@dataclass(frozen=True, kw_only=True)
class Rewrapped:
    """A root packed again.

    Attributes:
        values: The payload values beside the log.
        log: The segments.
        spill: What is in parts now.
        gone: References that nothing refers to any more.
    """

    values: Mapping[str, Stored]
    log: Sequence[Segment]
    spill: Spill
    gone: Sequence[PartRef]


def is_current(root: Root, resolved: Mapping[str, bytes], context: DocumentContext) -> bool:
    """Return whether every value is packed as it would be now."""
    return all(
        context.payloads.is_current(resolved[value.name] if isinstance(value, PartRef) else value)
        for value in _stored(root)
    )


def rewrap_root(root: Root, resolved: Mapping[str, bytes], context: DocumentContext) -> Rewrapped:
    """Return what the root holds, each value unpacked and packed again; what was in parts stays in parts.

    Raises:
        FlowStateDecodeError: A value cannot be unpacked.
    """
    check_together(resolved[value.name] if isinstance(value, PartRef) else value for value in _stored(root))
    spill, gone = Spill(room=0), list[PartRef]()

    def again(stored: Stored, logical: str) -> Stored:
        data = resolved[stored.name] if isinstance(stored, PartRef) else stored
        packed = context.pack(context.payloads.unpack(data, context.path, logical), logical)
        if not isinstance(stored, PartRef):
            return packed
        gone.append(stored)
        return spill.move(stored.field, packed)

    values = {name: again(stored, name) for name, stored in root.values.items()}
    log = [
        with_values(
            segment,
            {name: again(stored, f"log.{segment.id}.{name}") for name, stored in segment.values().items()},
        )
        for segment in root.unique_log
    ]
    return Rewrapped(values=values, log=log, spill=spill, gone=gone)


def write_rewrapped(document: Document, rewrapped: Rewrapped, context: DocumentContext) -> list[str]:
    """Fill a document with what was packed again; return the mask."""
    payload = document.fields[PAYLOAD].map_value.fields
    for name, stored in rewrapped.values.items():
        write_stored(payload[name], stored)
    write_log(payload, rewrapped.log)
    payload["parts"].integer_value = rewrapped.spill.count
    mask = [f"{PAYLOAD}.{name}" for name in (*rewrapped.values, "log", "weight", "parts")]
    if context.payloads.keyring is not None:
        mask.append("summary.errorLine")  # not to be left in the clear
    return mask


def _stored(root: Root) -> list[Stored]:
    return [*root.values.values(), *(value for segment in root.log for value in segment.values().values())]
