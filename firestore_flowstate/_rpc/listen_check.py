"""What an emulator tells over Listen, compared with what is stored: a stream that has missed something is opened again.

The emulator loses changes on the way, and at times all that follows on a stream. It reads the documents of a new
target, and is told of changes only after that: what is committed in between never comes. It also answers requests on a
stream while it sends changes on it, from several threads, and what it sends is then garbled or ends without an error.
Google's own client was never told of the write of 2 of 400 documents that were written while their watch began, and of
24 streams over which 300 documents were watched, 16 at a time, 21 fell silent: `tests/rpc/emulator_listen.py` counts
them. Firestore itself is not known to lose anything, and is not checked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

from google.protobuf.message import DecodeError

from .channel import Channel
from .database import Metadata
from .deadline import monotonic, sleep
from .messages import (
    BatchGetDocumentsRequest,
    BatchGetDocumentsResponse,
    RunQueryRequest,
    RunQueryResponse,
)
from .outcome import CallFailed
from .watched import Versions, Watched, versions_of

CHECK_REASON: Final = ("x-goog-request-reason", "check-listen")
"""Metadata that tells these reads from others: https://cloud.google.com/apis/docs/system-parameters."""

_PAUSE: Final = 1.0  # seconds between two checks
_PATIENCE: Final = 2.0  # seconds that a change may be on its way; each stream that was given up doubles it
_LONGEST_PATIENCE: Final = 32.0  # seconds, in which any machine has sent what it has
_TIMEOUT: Final = 10.0  # seconds that a read may take
_NO_FIELDS: Final = "__name__"  # a mask of this alone leaves the name and the times


class _Difference(NamedTuple):
    since: float
    told: Versions | None


class ListenCheck:
    """Compares the targets of one stream after another with what is stored.

    Args:
        channel: The channel to read over.
        database: The resource name of the database.
        metadata: The metadata of each read.
    """

    def __init__(self, channel: Channel, *, database: str, metadata: Metadata) -> None:
        self._channel = channel
        self._database = database
        self._metadata = (*metadata, CHECK_REASON)
        self._patience = _PATIENCE

    async def find_missing(self, targets: Callable[[], Iterable[Watched]]) -> CallFailed:
        """Wait until a target has for some seconds not been told what is stored; return why its stream is given up."""
        differences: dict[Watched, _Difference] = {}
        while True:
            await sleep(_PAUSE)
            try:
                differences = await self._compare(list(targets()), differences)
            except (CallFailed, DecodeError):  # a server that is killed may send what cannot be read
                differences = {}
                continue
            if not differences:
                self._patience = _PATIENCE
            elif monotonic() - min(difference.since for difference in differences.values()) > self._patience:
                self._patience = min(2 * self._patience, _LONGEST_PATIENCE)
                return CallFailed("UNAVAILABLE", "the emulator has not told of a change")

    async def _compare(
        self, targets: list[Watched], before: Mapping[Watched, _Difference]
    ) -> dict[Watched, _Difference]:
        """Return the targets that have been told something else than what is stored, and since when nothing more."""
        began = monotonic()
        told = {watched: watched.versions for watched in targets}
        stored = await self._stored([watched for watched in targets if watched.target.HasField("documents")])
        differences = {}
        for watched in targets:
            if watched.target.HasField("documents"):
                names = watched.target.documents.documents
                versions: Versions = {name: stored[name] for name in names if name in stored}
            else:
                versions = await self._found(watched)
            if versions != told[watched]:
                known = before.get(watched)
                if known is None or known.told != told[watched]:
                    known = _Difference(began, told[watched])
                differences[watched] = known
        return differences

    async def _stored(self, targets: Iterable[Watched]) -> Versions:
        """Read the documents of targets that name them."""
        request = BatchGetDocumentsRequest(database=self._database)
        request.documents.extend({name for watched in targets for name in watched.target.documents.documents})
        if not request.documents:
            return {}
        request.mask.field_paths.append(_NO_FIELDS)
        answers = map(BatchGetDocumentsResponse.FromString, await self._read("BatchGetDocuments", request))
        return versions_of(answer.found for answer in answers if answer.HasField("found"))

    async def _found(self, watched: Watched) -> Versions:
        """Read the documents that a target's query finds."""
        query = watched.target.query
        request = RunQueryRequest(parent=query.parent, structured_query=query.structured_query)
        del request.structured_query.select.fields[:]
        request.structured_query.select.fields.add().field_path = _NO_FIELDS
        answers = map(RunQueryResponse.FromString, await self._read("RunQuery", request))
        return versions_of(answer.document for answer in answers if answer.HasField("document"))

    async def _read(self, name: str, request: Any) -> list[bytes]:
        return await self._channel.call(name, request.SerializeToString(), metadata=self._metadata, timeout=_TIMEOUT)
