"""The raw protobuf messages of Firestore, of a descriptor pool of our own.

google.cloud.firestore_v1 has them too, beside much that a store does without: importing it takes longer than all else
up to the first save. Its own pool is left alone, so that any version of it can be imported beside this one.

The descriptors are kept in firestore_v1.binpb, a serialized google.protobuf.FileDescriptorSet;
`python -m tests.rpc.descriptors` makes it anew of the google-cloud-firestore that is installed. Fields that a later
Firestore adds are kept as unknown ones, as protobuf does.

Importing this module imports google.protobuf (20 ms), which a store does on a thread when it connects.
"""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    # The classes are built of descriptors when this module is imported; no stubs describe Firestore's.
    from google.protobuf.timestamp_pb2 import Timestamp
    from google.protobuf.wrappers_pb2 import Int32Value

    BatchGetDocumentsRequest: TypeAlias = Any
    BatchGetDocumentsResponse: TypeAlias = Any
    CommitRequest: TypeAlias = Any
    CommitResponse: TypeAlias = Any
    Cursor: TypeAlias = Any
    Document: TypeAlias = Any
    DocumentMask: TypeAlias = Any
    GetDocumentRequest: TypeAlias = Any
    ListenRequest: TypeAlias = Any
    ListenResponse: TypeAlias = Any
    Precondition: TypeAlias = Any
    RunAggregationQueryRequest: TypeAlias = Any
    RunAggregationQueryResponse: TypeAlias = Any
    RunQueryRequest: TypeAlias = Any
    RunQueryResponse: TypeAlias = Any
    StructuredAggregationQuery: TypeAlias = Any
    StructuredQuery: TypeAlias = Any
    Target: TypeAlias = Any
    Value: TypeAlias = Any
    Write: TypeAlias = Any
else:
    from google.protobuf.descriptor_pb2 import FileDescriptorSet
    from google.protobuf.descriptor_pool import DescriptorPool
    from google.protobuf.message_factory import GetMessageClass

    def _pool():
        pool = DescriptorPool()
        for file in FileDescriptorSet.FromString(files(__package__).joinpath("firestore_v1.binpb").read_bytes()).file:
            pool.AddSerializedFile(file.SerializeToString())
        return pool

    _POOL = _pool()

    def _message(name):
        return _with_nested(_POOL.FindMessageTypeByName(name))

    def _with_nested(descriptor):
        """Return the class of a message with those that are nested in it, which protobuf in pure Python leaves out."""
        message = GetMessageClass(descriptor)
        for nested in descriptor.nested_types:
            if not hasattr(message, nested.name):
                setattr(message, nested.name, _with_nested(nested))
        return message

    BatchGetDocumentsRequest = _message("google.firestore.v1.BatchGetDocumentsRequest")
    BatchGetDocumentsResponse = _message("google.firestore.v1.BatchGetDocumentsResponse")
    CommitRequest = _message("google.firestore.v1.CommitRequest")
    CommitResponse = _message("google.firestore.v1.CommitResponse")
    Cursor = _message("google.firestore.v1.Cursor")
    Document = _message("google.firestore.v1.Document")
    DocumentMask = _message("google.firestore.v1.DocumentMask")
    GetDocumentRequest = _message("google.firestore.v1.GetDocumentRequest")
    Int32Value = _message("google.protobuf.Int32Value")
    ListenRequest = _message("google.firestore.v1.ListenRequest")
    ListenResponse = _message("google.firestore.v1.ListenResponse")
    Precondition = _message("google.firestore.v1.Precondition")
    RunAggregationQueryRequest = _message("google.firestore.v1.RunAggregationQueryRequest")
    RunAggregationQueryResponse = _message("google.firestore.v1.RunAggregationQueryResponse")
    RunQueryRequest = _message("google.firestore.v1.RunQueryRequest")
    RunQueryResponse = _message("google.firestore.v1.RunQueryResponse")
    StructuredAggregationQuery = _message("google.firestore.v1.StructuredAggregationQuery")
    StructuredQuery = _message("google.firestore.v1.StructuredQuery")
    Target = _message("google.firestore.v1.Target")
    Timestamp = _message("google.protobuf.Timestamp")
    Value = _message("google.firestore.v1.Value")
    Write = _message("google.firestore.v1.Write")

__all__ = [
    "BatchGetDocumentsRequest",
    "BatchGetDocumentsResponse",
    "CommitRequest",
    "CommitResponse",
    "Cursor",
    "Document",
    "DocumentMask",
    "GetDocumentRequest",
    "Int32Value",
    "ListenRequest",
    "ListenResponse",
    "Precondition",
    "RunAggregationQueryRequest",
    "RunAggregationQueryResponse",
    "RunQueryRequest",
    "RunQueryResponse",
    "StructuredAggregationQuery",
    "StructuredQuery",
    "Target",
    "Timestamp",
    "Value",
    "Write",
    "rest_form",
]


def rest_form(document: Document) -> dict[str, Any]:
    """Return a document as JSON, as Firestore's REST interface has it: its name, its times, and its fields by type.

    Form: https://firebase.google.com/docs/firestore/reference/rest/v1/projects.databases.documents
    """
    from google.protobuf.json_format import MessageToDict  # imported here, since no save needs it

    return dict(MessageToDict(document))
