"""The expiry of parts: they outlive their root, and never go before it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from .._document.parts import outlived
from .._rpc.deadline import Deadline
from .._rpc.messages import Write
from .._rpc.outcome import Ambiguous, Refused
from ..errors import BackendError
from .backoff import Backoff
from .collection import Collection


async def set_parts_expiry(
    collection: Collection, id: str, parts: Sequence[str], expire_at: datetime, deadline: Deadline
) -> None:
    """Let the parts expire some days after their root, which expires already. Where that fails, gc finds them."""
    writes = [_expiry(collection, id, part, outlived(expire_at)) for part in parts]
    try:
        await collection.connection.commit(writes, deadline=deadline, flow_id=id)
    except (Refused, Ambiguous, BackendError):
        return


async def clear_parts_expiry(collection: Collection, id: str, parts: Sequence[str], deadline: Deadline) -> None:
    """Let the parts stay, before their root is told to stay: at no time may they go before it."""
    writes = [_expiry(collection, id, part, None) for part in parts]
    backoff = Backoff(deadline)
    while True:
        try:
            await collection.connection.commit(writes, deadline=deadline, flow_id=id)
        except Ambiguous:
            await backoff.pause()
        except Refused:
            return  # a part is gone: so is the version at hand, which the write of the root will find
        else:
            return


def _expiry(collection: Collection, id: str, part: str, expire_at: datetime | None) -> Write:
    write = Write()
    write.update.name = collection.part_name(id, part)
    if expire_at is not None:
        write.update.fields["expireAt"].timestamp_value.FromDatetime(expire_at)
    write.update_mask.field_paths.append("expireAt")
    write.current_document.exists = True
    return write
