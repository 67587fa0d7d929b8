"""Compacting the log of a stored flow state: maintenance, which changes no revision and may fail."""

from __future__ import annotations

from .._collection.collection import Collection, expires_at
from .._commit.backoff import Backoff
from .._commit.commit import PRECONDITION_CODES, if_updated_at
from .._commit.pending_write import PendingWrite, send, withdraw
from .._document.compaction import compact_log, joinable
from .._document.error_texts import with_flow_id
from .._document.parts import part_ids
from .._document.root import PAYLOAD, is_serialized, read_root, write_segment
from .._document.version import StatusInputs, Version
from .._rpc.deadline import Deadline
from .._rpc.messages import Write
from .._rpc.outcome import Ambiguous, Refused
from ..errors import BackendError, FlowStateDecodeError, FlowStateEncodeError
from .reading import fetch, unreadable, version_of
from .saving import part_writes

_TRIES = 5
_PATIENCE = 5.0  # seconds that a writer gives to maintenance, its own write being stored already


async def compact(collection: Collection, id: str, deadline: Deadline, *, urgent: bool = False) -> Version | None:
    """Compact the log of a flow state; return the version it has then, or None where it was not compacted.

    Args:
        collection: Where.
        id: The flow state.
        deadline: When to give up.
        urgent: Whether somebody waits for the room: then failures are raised, and tries are more.
    """
    if not urgent:
        deadline = Deadline.after(min(_PATIENCE, deadline.remaining()))
    backoff = Backoff(deadline)
    for _ in range(_TRIES if urgent else 2):
        try:
            version = await _compact_once(collection, id, deadline)
        except (BackendError, FlowStateDecodeError, FlowStateEncodeError) as error:
            if not urgent:
                return None  # the next writer over the limit compacts
            if isinstance(error, FlowStateDecodeError):
                raise unreadable(error, id) from error
            if isinstance(error, FlowStateEncodeError):  # nested deeper than is ever written
                raise with_flow_id(error, id) from error.__cause__
            raise
        except (Ambiguous, Refused) as failure:
            if isinstance(failure, Refused) and failure.code not in PRECONDITION_CODES:
                if urgent:
                    raise collection.connection.refusal(failure, flow_id=id) from failure
                return None
        else:
            return version
        await backoff.pause()
    return None


async def _compact_once(collection: Collection, id: str, deadline: Deadline) -> Version | None:
    document = await collection.get(id, deadline)
    if document is None or not is_serialized(document):
        return None
    root = read_root(document)
    resolved = await fetch(collection, id, joinable(root), deadline)
    if resolved is None:
        return None  # replaced meanwhile
    compacted = compact_log(root, resolved, collection.context(id))
    write = Write()
    write.update.name = document.name
    payload = write.update.fields[PAYLOAD].map_value.fields
    segments = payload["log"].array_value
    segments.SetInParent()
    for segment in compacted.log:
        write_segment(segments.values.add(), segment)
    gone = part_ids(compacted.gone)
    payload["weight"].integer_value = compacted.weight()
    payload["parts"].integer_value = max(0, root.part_count - len(gone)) + compacted.spill.count
    write.update_mask.field_paths.extend([f"{PAYLOAD}.log", f"{PAYLOAD}.weight", f"{PAYLOAD}.parts"])
    if compacted.steps is not None:  # updates could only count what they set
        write.update.fields["summary"].map_value.fields["steps"].integer_value = compacted.steps
        write.update_mask.field_paths.append("summary.steps")
    if compacted.grown:
        summary = document.fields["summary"].map_value.fields
        size = max(0, summary["bytes"].integer_value + compacted.grown) if "bytes" in summary else 0
        write.update.fields["summary"].map_value.fields["bytes"].integer_value = size
        write.update_mask.field_paths.append("summary.bytes")
    out = PendingWrite(
        id=id,
        root=write,
        revision=root.revision,
        replaces=False,
        parts=part_writes(collection, id, compacted.spill.moved),
        expire_at=expires_at(document.fields),
        gone=[collection.part_name(id, name) for name in gone],
    )
    try:
        result = await send(collection, out, if_updated_at(root.updated), deadline)
    except Refused:
        if out.parts:
            await withdraw(collection, out, deadline)
        raise
    expected = version_of(document, root, StatusInputs("", blocked=False, executed=False))
    lost = {ref.name for ref in compacted.gone}
    refs = (*(ref for ref in root.refs if ref.name not in lost), *compacted.spill.refs)
    return Version(
        updated=result.updated,
        revision=root.revision,
        layout="serialized",
        status_inputs=expected.status_inputs,
        weight=compacted.weight(),
        part_count=payload["parts"].integer_value,
        part_refs=refs,
    )
