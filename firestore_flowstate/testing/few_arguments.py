"""Random arguments for the methods of a store: few ids, names, starts and owners, so that operations meet."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final, Literal

from hypothesis import strategies as st

from ..models import FlowState
from ..unset import UNSET
from .strategies import blocked_steps, cache_entries, executions, flow_states, operations, step_names

IDS: Final = ("a", "b", "B", "é", "\uff5e", "🙂", " ", "a.b")
STEPS: Final = ("", "one", "two", "__x__", "10", "9")

Choice = Literal["stored", "old", "nonsense"]

ids = st.sampled_from(IDS)
steps = st.sampled_from(STEPS) | step_names()
caches = st.dictionaries(steps, cache_entries(), max_size=3)
choices = st.sampled_from(["stored", "stored", "old", "nonsense"])
optional = {
    "operation": operations(),
    "blocked_on_step": st.none() | blocked_steps(),
    "executions": st.lists(executions(), max_size=2),
    "trace_context": st.none() | st.text(max_size=5),
}
moments = st.sampled_from([0, 0.0, 1, 1.5, -1, 2**53 + 1, float(2**53), True, "1", float("nan"), float("-inf")])
scalars = {"wakeAt": moments, "owner": st.sampled_from(["me", "you", "", 1, True]), "x": st.text(max_size=5)}
extras = st.fixed_dictionaries({}, optional={key: values | st.just(UNSET) for key, values in scalars.items()})
durations = st.sampled_from(
    [UNSET, UNSET, None, timedelta(days=400), timedelta(days=3, microseconds=500)]
)  # none is over


def _as_one_of_few(state: FlowState, start_time: float, name: str | None, owner: Any, wake_at: Any) -> FlowState:
    state.start_time, state.name, state.owner = start_time, name, owner
    if wake_at is not None:
        state.wakeAt = wake_at
    return state


few_states = st.builds(  # few starts, names and owners, so that lists have ties and filters find something
    _as_one_of_few,
    flow_states(),
    st.sampled_from([0, 0.0, 1, 1.0, 1.5, -1, 2**53, 2**53 + 1]),
    st.sampled_from([None, "", "flow"]),
    st.sampled_from(["me", "you", "", 1, True, None]),
    st.none() | moments,
)
