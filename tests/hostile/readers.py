"""All that a store makes of a document that it has read, without a call: each step, and what it may refuse."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Final, TypeVar

from firestore_flowstate import FlowState, FlowStateDecodeError, FlowStateEncodeError, FlowStateError, FlowStateSettings
from firestore_flowstate._backup_line import from_line, to_line
from firestore_flowstate._collection.collection import Collection
from firestore_flowstate._commit.conflict import found_version
from firestore_flowstate._document.compaction import compact_log, is_current, joinable, rewrap_root
from firestore_flowstate._document.difference import Snapshot
from firestore_flowstate._document.encoded_state import encode_state
from firestore_flowstate._document.layouts import LAYOUTS
from firestore_flowstate._document.native import write_native
from firestore_flowstate._document.root import read_root
from firestore_flowstate._document.stored_document import StoredDocument
from firestore_flowstate._document.stored_values import PartRef, resolve, write_part
from firestore_flowstate._document.summary import hidden, summary_of
from firestore_flowstate._document.version import Exactly, Version
from firestore_flowstate._operations.reading import decode, state_of_whole
from firestore_flowstate._rpc.connection import Connection
from firestore_flowstate._rpc.messages import Document
from tests.hostile.sound_documents import COLLECTION, ID, KEYS, READER, Backwards, Stored

Result = TypeVar("Result")
SECONDS: Final = 5.0  # seconds of this thread's own time, to which others on the machine add nothing

_SETTINGS: Final = FlowStateSettings(project="demo-hostile", collection=COLLECTION, keys=KEYS, codecs=(Backwards(),))
_COLLECTION: Final = Collection(
    connection=Connection(_SETTINGS),
    settings=_SETTINGS,
    payloads=READER,
    documents="projects/demo-hostile/databases/(default)/documents",
)
_CONTEXT: Final = _COLLECTION.context(ID)


def within(call: Callable[[], Result]) -> Result:
    """Return what the call returns. Fail if it takes longer than any document may."""
    began = time.thread_time()
    try:
        return call()
    finally:
        assert time.thread_time() - began < SECONDS


def load(stored: Stored) -> FlowState:
    """Return the state as `load` does, once its documents are there."""
    stored.root.name = _COLLECTION.name(ID)
    document = StoredDocument(stored.root)
    return decode(_COLLECTION, document, _resolved(document.read_refs(), stored))


def look_at(stored: Stored) -> None:
    """Do all with a document that lists, writers and maintenance do. Raise what must not be raised."""
    document = stored.root
    document.name = _COLLECTION.name(ID)
    for step in _steps(stored):
        _unless(step, FlowStateDecodeError)
    if StoredDocument(document).layout == "serialized":
        _unless(lambda: _compact(stored), FlowStateDecodeError, FlowStateEncodeError)
        _unless(lambda: _rewrap(stored), FlowStateDecodeError)


def _steps(stored: Stored) -> Iterator[Callable[[], object]]:
    document, collection = StoredDocument(stored.root), _COLLECTION
    yield document.check_layout
    yield lambda: summary_of(document, reference_of=collection.reference_of, where=["owner", "a"])
    yield lambda: (document.expire_at, document.is_live(), document.replaceable())
    yield lambda: (document.root, found_version(collection, document))
    yield lambda: Version.of_document(document, document.status_inputs(_CONTEXT))
    yield lambda: list(hidden(document, shards=1))
    yield lambda: list(hidden(document, shards=4))
    yield lambda: state_of_whole(collection, document)


def use(stored: Stored, state: FlowState) -> None:
    """Show, copy, compare and write a state that was read: it can be stored again, or is refused for its values."""
    document = StoredDocument(stored.root)
    list(LAYOUTS[document.layout].contradictions(document, state))
    assert repr(state)
    copied = state.model_copy(deep=True)
    assert state.model_dump(by_alias=True).keys() == copied.model_dump(by_alias=True).keys()
    _unless(lambda: encode_state(copied), FlowStateEncodeError)
    assert state.expire_at is None or state.status
    version = Version.from_text(state.version or "", _CONTEXT.path)
    assert version is not None
    assert state.version == version.to_text(_CONTEXT.path)
    _unless(lambda: _again(state, version), FlowStateEncodeError)
    _unless(lambda: _natively(state), FlowStateEncodeError)
    _unless(lambda: _in_a_backup(state), FlowStateEncodeError)
    _unless(lambda: _unchanged(state), FlowStateEncodeError)


def _is_same(state: FlowState, other: FlowState) -> None:
    assert encode_state(state) == encode_state(other)  # by text, since NaN is not equal to itself


def _again(state: FlowState, version: Version) -> None:
    """Write the state on top of itself, and read that."""
    again = Stored(Document(), {})
    written = LAYOUTS["serialized"].write_state(
        again.root, state, _CONTEXT, expected=Exactly(version), expire_at=state.expire_at
    )
    for ref, data in written.parts:
        for index, name in enumerate(ref.part_names()):
            write_part(again.parts.setdefault(name, Document()), data, index)
    _is_same(state, load(again))


def _natively(state: FlowState) -> None:
    again = Stored(Document(), {})
    write_native(again.root.fields, state)
    load(again)


def _in_a_backup(state: FlowState) -> None:
    _is_same(state, from_line(to_line(ID, state)).state)


def _unchanged(state: FlowState) -> None:
    assert Snapshot(state).difference(state) is None


def _compact(stored: Stored) -> None:
    root = read_root(stored.root)
    compact_log(root, _resolved(joinable(root), stored), _CONTEXT)


def _rewrap(stored: Stored) -> None:
    root = read_root(stored.root)
    resolved = _resolved(root.refs, stored)
    is_current(root, resolved, _CONTEXT)
    rewrap_root(root, resolved, _CONTEXT)


def _resolved(refs: Sequence[PartRef], stored: Stored) -> dict[str, bytes]:
    resolved = resolve(refs, stored.parts)
    if resolved is None:
        raise FlowStateDecodeError("parts that it refers to are missing")
    return resolved


def _unless(call: Callable[[], object], *refusals: type[FlowStateError]) -> None:
    with suppress(*refusals):
        within(call)
