"""Sound documents of every form that is stored, as Firestore's own messages: what mutations start from."""

from __future__ import annotations

import base64
import copy
import gzip
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any, Final
from unittest.mock import patch

from google.protobuf.json_format import ParseDict
from hypothesis import strategies as st

from firestore_flowstate import FlowState, FlowStateEncodeError
from firestore_flowstate._document.builtin_codecs import Keyring
from firestore_flowstate._document.difference import Change
from firestore_flowstate._document.native import write_native
from firestore_flowstate._document.payload import DocumentContext, Payloads
from firestore_flowstate._document.serialized import SerializedLayout
from firestore_flowstate._document.serialized_update import pack_update
from firestore_flowstate._document.stored_values import Spill, write_part, write_segment, write_stored
from firestore_flowstate._document.version import Absent, Anything
from firestore_flowstate._own_fields import PAYLOAD
from firestore_flowstate._rpc.messages import Document
from firestore_flowstate.testing import strategies

DATA: Final = Path(__file__).parents[1] / "data"
COLLECTION: Final = "flows"  # what golden ciphertexts are bound to
ID: Final = "flow-1"
KEYS: Final = {"key-1": base64.b64encode(b"0123456789abcdef").decode()}
PARTS: Final = "flowstate-parts"


class Backwards:
    """The codec of golden documents."""

    name = "backwards"

    def encode(self, data: bytes, /) -> bytes:
        return data[::-1]

    def decode(self, data: bytes, /) -> bytes:
        return data[::-1]


KEYRING: Final = Keyring(KEYS, "key-1")
READER: Final = Payloads(compress_over=100, keyring=KEYRING, codecs=(Backwards(),))
"""Reads every form."""


@dataclass
class Stored:
    """A flow state as it is stored.

    Attributes:
        root: Its root document.
        parts: Its parts by their ids.
    """

    root: Document
    parts: dict[str, Document]

    def copy(self) -> Stored:
        return copy.deepcopy(self)

    def documents(self) -> list[Document]:
        return [self.root, *self.parts.values()]


def _golden(folder: str) -> dict[str, Stored]:
    found = {}
    for path in sorted((DATA / folder).glob("*.json*")):
        text = path.read_bytes() if path.suffix == ".json" else gzip.decompress(path.read_bytes())
        if len(text) > 1_000_000:  # a form of which there are smaller ones
            continue
        golden = json.loads(text)
        documents = golden["documents"] if "documents" in golden else {ID: golden["document"]["fields"]}
        found[path.name.partition(".")[0]] = stored_of(documents)
    return found


def stored_of(documents: Mapping[str, Any]) -> Stored:
    """Return documents in the form of the REST interface, of `ID` and its parts by their paths, as messages."""
    parts = {}
    for name, fields in documents.items():
        document = ParseDict({"fields": fields}, Document())
        document.update_time.seconds = 1_795_336_740
        if name == ID:
            root = document
        else:
            parts[name.rpartition("/")[2]] = document
    return Stored(root, parts)


GOLDEN: Final = {**_golden("format-v1"), **_golden("genkit-js")}


@st.composite
def stored_states(draw: st.DrawFn) -> Stored:
    """Flow states of any form: golden ones, and new ones in either layout, packed in any way."""
    if draw(st.booleans()):
        return GOLDEN[draw(st.sampled_from(sorted(GOLDEN)))].copy()
    state = draw(strategies.flow_states())
    if draw(st.integers(0, 3)) == 0 and (native := _native(state)) is not None:
        return native
    return _serialized(draw, state)


def _native(state: FlowState) -> Stored | None:
    document = Document()
    try:
        write_native(document.fields, state)
    except FlowStateEncodeError:
        return None
    document.update_time.seconds = 1_795_336_740
    return Stored(document, {})


@contextmanager
def _of_no_chance() -> Iterator[None]:
    """Make the same ids and nonces each time: Hypothesis draws an example again, and expects the same documents."""
    random = Random(0)  # nothing is kept secret
    with patch.object(os, "urandom", random.randbytes), patch.object(secrets, "token_bytes", random.randbytes):
        yield


def _serialized(draw: st.DrawFn, state: FlowState) -> Stored:
    payloads = Payloads(
        compress_over=draw(st.sampled_from([0, 30, 10**9])),
        keyring=KEYRING if draw(st.integers(0, 3)) == 0 else None,
        codecs=(Backwards(),) if draw(st.integers(0, 3)) == 0 else (),
    )
    context = DocumentContext(path=f"{COLLECTION}/{ID}", payloads=payloads)
    document = Document()
    expected = Absent() if draw(st.booleans()) else Anything()
    changes = [
        Change(
            cache=draw(st.dictionaries(strategies.step_names(), strategies.cache_entries(), max_size=2)),
            remove=draw(st.lists(strategies.step_names(), max_size=2)),
        )
        for _ in range(draw(st.integers(0, 2)))
    ]
    moved = draw(st.lists(st.sampled_from(["input", "operation", "executions"]), max_size=2, unique=True))
    counts = [draw(st.integers(1, 3)) for _ in moved]
    with _of_no_chance():
        SerializedLayout().write_state(document, state, context, expected=expected, expire_at=None)
        document.update_time.seconds = 1_795_336_740
        log = document.fields[PAYLOAD].map_value.fields["log"].array_value.values
        for change in changes:
            write_segment(log.add(), pack_update(change, context).segment)
        stored = Stored(document, {})
        for name, count in zip(moved, counts, strict=True):
            _move_to_parts(stored, name, count)
    return stored


def _move_to_parts(stored: Stored, name: str, count: int) -> None:
    """Put a value into parts that could have stayed in the root: readers take parts of any size."""
    value = stored.root.fields[PAYLOAD].map_value.fields.get(name)
    if value is None:
        return
    data = value.string_value.encode() or value.bytes_value
    spill = Spill(room=0)
    ref = spill.move(name, data)
    for index in range(count):
        part = Document()
        write_part(part, data, 0)
        part.fields["data"].bytes_value = data[index * len(data) // count : (index + 1) * len(data) // count]
        stored.parts[f"{ref.name}-{index}"] = part
    value.Clear()
    write_stored(value, replace(ref, count=count))
