from __future__ import annotations

import pytest

# A thread that waits in a call changes nothing meanwhile, and what others change before the thread has begun is stored.
_OF_CALLS_NOT_WAITED_FOR = "test_what_is_stored_is_what_was_there_at_the_call"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out of the blocking contract what only a call that is not waited for can show."""
    left_out = [item for item in items if _is_left_out(item)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if not _is_left_out(item)]


def _is_left_out(item: pytest.Item) -> bool:
    return "blocking/test_contract.py" in item.nodeid and _OF_CALLS_NOT_WAITED_FOR in item.nodeid
