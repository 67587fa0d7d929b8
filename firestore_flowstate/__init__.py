"""Keep the state of running flows in Google Cloud Firestore.

Genkit's FlowStateStore contract (save, load, list) for Python: lossless, safe with many writers, and usable
from any event loop, thread or worker process. Start with `FirestoreFlowStateStore`. Durable flows, which run on
such a store, are in `firestore_flowstate.flows`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._version import __version__ as __version__
from .codecs import PayloadCodec
from .errors import (
    AccessDeniedError,
    BackendError,
    DeadlineError,
    EmulatorError,
    FlowStateBatchError,
    FlowStateConflictError,
    FlowStateDecodeError,
    FlowStateEncodeError,
    FlowStateError,
    FlowStateExistsError,
    FlowStateNotFoundError,
    FlowStateTooLargeError,
    FlowStateWarning,
    InvalidContinuationTokenError,
    InvalidFlowIdError,
    InvalidQueryError,
    MissingIndexError,
    QuotaError,
    StoreUnavailableError,
)
from .models import BlockedOnStep, CacheEntry, FlowResult, FlowState, FlowStateExecution, FlowStatus, Operation
from .pages import FlowStateQueryResponse, FlowStateSummary, FlowStateSummaryResponse
from .query import FlowStateQuery
from .reports import GcReport, MigrateReport, PurgeReport, RewrapReport
from .store import FlowStateStore, VersionedFlowStateStore
from .unset import UNSET, Unset

if TYPE_CHECKING:
    from .blocking import SyncFlowStateStore
    from .firestore import FirestoreFlowStateStore
    from .memory import MemoryFlowStateStore
    from .settings import FlowStateSettings

__all__ = [
    "UNSET",
    "AccessDeniedError",
    "BackendError",
    "BlockedOnStep",
    "CacheEntry",
    "DeadlineError",
    "EmulatorError",
    "FirestoreFlowStateStore",
    "FlowResult",
    "FlowState",
    "FlowStateBatchError",
    "FlowStateConflictError",
    "FlowStateDecodeError",
    "FlowStateEncodeError",
    "FlowStateError",
    "FlowStateExecution",
    "FlowStateExistsError",
    "FlowStateNotFoundError",
    "FlowStateQuery",
    "FlowStateQueryResponse",
    "FlowStateSettings",
    "FlowStateStore",
    "FlowStateSummary",
    "FlowStateSummaryResponse",
    "FlowStateTooLargeError",
    "FlowStateWarning",
    "FlowStatus",
    "GcReport",
    "InvalidContinuationTokenError",
    "InvalidFlowIdError",
    "InvalidQueryError",
    "MemoryFlowStateStore",
    "MigrateReport",
    "MissingIndexError",
    "Operation",
    "PayloadCodec",
    "PurgeReport",
    "QuotaError",
    "RewrapReport",
    "StoreUnavailableError",
    "SyncFlowStateStore",
    "Unset",
    "VersionedFlowStateStore",
]

_LAZY = {  # names whose modules import more than pydantic: each is imported when its name is first used
    "FirestoreFlowStateStore": "firestore",
    "FlowStateSettings": "settings",
    "MemoryFlowStateStore": "memory",
    "SyncFlowStateStore": "blocking",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f".{_LAZY[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
