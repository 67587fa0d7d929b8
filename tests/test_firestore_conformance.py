"""The Firestore store keeps both contracts, on the real emulator."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import timedelta

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from firestore_flowstate import FirestoreFlowStateStore, FlowStateSettings
from firestore_flowstate.testing import (
    ExpiringFlowStateStoreTests,
    FlowStateStoreMachine,
    VersionedFlowStateStoreTests,
)
from firestore_flowstate.testing.conformance import TypedFieldTests, ValueTests


class TestFirestoreFlowStateStore(VersionedFlowStateStoreTests):
    @pytest.fixture
    def store(self, flow_state_store: FirestoreFlowStateStore) -> FirestoreFlowStateStore:
        return flow_state_store


class TestExpiringFirestoreFlowStateStore(ExpiringFlowStateStoreTests):
    @pytest.fixture
    def store_expiring_after(
        self, flow_state_settings: FlowStateSettings
    ) -> Callable[[timedelta], FirestoreFlowStateStore]:
        return lambda expire_after: FirestoreFlowStateStore(
            flow_state_settings.model_copy(update={"expire_after": expire_after})
        )


class TestExpiringNativeFirestoreFlowStateStore(ExpiringFlowStateStoreTests):
    @pytest.fixture
    def store_expiring_after(
        self, flow_state_settings: FlowStateSettings
    ) -> Callable[[timedelta], FirestoreFlowStateStore]:
        return lambda expire_after: FirestoreFlowStateStore(
            flow_state_settings.model_copy(update={"layout": "native", "expire_after": expire_after})
        )


def test_agrees_with_a_dict(flow_state_store: FirestoreFlowStateStore) -> None:
    """Whatever sequence of operations leads there, the collection holds what a dict would."""
    machine = settings(max_examples=10, stateful_step_count=20, deadline=None)
    run_state_machine_as_test(lambda: FlowStateStoreMachine(flow_state_store), settings=machine)


class TestNativeFirestoreFlowStateStore(TypedFieldTests, ValueTests):
    """The native layout, of what its maps can hold."""

    @pytest.fixture
    async def store(self, flow_state_settings: FlowStateSettings) -> AsyncIterator[FirestoreFlowStateStore]:
        store = FirestoreFlowStateStore(flow_state_settings.model_copy(update={"layout": "native"}))
        yield store
        await store.close()
