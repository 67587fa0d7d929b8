"""The collection of a store: the names of its documents, how its values are packed, and the warnings about it."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import Any, Final
from zlib import crc32

from .._document.builtin_codecs import Keyring
from .._document.head import expiry
from .._document.layouts import Layout
from .._document.payload import DocumentContext, Payloads
from .._document.stored_document import StoredDocument
from .._document.stored_values import MAX_STATE_PARTS, PARTS
from .._limits import MAX_DOCUMENT_BYTES
from .._rpc.connection import Connection
from .._rpc.deadline import Deadline
from .._rpc.messages import Timestamp
from .._rpc.read_time import ReadTime, settled_time
from ..errors import FlowStateDecodeError, FlowStateWarning
from ..models import FlowStatus
from ..settings import EMULATOR_REQUEST_BYTES, MAX_REQUEST_BYTES, FlowStateSettings
from .local_lock import LocalLocks

LATEST_DELETION: Final = timedelta(hours=72)
"""Firestore deletes "typically within 24 hours" of the expiry (https://cloud.google.com/firestore/docs/ttl)."""

SETTLED: Final = "flowstate-settled"
"""An id that no flow state has. The emulator is asked for it to learn its time; see `settled_time`."""

MOST_LEFT_OUT: Final = 1_000  # ids that are remembered, so that the memory of a process that runs on is bounded

_REQUEST_MARGIN = 64 * 1024  # bytes: more than a commit has besides its writes

_PART_ID_BYTES = 15  # 11 random characters, a hyphen, and a number up to 999
_BESIDE_NAMES = 128  # bytes: more than a deletion and a touch of a part have beside its name, together


@dataclass
class MissingTtlWarning:
    """Warns once, when a list meets a state that should have been deleted long ago.

    No call of Firestore's data interface tells whether there is a TTL policy. A state that is still stored long after
    its expiry suggests that there is none.
    """

    _warned: bool = False

    def saw(self, expire_at: datetime, now: datetime, *, path: str) -> None:
        """Note an expired document in the collection with this path."""
        if self._warned or now - expire_at < LATEST_DELETION:
            return
        self._warned = True
        warnings.warn(
            f"States of {path!r} that expired more than {LATEST_DELETION // timedelta(hours=1)} hours ago are still "
            "stored: it seems that no TTL policy deletes them, and lists are billed for them. Deploy the one that "
            "`flowstate indexes` prints, or call purge(). See docs/retention.md.",
            FlowStateWarning,
            stacklevel=2,
        )


@dataclass
class MixedLayoutsWarning:
    """Warns once, if a store that has met native documents is about to write a serialized one beside them.

    If Genkit JS uses the collection, it cannot read that one.

    Attributes:
        met_genkits: Whether the store has met a document that Genkit JS reads.
    """

    met_genkits: bool = False
    _warned: bool = False

    def about_to_write(self, layout: Layout, *, path: str) -> None:
        """Note that a document is about to be written whole, in this layout, to the collection with this path."""
        if self._warned or layout.is_genkits or not self.met_genkits:
            return
        self._warned = True
        warnings.warn(
            f"Native documents, such as Genkit JS writes, are in {path!r}, and this store is about to write the "
            "serialized layout there, which Genkit JS cannot read. If Genkit JS uses the collection, set "
            'layout="native" (FLOWSTATE_LAYOUT). If it does not any more, `flowstate migrate` ends the mixture. '
            "See docs/migration.md.",
            FlowStateWarning,
            stacklevel=2,
        )


@dataclass
class LeftOutWarning:
    """Warns once of each flow state that `due` leaves out, since it cannot be read, but of 1,000 at most."""

    _warned: set[str] = field(default_factory=set)

    def leaves_out(self, id: str, error: FlowStateDecodeError) -> None:
        """Note that the flow state under an id is left out."""
        if id in self._warned or len(self._warned) >= MOST_LEFT_OUT:
            return
        self._warned.add(id)
        warnings.warn(
            f"due() leaves a flow state out: {error} `flowstate doctor` says more.", FlowStateWarning, stacklevel=2
        )


@dataclass(frozen=True, kw_only=True)
class Collection:
    """A collection of flow states in one database.

    Attributes:
        connection: Calls Firestore.
        settings: The settings of the store.
        payloads: Packs and unpacks values.
        documents: ``projects/P/databases/D/documents``.
        local_locks: Let writers to one flow state that share this collection wait for each other.
        missing_ttl: Warns if expired states are never deleted.
        mixing: Warns if the layouts are mixed.
        left_out: Warns of states that `due` leaves out.
        path: The path of the collection relative to the database.
        parent: The resource name that queries run below.
        collection_id: The last name of the path.
        request_bytes: How many bytes the writes of one commit may have, if they can be sent in several.
        largest_write: How many bytes one write may have.
    """

    connection: Connection
    settings: FlowStateSettings
    payloads: Payloads
    documents: str
    local_locks: LocalLocks = field(default_factory=LocalLocks)
    missing_ttl: MissingTtlWarning = field(default_factory=MissingTtlWarning)
    mixing: MixedLayoutsWarning = field(default_factory=MixedLayoutsWarning)
    left_out: LeftOutWarning = field(default_factory=LeftOutWarning)
    path: str = field(init=False)
    parent: str = field(init=False)
    collection_id: str = field(init=False)
    request_bytes: int = field(init=False)
    largest_write: int = field(init=False)

    def __post_init__(self) -> None:
        path = self.settings.collection
        above, _, last = path.rpartition("/")
        object.__setattr__(self, "path", path)
        object.__setattr__(self, "parent", f"{self.documents}/{above}" if above else self.documents)
        object.__setattr__(self, "collection_id", last)
        largest = EMULATOR_REQUEST_BYTES if self.connection.is_emulator else MAX_REQUEST_BYTES
        object.__setattr__(self, "largest_write", largest - _REQUEST_MARGIN)
        limit = min(self.settings.max_request_bytes, largest)
        room = limit - _REQUEST_MARGIN if limit > 4 * _REQUEST_MARGIN else limit * 3 // 4
        object.__setattr__(self, "request_bytes", room)

    def name(self, id: str) -> str:
        """Return the resource name of a flow state's document."""
        return f"{self.documents}/{self.path}/{id}"

    def path_of(self, id: str) -> str:
        """Return the path of a flow state's document relative to the database."""
        return f"{self.path}/{id}"

    def part_name(self, id: str, part: str) -> str:
        """Return the resource name of a part of a flow state."""
        return f"{self.documents}/{self.path}/{id}/{PARTS}/{part}"

    def context(self, id: str) -> DocumentContext:
        """Return the document context of a flow state: its path, its shard, and how its values are packed."""
        limit = partial(self.most_parts, id)
        return DocumentContext(path=self.path_of(id), payloads=self.payloads, shard=self.shard_of(id), limit=limit)

    def most_parts(self, id: str) -> int:
        """Return how many parts a flow state may be in, so that a commit has room for what is done to all of them.

        The commit that replaces the root deletes its old parts and touches its new ones, which were sent before.
        """
        name = len(self.part_name(id, "").encode()) + _PART_ID_BYTES
        return min(MAX_STATE_PARTS, (self.largest_write - MAX_DOCUMENT_BYTES) // (2 * name + _BESIDE_NAMES))

    def shard_of(self, id: str) -> int:
        """Return the shard that a flow state is written to. It follows from the id and the number of shards alone."""
        return crc32(id.encode()) % (self.settings.write_shards or self.settings.shards)

    def expire_at(self, status: FlowStatus, own: float | None) -> datetime | None:
        """Return when a state that is written now expires; `own` is its flow's own duration, in milliseconds."""
        now = datetime.now(timezone.utc)
        return expiry(status, now, own=own, after=self.settings.expire_after, when=self.settings.expire_when)

    def deadline(self, timeout: float | None = None) -> Deadline:
        """Return the deadline of a call that starts now."""
        return Deadline.after(self.settings.timeout if timeout is None else timeout)

    def read_time(self) -> ReadTime:
        """Return a ReadTime for several reads that are to see one moment."""
        name = self.name(SETTLED)
        return ReadTime(lambda deadline: settled_time(self.connection, name, deadline))

    async def get(
        self,
        id: str,
        deadline: Deadline,
        *,
        mask: Sequence[str] | None = None,
        read_time: Timestamp | None = None,
    ) -> StoredDocument | None:
        """Return the document under an id, even if it has expired; None if there is none.

        Args:
            id: The flow state.
            deadline: When to give up.
            mask: The field paths to read; None: all.
            read_time: Read the document as it was at that time; None: as it is now.
        """
        found = await self.connection.get(self.name(id), deadline=deadline, flow_id=id, mask=mask, read_time=read_time)
        return None if found is None else StoredDocument(found)

    async def get_each(
        self, ids: Iterable[str], deadline: Deadline, *, mask: Sequence[str] | None = None
    ) -> list[StoredDocument]:
        """Return the documents under the ids, by one call and in no particular order. Absent ones are left out."""
        found = await self.connection.batch_get(list(map(self.name, ids)), deadline=deadline, mask=mask)
        return list(map(StoredDocument, found.values()))

    def reference_of(self, name: str) -> Any:
        """Return a DocumentReference of Google's client to the document with a resource name."""
        return self.connection.reference(name)


def collection_of(connection: Connection, settings: FlowStateSettings, documents: str) -> Collection:
    """Return the collection that the settings name."""
    keyring = None
    if settings.keys:
        keyring = Keyring(settings.keys, settings.current_key or next(iter(settings.keys)))
    payloads = Payloads(
        compress_over=settings.compress_over,
        keyring=keyring,
        require_encryption=settings.require_encryption,
        codecs=settings.codecs,
        retired=settings.retired_codecs,
    )
    return Collection(connection=connection, settings=settings, payloads=payloads, documents=documents)
