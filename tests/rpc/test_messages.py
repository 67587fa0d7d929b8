"""The messages of Firestore, of a descriptor pool of our own: what they hold, and what is beside them."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorSet

from firestore_flowstate._rpc import messages
from firestore_flowstate._rpc.calling import serialized_commit
from tests.rpc.descriptors import KEPT, installed

Fields = dict[str, tuple[int, int, int, str, bool]]


def fields_of(messages: FileDescriptorSet) -> Fields:
    """The fields of all messages, by full name, with what decides how they look on the wire."""
    found: Fields = {}

    def add(message: DescriptorProto, name: str) -> None:
        for field in message.field:
            in_oneof = field.HasField("oneof_index")
            type_name = field.type_name.removeprefix(".")  # which protobuf in pure Python leaves out
            found[f"{name}.{field.name}"] = (field.number, field.type, field.label, type_name, in_oneof)
        for nested in message.nested_type:
            add(nested, f"{name}.{nested.name}")

    for file in messages.file:
        for message in file.message_type:
            add(message, f"{file.package}.{message.name}")
    return found


def test_descriptors_are_those_of_google() -> None:
    """Every field is on the wire what it is to the google-cloud-firestore installed, which may be older or newer."""
    kept = fields_of(FileDescriptorSet.FromString(KEPT.read_bytes()))
    theirs = fields_of(installed())
    both = kept.keys() & theirs.keys()

    assert 200 < len(both)
    assert {name: theirs[name] for name in both} == {name: kept[name] for name in both}


def test_every_message_is_used() -> None:
    """A class is made for what the package uses. The descriptors have the rest, and protobuf makes it when asked."""
    package = KEPT.parents[1]
    trees = [ast.parse(path.read_text()) for path in package.rglob("*.py")]
    imports = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    used = {alias.name for node in imports if (node.module or "").endswith("messages") for alias in node.names}

    assert set(messages.__all__) == used


def run(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-W", "ignore::FutureWarning", "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


OURS = """
from firestore_flowstate._rpc import messages
write = messages.Write(update=messages.Document(name="n", fields={"a": messages.Value(integer_value=1)}))
write.update.fields["m"].map_value.fields["t"].timestamp_value.seconds = 7
ours = messages.CommitRequest(database="d", writes=[write])
assert messages.CommitRequest.FromString(ours.SerializeToString()) == ours
assert messages.Timestamp(seconds=7).ToJsonString() == "1970-01-01T00:00:07Z"
"""
THEIRS = """
from google.cloud import firestore
from google.cloud.firestore_v1 import types
types.CommitRequest.pb()
"""
SAME = "print(types.CommitRequest.deserialize(ours.SerializeToString()).writes[0].update.fields['a'].integer_value)"


@pytest.mark.parametrize("implementation", ["upb", "python"])
@pytest.mark.parametrize("first", ["ours", "theirs"])
def test_google_cloud_firestore_goes_beside(implementation: str, first: str) -> None:
    """Both have their classes and understand each other's bytes, whichever is imported first."""
    code = OURS + THEIRS if first == "ours" else THEIRS + OURS

    assert "1\n" == run(code + SAME, PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION=implementation)


@pytest.mark.parametrize("implementation", ["upb", "python"])
def test_everything_can_be_imported_with_each_protobuf(implementation: str) -> None:
    """The one in pure Python, which Google's client takes too, has no classes in classes but those it is told of."""
    code = """
from firestore_flowstate._operations import import_all
from firestore_flowstate._rpc import connection
from firestore_flowstate._rpc.messages import StructuredQuery
import_all()
print(type(StructuredQuery().where.field_filter) is StructuredQuery.FieldFilter)
"""

    assert "True\n" == run(code, PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION=implementation)


def test_messages_need_nothing_but_protobuf() -> None:
    """google.cloud.firestore_v1 takes longer to import than all else before a first save."""
    loaded = run(OURS + "import sys; print(*sys.modules)").split()

    assert "google.protobuf" in loaded
    assert [] == [name for name in loaded if name.startswith(("google.cloud.", "google.api_core", "proto.", "grpc"))]


def test_fields_that_are_not_known_are_kept() -> None:
    """A later Firestore may add fields to its documents. What is read and sent back keeps them."""
    code = OURS + (
        "added = ours.SerializeToString(deterministic=True) + bytes([0xFA, 0x7F, 1, 120])  # field 2047, a string\n"
        "print(messages.CommitRequest.FromString(added).SerializeToString(deterministic=True) == added)"
    )

    assert "True\n" == run(code)


@pytest.mark.parametrize("size", [0, 1, 100, 127, 128, 16_000, 20_000, 3_000_000])
def test_a_commit_put_together_by_hand_is_the_one_that_protobuf_makes(size: int) -> None:
    """Protobuf would serialize each write to put it into the request, and read it again."""
    written = messages.Write()
    written.update.name = "documents/flows/a"
    written.update.fields["text"].string_value = "x" * size
    writes = [written, messages.Write(delete="documents/flows/b"), messages.Write()]

    expected = messages.CommitRequest(database="projects/p/databases/d", writes=writes)
    serialized = serialized_commit("projects/p/databases/d", [written.SerializeToString(), *writes[1:]])

    assert expected == messages.CommitRequest.FromString(serialized)
    assert expected.SerializeToString() == serialized


@pytest.mark.parametrize("implementation", ["upb", "python"])
def test_a_commit_put_together_by_hand_has_each_kind_of_write(implementation: str) -> None:
    """It has masks with and without paths, preconditions, transforms and deletions, with each protobuf."""
    code = """
from firestore_flowstate._rpc.calling import serialized_commit
from firestore_flowstate._rpc.messages import CommitRequest, Document, Precondition, Timestamp, Write

update = Write(update=Document(name="a"), current_document=Precondition(exists=False))
partial = Write(update=Document(name="b"), current_document=Precondition(update_time=Timestamp(seconds=7, nanos=1)))
partial.update_mask.field_paths.extend(["x", "`y.z`"])
transform = partial.update_transforms.add(field_path="n")
transform.increment.integer_value = -1
transform = partial.update_transforms.add(field_path="log")
transform.append_missing_elements.values.add().string_value = "x" * 200
unchanged = Write(update=Document(name="c"), current_document=Precondition(exists=True))
unchanged.update_mask.SetInParent()
writes = [update, partial, unchanged, Write(delete="d", current_document=Precondition(exists=True))]

expected = CommitRequest(database="db", writes=writes).SerializeToString(deterministic=True)
print(serialized_commit("db", writes) == expected)
print(serialized_commit("db", [write.SerializeToString() for write in writes]) == expected)
print(CommitRequest.FromString(expected).writes[2].HasField("update_mask"))
"""

    assert "True\nTrue\nTrue\n" == run(code, PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION=implementation)
