"""The in-memory store keeps both contracts."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from firestore_flowstate import FlowStateSettings, MemoryFlowStateStore
from firestore_flowstate.testing import (
    ExpiringFlowStateStoreTests,
    FlowStateStoreMachine,
    VersionedFlowStateStoreTests,
)


class TestMemoryFlowStateStore(VersionedFlowStateStoreTests):
    @pytest.fixture
    def store(self) -> MemoryFlowStateStore:
        return MemoryFlowStateStore()


class TestExpiringMemoryFlowStateStore(ExpiringFlowStateStoreTests):
    @pytest.fixture
    def store_expiring_after(self) -> Callable[[timedelta], MemoryFlowStateStore]:
        return lambda expire_after: MemoryFlowStateStore(FlowStateSettings(expire_after=expire_after))


def test_agrees_with_a_dict() -> None:
    """Whatever sequence of operations leads there, the store holds what a dict would."""
    machine = settings(max_examples=20, stateful_step_count=20, deadline=None)
    run_state_machine_as_test(lambda: FlowStateStoreMachine(MemoryFlowStateStore()), settings=machine)
