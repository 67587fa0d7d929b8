"""What can go wrong, as one tree.

::

    FlowStateError
    ├── InvalidFlowIdError                    (also ValueError)
    ├── InvalidContinuationTokenError         (also ValueError)
    ├── InvalidQueryError                     (also ValueError)
    ├── FlowStateNotFoundError                (also LookupError)
    ├── FlowStateExistsError
    ├── FlowStateConflictError                expected, found
    ├── FlowStateEncodeError                  path
    │   └── FlowStateTooLargeError            size, limit, path
    ├── FlowStateDecodeError                  flow_id, response
    ├── FlowStateBatchError                   errors
    ├── BackendError                          its chain of causes is kept
    │   ├── StoreUnavailableError             outcome_unknown
    │   │   └── DeadlineError                 (also TimeoutError)
    │   ├── MissingIndexError                 index
    │   ├── AccessDeniedError
    │   └── QuotaError
    └── EmulatorError

No exception of google.* or grpc leaves the public API. An error about one flow state carries its id as
``flow_id``; if an error is not about one flow state, ``flow_id`` is None. `FlowStateWarning` is the category of
the package's own warnings.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .pages import FlowStateQueryResponse, FlowStateSummaryResponse


class FlowStateError(Exception):
    """The base of every error about what is stored or is to be stored, Firestore, the emulator or a run.

    A call that is wrong whatever is stored raises Python's own error, such as a TypeError for an argument.

    Attributes:
        flow_id: The id of the flow state in question, or None if the error is not about one.
    """

    def __init__(self, message: str, *, flow_id: str | None = None) -> None:
        super().__init__(message)
        self.flow_id = flow_id

    def __reduce__(self) -> tuple[object, ...]:
        # An exception pickles its positional arguments alone. These have keywords too, and process pools need them.
        return (_rebuild, (type(self), self.args, self.__dict__))


def _rebuild(kind: type[FlowStateError], args: tuple[object, ...], fields: dict[str, object]) -> FlowStateError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(fields)
    return error


class InvalidFlowIdError(FlowStateError, ValueError):
    """The id breaks one of Firestore's rules for document ids. Raised before any call."""


class InvalidContinuationTokenError(FlowStateError, ValueError):
    """The continuation token is not one that this collection, order and these filters have given out."""


class InvalidQueryError(FlowStateError, ValueError):
    """A field of a query has a value that no query can have. Raised when the query is constructed."""


class FlowStateNotFoundError(FlowStateError, LookupError):
    """There is no flow state with this id, or it has expired."""


class FlowStateExistsError(FlowStateError):
    """A flow state with this id is there already, and the call asked to create it."""


class FlowStateConflictError(FlowStateError):
    """Another writer changed the flow state since the version at hand was read. Nothing was written.

    Load it again, apply the change to what is there now, and save; `modify` does this by itself.

    Attributes:
        expected: The version that the call asked for; None if it asked for none to be there.
        found: The version that is stored now; None if nothing is stored, or if it is not known.
    """

    def __init__(
        self,
        message: str,
        *,
        flow_id: str | None = None,
        expected: str | None = None,
        found: str | None = None,
    ) -> None:
        super().__init__(message, flow_id=flow_id)
        self.expected = expected
        self.found = found


class FlowStateEncodeError(FlowStateError):
    """A value of the flow state cannot be stored without loss. Nothing was written.

    Attributes:
        path: The path of the value, such as ``cache["step"].value["rows"][3]``; None if it is the whole state.
    """

    def __init__(self, message: str, *, flow_id: str | None = None, path: str | None = None) -> None:
        super().__init__(message, flow_id=flow_id)
        self.path = path


class FlowStateTooLargeError(FlowStateEncodeError):
    """The flow state is larger than what can be stored. Nothing was written.

    It is raised before anything is sent. Only a partial write that is too large beside what is stored is refused by
    Firestore first.

    The limits are Firestore's, but for two of this package's own: 512 MiB of JSON for each value, and 20,000 parts for
    each state, or as many as one request can delete.

    Attributes:
        size: The size in bytes: of the state by Firestore's rules for storage sizes, or of the value's JSON. If the
            state would be in too many parts: how many parts these are.
        limit: The limit that is exceeded, in bytes or in parts.
        path: The path of the largest value, which is the one to make smaller.
    """

    def __init__(
        self, message: str, *, flow_id: str | None = None, path: str | None = None, size: int, limit: int
    ) -> None:
        super().__init__(message, flow_id=flow_id, path=path)
        self.size = size
        self.limit = limit


class FlowStateDecodeError(FlowStateError):
    """A stored document is not a flow state that this version of the package can read.

    Attributes:
        flow_id: The id of the document.
        response: If a list met the document: the page without it. It has the states that could be read and the token
            of the next page, so that what follows the document stays within reach. None otherwise.
    """

    def __init__(
        self,
        message: str,
        *,
        flow_id: str | None = None,
        response: FlowStateQueryResponse | FlowStateSummaryResponse | None = None,
    ) -> None:
        super().__init__(message, flow_id=flow_id)
        self.response = response


class FlowStateBatchError(FlowStateError):
    """Some flow states of a batch failed. Those that `errors` does not name succeeded.

    Attributes:
        errors: The error of each id that failed.
    """

    def __init__(self, message: str, *, errors: Mapping[str, FlowStateError]) -> None:
        super().__init__(message)
        self.errors = dict(errors)


class BackendError(FlowStateError):
    """Firestore refused or failed the call. The error of the client library is last in the chain of ``__cause__``."""


class StoreUnavailableError(BackendError):
    """Firestore could not be reached or did not answer before the deadline of the call.

    Attributes:
        outcome_unknown: True: a write was sent, and whether it was stored could not be found out. Load the flow state
            to see. False: the call changed nothing.
    """

    def __init__(self, message: str, *, flow_id: str | None = None, outcome_unknown: bool = False) -> None:
        super().__init__(message, flow_id=flow_id)
        self.outcome_unknown = outcome_unknown


class DeadlineError(StoreUnavailableError, TimeoutError):
    """The deadline of the call passed: the ``timeout`` of the call, else of the settings. Retries count in it."""


class MissingIndexError(BackendError):
    """Firestore has no index that serves the query.

    Attributes:
        index: The entry to add to ``indexes`` in firestore.indexes.json.
    """

    def __init__(self, message: str, *, flow_id: str | None = None, index: Mapping[str, object] | None = None) -> None:
        super().__init__(message, flow_id=flow_id)
        self.index = dict(index) if index is not None else None


class AccessDeniedError(BackendError):
    """The credentials are missing, wrong, or lack a permission on the database."""


class QuotaError(BackendError):
    """A quota or rate limit of the project or database is used up."""


class EmulatorError(FlowStateError):
    """The Firestore emulator could not be found, started or reached."""


class FlowStateWarning(UserWarning):
    """The store works, but something is not set up as it should be. A store gives each warning once.

    `due` gives one for each flow state that it leaves out, but for 1,000 at most.
    """


def shown(value: object, most: int = 100) -> str:
    """Return the repr of any value, cut to so many characters, for the text of an error.

    If the repr fails, return the name of the type: Python's own fails for deeply nested values and for integers of more
    than 4,300 digits, and that of an application's class may raise anything.
    """
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001  # a method of the application's may raise anything
        text = f"<{type(value).__qualname__}>"
    return text[:most].encode(errors="backslashreplace").decode()
