"""What the in-memory store keeps of a flow state: JSON, and what lists show and ask of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ._document.encoded_state import EncodedState, decode_state
from ._document.head import check_head, error_line, last_end_time, queryable
from ._error_texts import with_flow_id
from .errors import FlowStateDecodeError, FlowStateEncodeError
from .models import FlowState
from .pages import FlowStateSummary


@dataclass(frozen=True, slots=True)
class Record:
    """A stored version of a flow state, which nothing changes any more.

    Attributes:
        encoded: The state.
        version: Its version.
        summary: What lists show and ask of it.
        payload: The unknown keys that a document would have had in its payload when the state was last saved whole,
            and which no partial write can take out.
    """

    encoded: EncodedState
    version: str
    summary: FlowStateSummary
    payload: frozenset[str] = frozenset()

    def state(self) -> FlowState:
        """Return the flow state, an object of the caller's own."""
        state = decode_state(self.encoded, flow_id=self.summary.id)
        self.stamp(state)
        return state

    def copy_of_summary(self) -> FlowStateSummary:
        """Return the summary, an object of the caller's own."""
        return self.summary.model_copy(update={"extra": dict(self.summary.extra)})

    def stamp(self, state: FlowState) -> None:
        """Note on the state that it is this version."""
        state._note_stored(self.version, updated_at=self.summary.updated_at, expire_at=self.summary.expire_at)


def without_steps(id: str, encoded: EncodedState) -> FlowState:
    """Return the state without its steps; raise FlowStateEncodeError if nobody could read it later."""
    try:
        shown = decode_state(encoded.without_steps(), flow_id=id)
        check_head(shown)
    except FlowStateEncodeError as error:
        raise with_flow_id(error, id) from None
    except FlowStateDecodeError as error:
        raise FlowStateEncodeError(f"Nothing was written: {error}", flow_id=id) from None
    return shown


def summarize(
    id: str, encoded: EncodedState, shown: FlowState, *, updated_at: datetime, expire_at: datetime | None
) -> FlowStateSummary:
    """Return the summary of a state that is stored under the id, given without its steps as `shown`."""
    return FlowStateSummary(
        id=id,
        flow_id=shown.flow_id,
        name=shown.name,
        status=shown.status,
        start_time=shown.start_time,
        blocked_on=shown.blocked_on_step.name if shown.blocked_on_step is not None else None,
        step_count=len(encoded.cache),
        size_bytes=encoded.size,
        last_end_time=last_end_time(shown.executions),
        error_line=error_line(shown.operation),
        updated_at=updated_at,
        expire_at=expire_at,
        extra=queryable(shown.model_extra or {}),
    )
