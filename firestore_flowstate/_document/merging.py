"""What the segments of a log come to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import FlowStateDecodeError
from .log import Entries, Segment
from .parts import PartRef, Stored
from .payload import DocumentContext


def merge(log: Sequence[Segment], resolved: Mapping[str, bytes], context: DocumentContext) -> Entries:
    """Return what the segments come to, one on top of the other.

    Args:
        log: The segments, without late duplicates.
        resolved: The bytes of each reference, by its name.
        context: Where they are kept.

    Raises:
        FlowStateDecodeError: A value cannot be read; says which.
    """
    stored: list[tuple[str, bytes]] = []
    for segment in log:
        for name, value in (("set", segment.set), ("del", segment.delete), ("events", segment.events)):
            if value is not None:
                stored.append((f"log.{segment.id}.{name}", bytes_of(value, resolved)))
    values = context.unpack_each(stored)
    merged = Entries()
    for segment in log:
        steps = {} if segment.set is None else _checked(next(values), dict, segment, "set")
        removed = [] if segment.delete is None else _checked(next(values), list, segment, "del")
        events = {} if segment.events is None else _checked(next(values), dict, segment, "events")
        if not all(isinstance(step, str) for step in removed):
            raise FlowStateDecodeError(f"log.{segment.id}.del does not name steps")
        merged.add(steps, removed, events)
    return merged


def bytes_of(stored: Stored, resolved: Mapping[str, bytes]) -> bytes:
    """Return the bytes of a packed value, those of a reference from what it was resolved to."""
    return resolved[stored.name] if isinstance(stored, PartRef) else stored


def _checked(value: Any, kind: type, segment: Segment, name: str) -> Any:
    if type(value) is not kind:
        raise FlowStateDecodeError(f"log.{segment.id}.{name} is not what it should be")
    return value
