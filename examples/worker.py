"""A worker that starts processes, which continue flows: by fork or by spawn.

    python examples/worker.py fork

Parent and children use the same store. After a fork each process connects for itself. A spawned one loads this
module anew.
"""

from __future__ import annotations

import multiprocessing
import sys

from firestore_flowstate import CacheEntry, FirestoreFlowStateStore, FlowState, FlowStateQuery, SyncFlowStateStore

store = SyncFlowStateStore(FirestoreFlowStateStore())


def continue_run(id: str) -> None:
    """Run the step that a flow has not run yet."""
    store.modify(id, lambda state: state.cache.update(charge=CacheEntry(value=True)))


def main(start_method: str) -> None:
    """Start runs, have processes continue them, and look at what they did."""
    store.save_many({f"run-{number}": FlowState.start(name="order") for number in range(20)})
    with multiprocessing.get_context(start_method).Pool(2) as pool:
        pool.map(continue_run, [f"run-{number}" for number in range(20)])
    charged = [state for state in store.iterate(FlowStateQuery(name="order")) if "charge" in state.cache]
    print(len(charged), "runs charged by processes of", start_method)
    store.close()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "spawn")
