"""Packing stored values anew, which changes no revision: compaction of the log, and rewrapping with the current key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from .._limits import document_size, value_size
from .._own_fields import HEAD_FIELDS, PAYLOAD
from .._rpc.messages import Document, Value
from .encoded_state import object_size
from .json_text import MAX_DEPTH_READ, encode
from .log import Entries, merge
from .payload import DocumentContext, check_together, unpacked_size
from .root import Root
from .stored_document import StoredDocument
from .stored_values import (
    MAX_IDS,
    ROOT_BYTES,
    PartRef,
    Segment,
    Spill,
    Stored,
    bytes_of,
    largest_field,
    part_ids,
    too_many_parts,
    with_values,
    write_log,
    write_stored,
)

COMPACT_WEIGHT: Final = 300_000
"""The weight of the log in the root from which on it is compacted: bytes, plus 1,000 a segment."""

_MOVE_BYTES: Final = COMPACT_WEIGHT // 4  # a merged segment with more bytes moves to parts
_JOIN_BYTES: Final = 1_000_000  # as many as a part holds: segments in parts are merged once they come to this together
_FULL_BYTES: Final = _JOIN_BYTES // 2  # a segment in parts with more is not merged again


@dataclass(frozen=True, kw_only=True)
class CompactedLog:
    """A log after compaction.

    Attributes:
        log: The segments.
        spill: What moved to parts.
        gone: References of the old log that the new one does not have.
        steps: How many steps there are, if all of the log was compacted into one segment; None otherwise.
        grown: By how many bytes of JSON the log became larger. It is negative if steps had been set again.
        size: How many bytes of JSON the state has, if all of the log was compacted and all other values are in the
            root; None otherwise.
    """

    log: Sequence[Segment]
    spill: Spill
    gone: Sequence[PartRef]
    steps: int | None
    grown: int
    size: int | None = None

    def part_count(self, root: Root) -> int:
        """Return an upper bound on how many parts the root refers to then."""
        return max(0, root.part_count - len(part_ids(self.gone))) + self.spill.count

    def refs(self, root: Root) -> tuple[PartRef, ...]:
        """Return the references of the root then."""
        gone = {ref.name for ref in self.gone}
        return (*(ref for ref in root.refs if ref.name not in gone), *self.spill.refs)

    def check_part_count(self, root: Root, context: DocumentContext) -> None:
        """Raise FlowStateTooLargeError if the root refers to more parts then than it does now and may."""
        count, before = (len(part_ids(refs)) for refs in (self.refs(root), root.refs))
        if count > max(context.most_parts, before):
            raise too_many_parts(count, most=context.most_parts, path=largest_field(self.spill.refs))

    def weight(self) -> int:
        """Return the weight of the log in the root."""
        return sum(segment.weight() for segment in self.log)


def joinable(root: Root) -> list[PartRef]:
    """Return the references whose bytes compaction needs: those of segments in parts that it merges with later ones.

    The last segments in parts are merged with all that follows them once they fill a part together. A segment that was
    merged so is never merged again. So each byte is written a few times at most, however long the flow is, and there
    are few parts.
    """
    joined: list[PartRef] = []
    size = 0
    for segment in reversed(root.unique_log):
        refs = _refs(segment)
        if refs:
            own = sum(ref.bytes for ref in refs)
            if own >= _FULL_BYTES:
                break
            joined.extend(refs)
            size += own
        elif joined:
            break
        else:
            size += segment.weight()
        if joined and size >= _JOIN_BYTES:
            return joined
    return []


def compact_log(root: Root, resolved: Mapping[str, bytes], context: DocumentContext) -> CompactedLog:
    """Return the log, in which each run of segments whose values are in the root or in `resolved` is merged into one.

    The state that the log comes to, the order of its steps and its revision stay as they are.

    Args:
        root: The root.
        resolved: The bytes of the references that `joinable` returned.
        context: The context of the document.
    """
    spill, gone = Spill(room=0), list[PartRef]()
    log: list[Segment] = []
    run: list[Segment] = []
    whole = root.unique_log
    steps: int | None = None
    grown = 0
    size: int | None = None

    def close() -> None:
        nonlocal steps, grown, size
        if not run:
            return
        if len(run) == 1 and not _refs(run[0]):
            log.append(_moved(run[0], spill))
        else:
            merged = merge(run, resolved, context)
            gone.extend(ref for segment in run for ref in _refs(segment))
            if len(run) == len(whole):
                steps = len(merged.set)
            compacted = _compacted(run, merged, context, keep_deletes=bool(log))
            grown += _size([compacted], resolved) - _size(run, resolved)
            if len(run) == len(whole):
                size = _state_size(root, compacted)
            log.append(_moved(compacted, spill))
        run.clear()

    for segment in whole:
        if all(ref.name in resolved for ref in _refs(segment)):
            run.append(segment)
        else:
            close()
            log.append(segment)
    close()
    return CompactedLog(log=log, spill=spill, gone=gone, steps=steps, grown=grown, size=size)


def write_compacted(document: Document, compacted: CompactedLog, stored: StoredDocument, root: Root) -> list[str]:
    """Fill a document with what a compaction replaces; return the mask.

    Args:
        document: The document to fill.
        compacted: The log.
        stored: The document as it was read.
        root: Its root.
    """
    payload = document.fields[PAYLOAD].map_value.fields
    write_log(payload, compacted.log)
    payload["parts"].integer_value = compacted.part_count(root)
    mask = [f"{PAYLOAD}.log", f"{PAYLOAD}.weight", f"{PAYLOAD}.parts"]
    summary = document.fields["summary"].map_value.fields
    if compacted.steps is not None:  # exact, while updates count steps again that they set again
        summary["steps"].integer_value = compacted.steps
        mask.append("summary.steps")
    if compacted.size is not None:  # exact too
        summary["bytes"].integer_value = compacted.size
        mask.append("summary.bytes")
    elif compacted.grown:
        before = stored.fields["summary"].map_value.fields if "summary" in stored.fields else {}
        summary["bytes"].integer_value = (
            max(0, before["bytes"].integer_value + compacted.grown) if "bytes" in before else 0
        )
        mask.append("summary.bytes")
    if not summary:
        document.fields.pop("summary")
    return mask


def _compacted(run: Sequence[Segment], merged: Entries, context: DocumentContext, *, keep_deletes: bool) -> Segment:
    last = run[-1]
    covered = dict.fromkeys(id for segment in run for id in (*segment.ids, segment.id) if id != last.id)
    values: dict[str, Stored] = {}
    texts = {  # what could be read is written again, however deep it is
        "set": encode(merged.set, "cache", around=MAX_DEPTH_READ) if merged.set else None,
        "del": encode(list(merged.delete), "remove") if keep_deletes and merged.delete else None,
        "events": encode(merged.events, "events_triggered", around=MAX_DEPTH_READ) if merged.events else None,
    }
    for name, text in texts.items():
        if text is not None:
            values[name] = context.pack(text, _logical(last, name))
    return with_values(Segment(id=last.id, ids=tuple(covered)[-MAX_IDS:]), values)


def _size(segments: Sequence[Segment], resolved: Mapping[str, bytes]) -> int:
    """Return about how many bytes of JSON segments set, as the envelopes of their values say, and as updates count."""
    values = (stored for segment in segments for stored in (segment.set, segment.events) if stored is not None)
    return sum(unpacked_size(bytes_of(stored, resolved)) - 1 for stored in values)  # a comma for the braces


def _state_size(root: Root, segment: Segment) -> int | None:
    """Return about how many bytes of JSON a state has, given all of its log as one segment with its values.

    It is None if another value is in parts, whose references do not tell how many bytes of JSON they stand for.
    """
    sizes: dict[str, int] = {}
    for name, stored in (*root.values.items(), ("cache", segment.set), ("eventsTriggered", segment.events)):
        if isinstance(stored, PartRef):
            return None
        sizes[name] = len(b"{}") if stored is None else unpacked_size(stored)
    extra = max(0, sizes.pop("extra", 0) - 1)  # a comma for the braces
    for name in root.head.keys() - HEAD_FIELDS | {"flowId", "name", "startTime"} & root.head.keys():
        sizes[name] = _json_size(root.head[name])
    return object_size(sizes) + extra


def _json_size(value: Value) -> int:
    """Return about how many bytes of JSON a value of the head has; exactly, if a writer of ours has put it there."""
    kind = value.WhichOneof("value_type")
    if kind in ("string_value", "integer_value", "double_value", "boolean_value"):
        return len(encode(getattr(value, kind), ""))
    return value_size(value)


def _moved(segment: Segment, spill: Spill) -> Segment:
    """Return the segment with its values in parts if it is too heavy to stay."""
    if segment.weight() <= _MOVE_BYTES:
        return segment
    large = {
        name: spill.move("log", stored)
        for name, stored in segment.values().items()
        if isinstance(stored, bytes) and len(stored) > _MOVE_BYTES // 8
    }
    return with_values(segment, large)


def _refs(segment: Segment) -> list[PartRef]:
    return [stored for stored in segment.values().values() if isinstance(stored, PartRef)]


@dataclass(frozen=True, kw_only=True)
class Rewrapped:
    """A root packed again.

    Attributes:
        values: The payload values beside the log.
        log: The segments.
        spill: What is in parts now.
        gone: The references of the old root, none of which the new one has.
    """

    values: Mapping[str, Stored]
    log: Sequence[Segment]
    spill: Spill
    gone: Sequence[PartRef]


def is_current(root: Root, resolved: Mapping[str, bytes], context: DocumentContext) -> bool:
    """Return whether every value is packed as it would be now, and the log has no late duplicates.

    Raises:
        FlowStateDecodeError: A value cannot be decrypted.
    """
    return len(root.log) == len(root.unique_log) and all(
        context.payloads.is_current(bytes_of(stored, resolved), context.path, logical)
        for logical, stored in _stored(root).items()
    )


def rewrap_root(root: Root, resolved: Mapping[str, bytes], context: DocumentContext) -> Rewrapped:
    """Return what the root holds, each value unpacked and packed again.

    What was in parts stays in parts. If the rest is more than a saved root may have, its largest values move too.

    Raises:
        FlowStateDecodeError: A value cannot be unpacked.
        FlowStateTooLargeError: The root would refer to more parts than it does and may.
    """
    before = _stored(root)
    check_together(bytes_of(stored, resolved) for stored in before.values())
    spill = Spill(room=ROOT_BYTES - document_size(context.path, root.head))
    packed: dict[str, Stored] = {}
    for logical, stored in before.items():
        again = context.pack(context.payloads.unpack(bytes_of(stored, resolved), context.path, logical), logical)
        packed[logical] = spill.move(stored.field, again) if isinstance(stored, PartRef) else again
    packed = spill.move_largest(packed)
    log = [
        with_values(segment, {name: packed.pop(_logical(segment, name)) for name in segment.values()})
        for segment in root.unique_log
    ]
    gone = [stored for stored in before.values() if isinstance(stored, PartRef)]
    if spill.count > max(context.most_parts, len(part_ids(gone))):
        raise too_many_parts(spill.count, most=context.most_parts, path=largest_field(spill.refs))
    return Rewrapped(values=packed, log=log, spill=spill, gone=gone)


def _logical(segment: Segment, name: str) -> str:
    """Return the name by which a value of a segment is packed, which encryption binds it to."""
    return f"log.{segment.id}.{name}"


def write_rewrapped(document: Document, rewrapped: Rewrapped, context: DocumentContext) -> list[str]:
    """Fill a document with what was packed again; return the mask."""
    payload = document.fields[PAYLOAD].map_value.fields
    for name, stored in rewrapped.values.items():
        write_stored(payload[name], stored)
    write_log(payload, rewrapped.log)
    payload["parts"].integer_value = rewrapped.spill.count
    mask = [f"{PAYLOAD}.{name}" for name in (*rewrapped.values, "log", "weight", "parts")]
    if context.payloads.keyring is not None:
        mask.append("summary.errorLine")  # named without a value, so that it is deleted: it is in the clear
    return mask


def _stored(root: Root) -> dict[str, Stored]:
    """Return the payload values of a root by the names by which they are packed."""
    found = dict(root.values)
    for segment in root.unique_log:
        found.update({_logical(segment, name): stored for name, stored in segment.values().items()})
    return found
