"""Tests for any store of flow states, and tools to write your own.

- `FlowStateStoreTests` and `VersionedFlowStateStoreTests`: the contracts as pytest classes. Subclass one, and override
  its fixture `store`. `ExpiringFlowStateStoreTests`: what a store must do that lets states expire.
- `FlowsTests`: the invariants of durable flows over a store of your own, with processes that die and contend.
- `FlowStateStoreMachine`: random operations on a store and on a plain dict, by hypothesis.
- `flow_states`, `flow_ids`, `json_values`, ...: strategies of hypothesis.
- `same_state`, `exactly`: compare flow states to the last bit.
- `simulate`: runs a durable flow in memory, with a clock of its own. `crash_everywhere`: the same, with a process that
  dies at each of its writes.
- The pytest plugin, which pytest loads by itself: the fixtures `firestore_emulator`, `flow_state_settings`,
  `flow_state_store`, and for durable flows `flows_memory` and `flows_emulator`.

Needs the extra ``testing``. A name is imported when it is first used, and with it pytest or hypothesis if it needs
them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .comparison import exactly, same_state
    from .conformance import ExpiringFlowStateStoreTests, FlowStateStoreTests, VersionedFlowStateStoreTests
    from .durability import FlowsTests
    from .simulation import Simulation, crash_everywhere, simulate
    from .stateful import FlowStateStoreMachine
    from .strategies import cache_entries, flow_ids, flow_state_dicts, flow_states, json_values, operations

__all__ = [
    "ExpiringFlowStateStoreTests",
    "FlowStateStoreMachine",
    "FlowStateStoreTests",
    "FlowsTests",
    "Simulation",
    "VersionedFlowStateStoreTests",
    "cache_entries",
    "crash_everywhere",
    "exactly",
    "flow_ids",
    "flow_state_dicts",
    "flow_states",
    "json_values",
    "operations",
    "same_state",
    "simulate",
]

_MODULES = {
    "comparison": ("exactly", "same_state"),
    "conformance": ("ExpiringFlowStateStoreTests", "FlowStateStoreTests", "VersionedFlowStateStoreTests"),
    "simulation": ("Simulation", "crash_everywhere", "simulate"),
    "durability": ("FlowsTests",),
    "stateful": ("FlowStateStoreMachine",),
    "strategies": ("cache_entries", "flow_ids", "flow_state_dicts", "flow_states", "json_values", "operations"),
}
_LAZY = {name: module for module, names in _MODULES.items() for name in names}


# A `__dir__` would have to name what is not imported yet. freezegun gets whatever `dir` names of each loaded module, so
# that it would import pytest and hypothesis in each test that freezes the clock.


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f".{_LAZY[name]}", __name__), name)
    globals()[name] = value
    return value
