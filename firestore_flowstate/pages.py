"""What lists return: summaries, and pages of them and of flow states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

from .models import FlowState, FlowStatus


class FlowStateSummary(BaseModel):
    """What a list shows of a flow state; no payload was read for it.

    A native document has no summary that a projection could read: its `step_count` and `size_bytes` are 0, and `extra`
    has wakeAt and the keys that the query asks for by `where`.

    Attributes:
        id: The id it is stored under.
        flow_id: The flow's own id.
        name: The name of the flow.
        status: What the flow does now.
        start_time: Milliseconds since the epoch.
        blocked_on: The name of the step that the flow waits for.
        step_count: How many steps are cached, at least 0. `update` does not know which steps are there. So a step that
            it replaces is counted twice, and one that it removes though it is not there is subtracted, until the next
            save or until the whole log is compacted.
        size_bytes: About how many bytes the state has as one JSON object, at least 0. A save counts them, and so does a
            compaction of the whole log. `update` does not know how large the values are that it replaces or removes, so
            these still count until then. `edit` and `modify` have read the state, and count what they change exactly.
        last_end_time: When the last execution ended, in milliseconds since the epoch.
        error_line: The first line of the error; None under encryption.
        updated_at: When the state was last written, in UTC.
        expire_at: When the state expires, in UTC.
        extra: The scalar unknown keys of the state that queries can ask for.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    flow_id: str
    name: str | None
    status: FlowStatus
    start_time: int | float
    blocked_on: str | None
    step_count: int
    size_bytes: int
    last_end_time: int | float | None
    error_line: str | None
    updated_at: datetime
    expire_at: datetime | None
    extra: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class FlowStateQueryResponse:
    """A page of flow states.

    Attributes:
        flow_states: The states, newest start first, ties by id descending.
        continuation_token: Asks for the next page; None if this is the last one.
        skipped: Ids of documents that could not be read, if the query says to skip those.
    """

    flow_states: Sequence[FlowState]
    continuation_token: str | None = None
    skipped: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class FlowStateSummaryResponse:
    """A page of summaries.

    Attributes:
        summaries: The summaries, newest start first, ties by id descending.
        continuation_token: Asks for the next page; None if this is the last one. A token of `list` with the
            same filters serves as well.
        skipped: Ids of documents that could not be read, if the query says to skip those.
    """

    summaries: Sequence[FlowStateSummary]
    continuation_token: str | None = None
    skipped: Sequence[str] = ()
