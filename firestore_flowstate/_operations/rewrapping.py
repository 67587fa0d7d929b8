"""Encrypting what is stored again, with the current key."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from .._collection.collection import Collection, expires_at
from .._commit.commit import PRECONDITION_CODES, if_updated_at
from .._commit.pending_write import PendingWrite, send, withdraw
from .._document.error_texts import with_flow_id
from .._document.parts import part_ids
from .._document.rewrapping import is_current, rewrap_root
from .._document.root import PAYLOAD, is_serialized, read_root, write_segment, write_stored
from .._rpc.gather_or_cancel import gather_or_cancel
from .._rpc.messages import Document, Write
from .._rpc.outcome import Ambiguous, Refused
from ..errors import BackendError, FlowStateDecodeError, FlowStateEncodeError
from ..reports import RewrapReport
from .reading import fetch, unreadable
from .saving import part_writes
from .scanning import scan

_AT_ONCE: Final = 4
_TRIES: Final = 20


async def rewrap(collection: Collection, *, progress: Callable[[int], None] | None) -> RewrapReport:
    """Pack every flow state again whose values are not packed as they would be now. Native documents have none.

    Raises:
        FlowStateDecodeError: A value cannot be read; those before it are done.
        FlowStateEncodeError: A codec or the function of a key failed; likewise.
    """
    done = seen = 0
    native: list[str] = []
    limit = asyncio.Semaphore(_AT_ONCE)

    async def one(document: Document) -> None:
        nonlocal done, seen
        async with limit:
            changed = await _rewrap(collection, document)
        done += changed  # not across the await: the others count too
        seen += 1
        if progress is not None:
            progress(seen)

    async for page in scan(collection, page=20):
        native += [collection.id_of(document) for document in page if not is_serialized(document)]
        await gather_or_cancel(one(document) for document in page if is_serialized(document))
    return RewrapReport(rewrapped=done, unchanged=seen - done, native=native)


async def _rewrap(collection: Collection, found: Document) -> bool:
    id = collection.id_of(found)
    document: Document | None = found
    in_doubt = False
    for _ in range(_TRIES):
        if document is None or not is_serialized(document):
            return False
        out = await _pending_write(collection, id, document)
        if out is None:
            return in_doubt  # where a reply was lost it is so by us
        deadline = collection.deadline(None).plus(out.size() / 2**20)
        try:
            await send(collection, out, if_updated_at(read_root(document).updated), deadline)
        except (Ambiguous, Refused) as failure:
            in_doubt = in_doubt or isinstance(failure, Ambiguous)
            if isinstance(failure, Refused):
                if failure.code not in PRECONDITION_CODES:
                    raise collection.connection.refusal(failure, flow_id=id) from failure
                await withdraw(collection, out, deadline)
            document = await collection.get(id, collection.deadline(None))
        else:
            return True
    raise BackendError(f"The flow state {id!r} was written all the time while it was rewrapped.", flow_id=id)


async def _pending_write(collection: Collection, id: str, document: Document) -> PendingWrite | None:
    """Return the write that packs a document again, or None where it is as it should be or was replaced."""
    context = collection.context(id)
    try:
        root = read_root(document)
        resolved = await fetch(collection, id, root.refs, collection.deadline(None))
        if resolved is None or is_current(root, resolved, context):
            return None
        rewrapped = rewrap_root(root, resolved, context)
    except FlowStateDecodeError as error:
        raise unreadable(error, id) from error
    except FlowStateEncodeError as error:
        raise with_flow_id(error, id) from error.__cause__
    write = Write()
    write.update.name = document.name
    payload = write.update.fields[PAYLOAD].map_value.fields
    for name, stored in rewrapped.values.items():
        write_stored(payload[name], stored)
    segments = payload["log"].array_value.values
    for segment in rewrapped.log:
        write_segment(segments.add(), segment)
    payload["weight"].integer_value = sum(segment.weight() for segment in rewrapped.log)
    payload["parts"].integer_value = rewrapped.spill.count
    names = [*rewrapped.values, "log", "weight", "parts"]
    write.update_mask.field_paths.extend(f"{PAYLOAD}.{name}" for name in names)
    if context.payloads.keyring is not None:
        write.update_mask.field_paths.append("summary.errorLine")  # not to be left in the clear
    gone = [collection.part_name(id, part) for part in part_ids(rewrapped.gone)]
    return PendingWrite(
        id=id,
        root=write,
        revision=root.revision,
        replaces=False,
        parts=part_writes(collection, id, rewrapped.spill.moved),
        expire_at=expires_at(document.fields),
        gone=gone,
    )
