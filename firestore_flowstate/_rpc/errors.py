"""The one place where a failed call becomes an error of the public tree."""

from __future__ import annotations

import re
from typing import Final

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
from .index_link import index_entry
from .outcome import CallFailed
from .retry import Exhausted

_NO_DATABASE: Final = re.compile(r"database \S+ does not exist|datastore mode", re.IGNORECASE)
_NEEDS_INDEX: Final = re.compile(r"requires an? (?:\w+ )*index|no matching index", re.IGNORECASE)
_UNAVAILABLE: Final = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED", "INTERNAL", "UNKNOWN", "CANCELLED", "ABORTED"})


def is_about_database(failure: CallFailed) -> bool:
    """Tell whether the failure is about the database or project, not about a document."""
    return failure.code in {"NOT_FOUND", "FAILED_PRECONDITION"} and _NO_DATABASE.search(failure.message) is not None


def public_error(failure: CallFailed, *, what: str, database: str, flow_id: str | None) -> FlowStateError:
    """Return the error to raise from the failure. `what` names the call, such as "commit"."""
    said = f"{failure.code}: {failure.message}"
    if failure.code in {"PERMISSION_DENIED", "UNAUTHENTICATED"}:
        return _access_denied(failure, said=said, database=database, flow_id=flow_id)
    if failure.code == "RESOURCE_EXHAUSTED":
        return QuotaError(
            f"{what} on {database} is over a quota or limit. Look at the quotas of the project, or retry later. "
            f"({said})",
            flow_id=flow_id,
        )
    if is_about_database(failure):
        return BackendError(
            f"{database} does not exist in Firestore's native mode. Create it, or set FLOWSTATE_PROJECT and "
            f"FLOWSTATE_DATABASE to one that does. ({said})",
            flow_id=flow_id,
        )
    if failure.code == "FAILED_PRECONDITION" and _NEEDS_INDEX.search(failure.message):
        return _missing_index(failure, said=said, database=database, flow_id=flow_id)
    if failure.code in _UNAVAILABLE:
        return StoreUnavailableError(f"{what} on {database} failed. ({said})", flow_id=flow_id)
    return BackendError(f"Firestore refused {what} on {database}. ({said})", flow_id=flow_id)


def exhausted_error(
    exhausted: Exhausted, *, deadline: Deadline, what: str, database: str, flow_id: str | None
) -> FlowStateError:
    """Return the error to raise when the deadline has ended the attempts."""
    last = exhausted.failure
    if last is not None and last.code == "RESOURCE_EXHAUSTED":
        return public_error(last, what=what, database=database, flow_id=flow_id)
    tried = f"{exhausted.attempts} attempts" if exhausted.attempts != 1 else "1 attempt"
    said = "" if last is None else f"; the last ended in {last.code}: {last.message}"
    return DeadlineError(
        f"{what} on {database} did not succeed within {deadline.allowed:g} s ({tried}{said}). "
        "Nothing was changed by it. Retry, or allow more with timeout=.",
        flow_id=flow_id,
    )


def credentials_error(error: Exception) -> FlowStateError:
    """Return the error to raise when google.auth finds no usable credentials."""
    return AccessDeniedError(
        "no usable Google credentials: run `gcloud auth application-default login`, set "
        "GOOGLE_APPLICATION_CREDENTIALS, "
        f"or set FIRESTORE_EMULATOR_HOST for the emulator. ({error})"
    )


def _access_denied(failure: CallFailed, *, said: str, database: str, flow_id: str | None) -> AccessDeniedError:
    if failure.code == "UNAUTHENTICATED":
        advice = "Firestore does not accept the credentials: renew them or look at GOOGLE_APPLICATION_CREDENTIALS"
    elif "has not been used" in failure.message or "is disabled" in failure.message:
        advice = "the Cloud Firestore API is off in this project: `gcloud services enable firestore.googleapis.com`"
    else:
        advice = "grant the account roles/datastore.user on the project, and look that project and database are right"
    return AccessDeniedError(f"access to {database} denied: {advice}. ({said})", flow_id=flow_id)


def _missing_index(failure: CallFailed, *, said: str, database: str, flow_id: str | None) -> MissingIndexError:
    entry = index_entry(failure.message)
    add = "`index` of this error has the entry" if entry else "follow the link"
    return MissingIndexError(
        f"no index of {database} serves this query: add it to firestore.indexes.json ({add}) and run "
        f"`firebase deploy --only firestore:indexes`. ({said})",
        flow_id=flow_id,
        index=entry,
    )
