"""The raw protobuf messages of Firestore, taken out of the proto-plus classes that google-cloud-firestore has.

Importing this module imports google.cloud.firestore_v1 (0.2 s). `Connection.documents` has done so on a thread:
import this module after it, inside functions, and no event loop is held up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from google.protobuf.timestamp_pb2 import Timestamp
from google.protobuf.wrappers_pb2 import Int32Value, Int64Value

if TYPE_CHECKING:
    # The classes are built from descriptors when google.cloud.firestore_v1 is imported; no stubs describe them.
    ArrayValue: TypeAlias = Any
    BatchGetDocumentsRequest: TypeAlias = Any
    BatchGetDocumentsResponse: TypeAlias = Any
    CommitRequest: TypeAlias = Any
    CommitResponse: TypeAlias = Any
    Cursor: TypeAlias = Any
    Document: TypeAlias = Any
    DocumentMask: TypeAlias = Any
    DocumentTransform: TypeAlias = Any
    FieldTransform: TypeAlias = Any
    GetDocumentRequest: TypeAlias = Any
    ListenRequest: TypeAlias = Any
    ListenResponse: TypeAlias = Any
    MapValue: TypeAlias = Any
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
    WriteResult: TypeAlias = Any
else:
    from google.cloud.firestore_v1 import types

    ArrayValue = types.ArrayValue.pb()
    BatchGetDocumentsRequest = types.BatchGetDocumentsRequest.pb()
    BatchGetDocumentsResponse = types.BatchGetDocumentsResponse.pb()
    CommitRequest = types.CommitRequest.pb()
    CommitResponse = types.CommitResponse.pb()
    Cursor = types.Cursor.pb()
    Document = types.Document.pb()
    DocumentMask = types.DocumentMask.pb()
    DocumentTransform = types.DocumentTransform.pb()
    FieldTransform = types.DocumentTransform.FieldTransform.pb()
    GetDocumentRequest = types.GetDocumentRequest.pb()
    ListenRequest = types.ListenRequest.pb()
    ListenResponse = types.ListenResponse.pb()
    MapValue = types.MapValue.pb()
    Precondition = types.Precondition.pb()
    RunAggregationQueryRequest = types.RunAggregationQueryRequest.pb()
    RunAggregationQueryResponse = types.RunAggregationQueryResponse.pb()
    RunQueryRequest = types.RunQueryRequest.pb()
    RunQueryResponse = types.RunQueryResponse.pb()
    StructuredAggregationQuery = types.StructuredAggregationQuery.pb()
    StructuredQuery = types.StructuredQuery.pb()
    Target = types.Target.pb()
    Value = types.Value.pb()
    Write = types.Write.pb()
    WriteResult = types.WriteResult.pb()

__all__ = [
    "ArrayValue",
    "BatchGetDocumentsRequest",
    "BatchGetDocumentsResponse",
    "CommitRequest",
    "CommitResponse",
    "Cursor",
    "Document",
    "DocumentMask",
    "DocumentTransform",
    "FieldTransform",
    "GetDocumentRequest",
    "Int32Value",
    "Int64Value",
    "ListenRequest",
    "ListenResponse",
    "MapValue",
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
    "WriteResult",
]
