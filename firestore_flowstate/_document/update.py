"""A partial write that is packed, in either layout: what it makes of the version that it is put on top of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .._error_texts import in_cache, in_events
from .._limits import names_in
from .._own_fields import PAYLOAD
from .._rpc.messages import Document, Value, Write
from .difference import Change
from .head import StatusChange, StatusInputs
from .payload import DocumentContext
from .stored_values import PartRef, Segment, Stored, largest_field, part_count, write_segment


@dataclass(frozen=True, kw_only=True)
class Update:
    """A partial write, ready to be sent on top of any version of its layout.

    The caller may change the values that it was packed from, so none of them is looked at afterwards.

    Attributes:
        change: The change that it was packed from. After the packing only its names count, and its unknown keys.
        context: The context of the document that it was packed for.
        revision: The revision that it makes; empty in the native layout, which has none.
        segment: What it adds to the log; None in the native layout, which has no log.
        values: The payload values that it replaces whole, packed.
        parts: The references to the parts that it adds, each with their bytes.
        size: About how many bytes of JSON it adds.
        head: A document with the fields that it replaces, whatever it is put on top of, but for `values`.
        mask: The field paths of these fields, and of those that it removes.
        status_change: What it makes of what the status follows from.
    """

    change: Change
    context: DocumentContext
    revision: str = ""
    segment: Segment | None = None
    values: Mapping[str, Stored] = field(default_factory=dict)
    parts: Sequence[tuple[PartRef, bytes]] = ()
    size: int = 0
    head: Document = field(default_factory=Document)
    mask: Sequence[str] = ()
    status_change: StatusChange = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "status_change", self.change.status_change)

    @property
    def largest_in_parts(self) -> str:
        """The path of the largest value that it moves to parts."""
        ref = max((ref for ref, _ in self.parts), key=lambda ref: ref.bytes)
        segment = self.segment
        if segment is not None and ref is segment.delete:
            return "remove"
        if segment is not None and ref is segment.events:
            events = list(self.change.events_triggered)
            return in_events(events[0]) if len(events) == 1 else "events_triggered"
        if segment is not None and ref is segment.set and len(self.change.cache) == 1:
            return in_cache(next(iter(self.change.cache)))
        return largest_field([ref])

    def status_inputs_after(self, base: StatusInputs) -> StatusInputs:
        """Return what the status follows from after this write; `base` is that before it."""
        return base.after(self.status_change)

    def gone(self, refs: Iterable[PartRef]) -> list[PartRef]:
        """Return those of the references whose values it replaces: their parts go with the write."""
        return [ref for ref in refs if ref.field in self.values] if self.values else []

    def refs_after(self, refs: Iterable[PartRef]) -> tuple[PartRef, ...]:
        """Return the references of the root after this write; `refs` are those before it."""
        if not (self.values or self.parts):
            return tuple(refs)
        return (*(ref for ref in refs if ref.field not in self.values), *(ref for ref, _ in self.parts))

    def write_transforms(self, transforms: Any, gone: Iterable[PartRef]) -> None:
        """Add the transforms of the root, if it has a log: append the segment to that, and add to the counts.

        Firestore returns their results in this order: log, weight, parts, steps, bytes. `counts_after` reads them.

        Args:
            transforms: The transforms of the write.
            gone: The references that the update replaces.
        """
        if self.segment is None:
            return
        change = self.change
        write_segment(_transform(transforms, "log").append_missing_elements.values.add(), self.segment)
        more = part_count(ref for ref, _ in self.parts) - part_count(gone)
        steps = change.new_steps
        if steps is None:
            steps = len(change.cache) - len({*change.remove})
        _transform(transforms, "weight").increment.integer_value = self.segment.weight()
        _transform(transforms, "parts").increment.integer_value = more
        for name, by in (("steps", steps), ("bytes", self.size if change.new_bytes is None else change.new_bytes)):
            transform = transforms.add()
            transform.field_path = f"summary.{name}"
            transform.increment.integer_value = by

    def counts_after(
        self, weight: int, parts: int, *, refs: Iterable[PartRef], results: Sequence[Any]
    ) -> tuple[int, int]:
        """Return the weight of the log and the count of parts after this write.

        Args:
            weight: The weight before it.
            parts: The count of parts before it.
            refs: The references of the root before it.
            results: What Firestore returned for the transforms; empty if the reply was lost, or if there were none.
        """
        if len(results) > 2:
            return results[1].integer_value, results[2].integer_value
        if self.segment is None:
            return weight, parts
        return weight + self.segment.weight(), self.parts_after(parts, refs)

    def parts_after(self, parts: int, refs: Iterable[PartRef]) -> int:
        """Return the count of parts after this write, given that before it and the references of the root before it."""
        return parts + part_count(ref for ref, _ in self.parts) - part_count(self.gone(refs))


def _transform(transforms: Any, name: str) -> Any:
    transform = transforms.add()
    transform.field_path = f"{PAYLOAD}.{name}"
    return transform


def changed_fields(fields: Mapping[str, Value], written: Mapping[str, Value], mask: Sequence[str]) -> dict[str, Value]:
    """Return the fields of a document after a partial write.

    Args:
        fields: The fields before.
        written: The fields that the write carries.
        mask: Its field paths.
    """
    document, change = Document(fields=fields), Document(fields=written)
    for path in mask:
        *above, key = names_in(path)
        to, source = document.fields, change.fields
        for name in above:  # as Firestore does: if the field is not a map, a path into it replaces it by one
            to, source = to[name].map_value.fields, source[name].map_value.fields
        if key in source:
            to[key].CopyFrom(source[key])
        else:
            to.pop(key, None)
    return dict(document.fields)


def fields_after(fields: Mapping[str, Value], write: Write) -> dict[str, Value]:
    """Return the fields of a document after an update, but for what its transforms count.

    Args:
        fields: The fields before.
        write: The update.
    """
    after = Document(fields=changed_fields(fields, write.update.fields, write.update_mask.field_paths)).fields
    for transform in (each for each in write.update_transforms if each.HasField("append_missing_elements")):
        *above, name = names_in(transform.field_path)
        to = after
        for each in above:
            to = to[each].map_value.fields
        to[name].array_value.values.extend(transform.append_missing_elements.values)
    return dict(after)
