"""The one place that makes public errors of failed calls: the most specific first, each with what to do in words."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any, Final

from ..errors import (
    AccessDeniedError,
    BackendError,
    DeadlineError,
    FlowStateError,
    MissingIndexError,
    QuotaError,
    StoreUnavailableError,
)
from .deadline import Deadline
from .outcome import PLUGIN_FAILED, CallFailed, Exhausted, Meaning, is_about_headers, means

# Matched from the start of a server's text: further on it may quote the name of a document, which anybody can choose.
_NO_DATABASE: Final = re.compile(r"(?:the )?database \S+ (?:does not exist|was not found)", re.IGNORECASE)
_NO_PROJECT: Final = re.compile(
    r"(?:the |consumer )?'?project\b.{0,120}?\b(?:not found|does not exist|deleted|invalid)|invalid project",
    re.IGNORECASE,
)
_OTHER_MODE: Final = re.compile(r".{0,80}\bdatastore mode", re.IGNORECASE)
_NEEDS_INDEX: Final = re.compile(r"(?:the|this) query requires an? .*index|no matching index", re.IGNORECASE)
_IS_BUILDING: Final = "currently building"
_API_IS_OFF: Final = ("has not been used in project", "it is disabled", "SERVICE_DISABLED")
# The refusal of a query without index ends in a link to the console, whose parameter `create_composite` is a serialized
# google.firestore.admin.v1 Index in base64. That is not a documented interface: if it cannot be read, the error has no
# entry, and its text still has the link.
_LINK: Final = re.compile(r"https://\S*[?&]create_composite=([A-Za-z0-9_%+/-]+)")
_NAME: Final = re.compile(r"/collectionGroups/([^/]+)(?:/|$)")
_SCOPES: Final = {1: "COLLECTION", 2: "COLLECTION_GROUP"}
_ORDERS: Final = {1: "ASCENDING", 2: "DESCENDING"}


def is_about_database(failure: CallFailed) -> bool:
    """Tell whether the failure is about the database or its project, not about a document."""
    patterns = (_NO_DATABASE, _NO_PROJECT, _OTHER_MODE)
    return means(failure.code, Meaning.DATABASE) and any(pattern.match(failure.message) for pattern in patterns)


def public_error(failure: CallFailed, *, what: str, database: str, flow_id: str | None) -> BackendError:
    """Return the error to raise from the failure.

    Args:
        failure: What became of the call's last attempt.
        what: The name of the call.
        database: The resource name of the database.
        flow_id: The flow state that the call was about, if it was about one.
    """
    message = failure.message
    call = f"{what}{_of(flow_id)} on {database}"
    said = f"Firestore said {failure.code}: {message}"
    if is_about_database(failure):
        return BackendError(_advice_on_database(message, call=call, said=said), flow_id=flow_id)
    if means(failure.code, Meaning.DENIED) or PLUGIN_FAILED in message:
        return AccessDeniedError(_advice_on_access(failure, call=call, said=said), flow_id=flow_id)
    if failure.code == "FAILED_PRECONDITION" and _NEEDS_INDEX.match(message):
        index = index_entry(message)
        return MissingIndexError(_advice_on_index(message, index, call=call, said=said), flow_id=flow_id, index=index)
    if failure.code == "RESOURCE_EXHAUSTED":
        return QuotaError(
            f"{call} is over a quota of the project or a limit of the database: look at IAM & Admin > Quotas and at "
            f"Firestore > Usage in the console, spread the load, or retry later. {said}",
            flow_id=flow_id,
        )
    if is_about_headers(failure):
        return BackendError(
            f"{call} was refused, since its headers are too large for the server or for a proxy on the way: raise the "
            f"limit there, or look at what else adds headers, as an interceptor of the client that you passed. {said}",
            flow_id=flow_id,
        )
    if means(failure.code, Meaning.TRANSIENT):
        return StoreUnavailableError(f"{call} failed: retry. {said}", flow_id=flow_id)
    return BackendError(f"{call} was refused. {said}", flow_id=flow_id)


def exhausted_error(
    end: Exhausted, *, deadline: Deadline, what: str, database: str, flow_id: str | None
) -> BackendError:
    """Return the error to raise when the deadline has ended the attempts. Arguments are as for `public_error`."""
    last = end.failure
    if last is not None and last.code == "RESOURCE_EXHAUSTED":
        return public_error(last, what=what, database=database, flow_id=flow_id)
    tried = "the time was up before Firestore was called" if last is None else _ended(end.attempts, last)
    return DeadlineError(
        f"{what}{_of(flow_id)} on {database} did not succeed within {deadline.allowed:g} s: {tried}. "
        "Retry, or allow more by `timeout`",
        flow_id=flow_id,
    )


def unanswered_error(
    attempts: int, failure: CallFailed | None, *, deadline: Deadline, what: str, database: str
) -> DeadlineError:
    """Return the error to raise when a stream has not given its first answer by the deadline.

    Args:
        attempts: How often it has failed.
        failure: How it failed last; None: it is open, and the server says nothing.
        deadline: The deadline.
        what: The name of the call.
        database: The resource name of the database.
    """
    tried = "the server said nothing" if failure is None else _ended(attempts, failure)
    return DeadlineError(
        f"{what} on {database} did not answer within {deadline.allowed:g} s: {tried}. "
        "Retry, or allow more by FLOWSTATE_TIMEOUT"
    )


def no_loop_error() -> FlowStateError:
    """Return the error to raise when a store is awaited on no event loop of asyncio."""
    return FlowStateError(
        "a store is awaited on an event loop of asyncio, and none is running here: under trio, and in a child that "
        "was forked within a coroutine, call SyncFlowStateStore, or asyncio.run, on a thread"
    )


def credentials_error(error: Exception) -> AccessDeniedError:
    """Return the error to raise when google.auth finds no usable credentials."""
    return AccessDeniedError(
        "no usable Google credentials: run `gcloud auth application-default login`, or let "
        "GOOGLE_APPLICATION_CREDENTIALS name the key file of a service account, or for the emulator set "
        f"FIRESTORE_EMULATOR_HOST. google.auth said: {error}"
    )


def _ended(attempts: int, last: CallFailed) -> str:
    return f"{'1 attempt' if attempts == 1 else f'{attempts} attempts'} ended in {last.code}: {last.message}"


def _of(flow_id: str | None) -> str:
    return "" if flow_id is None else f" of flow state {flow_id!r}"


def _advice_on_database(message: str, *, call: str, said: str) -> str:
    if _NO_PROJECT.match(message):
        advice = (
            "there is no such project: set FLOWSTATE_PROJECT or GOOGLE_CLOUD_PROJECT to its id, not its name or number"
        )
    elif _OTHER_MODE.match(message):
        advice = "the database is in Datastore mode: name one in native mode by FLOWSTATE_DATABASE"
    else:
        advice = (
            "there is no such database: create it (`gcloud firestore databases create`), "
            "or name another by FLOWSTATE_DATABASE"
        )
    return f"{call} failed: {advice}. {said}"


def _advice_on_access(failure: CallFailed, *, call: str, said: str) -> str:
    details = failure.details.decode("utf-8", "replace")  # a serialized message, in which texts can be read as they are
    if any(words in failure.message or words in details for words in _API_IS_OFF):
        advice = "the Firestore API is off in this project: `gcloud services enable firestore.googleapis.com`"
    elif failure.code == "PERMISSION_DENIED":
        advice = (
            "grant the account the role roles/datastore.user, and look that project and database are the right ones"
        )
    else:
        advice = (
            "the credentials are expired or revoked: run `gcloud auth application-default login`, or look at the key "
            "that GOOGLE_APPLICATION_CREDENTIALS names and at the clock of this machine"
        )
    return f"{call} was denied: {advice}. {said}"


def _advice_on_index(message: str, index: dict[str, object] | None, *, call: str, said: str) -> str:
    if _IS_BUILDING in message:
        return f"{call} needs an index that is still being built: retry in some minutes. {said}"
    entry = "`index` of this error" if index is not None else "the index that Firestore's link shows"
    return (
        f"{call} needs an index: add {entry} to `indexes` in firestore.indexes.json and run "
        f"`firebase deploy --only firestore:indexes`. {said}"
    )


def index_entry(message: str) -> dict[str, object] | None:
    """Return the entry for the index that the message links to; None if there is no link that can be read."""
    link = _LINK.search(message)
    if link is None:
        return None
    from google.cloud.firestore_admin_v1 import types
    from google.protobuf.message import DecodeError

    try:
        index = types.Index.pb().FromString(_decoded(link[1]))
    except (binascii.Error, DecodeError, ValueError):
        return None
    collection = _NAME.search(index.name)
    fields = [_field(field) for field in index.fields]
    if collection is None or index.query_scope not in _SCOPES or not fields or None in fields:
        return None
    return {
        "collectionGroup": collection[1],
        "queryScope": _SCOPES[index.query_scope],
        "fields": _without_implied_name(fields),
    }


def _decoded(text: str) -> bytes:
    text = text.replace("%3D", "").replace("+", "-").replace("/", "_")
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _field(field: Any) -> dict[str, str] | None:
    if field.order in _ORDERS:
        return {"fieldPath": field.field_path, "order": _ORDERS[field.order]}
    if field.array_config:
        return {"fieldPath": field.field_path, "arrayConfig": "CONTAINS"}
    return None


def _without_implied_name(fields: list[Any]) -> list[Any]:
    """Return the fields as firebase-tools writes them: it adds the name itself, in the order of the field before."""
    *others, last = fields
    implied = others[-1].get("order", "ASCENDING") if others else None
    return others if last["fieldPath"] == "__name__" and last.get("order") == implied else fields
