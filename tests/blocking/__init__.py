"""`SyncFlowStateStore`: the contracts on threads, and processes that fork and end."""
