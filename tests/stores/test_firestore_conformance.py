"""The Firestore store keeps both contracts, on the real emulator."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Any

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


@asynccontextmanager
async def opened(
    settings: FlowStateSettings, **changes: Any
) -> AsyncIterator[Callable[[timedelta], FirestoreFlowStateStore]]:
    """Give what opens a store whose states expire, and close all of them in the end."""
    async with AsyncExitStack() as stack:

        def open_store(expire_after: timedelta) -> FirestoreFlowStateStore:
            store = FirestoreFlowStateStore(settings.model_copy(update={**changes, "expire_after": expire_after}))
            stack.push_async_callback(store.close)
            return store

        yield open_store


class TestFirestoreFlowStateStore(VersionedFlowStateStoreTests):
    @pytest.fixture
    def store(self, flow_state_store: FirestoreFlowStateStore) -> FirestoreFlowStateStore:
        return flow_state_store


class TestExpiringFirestoreFlowStateStore(ExpiringFlowStateStoreTests):
    @pytest.fixture
    async def store_expiring_after(
        self, flow_state_settings: FlowStateSettings
    ) -> AsyncIterator[Callable[[timedelta], FirestoreFlowStateStore]]:
        async with opened(flow_state_settings) as open_store:
            yield open_store


class TestExpiringNativeFirestoreFlowStateStore(ExpiringFlowStateStoreTests):
    @pytest.fixture
    async def store_expiring_after(
        self, flow_state_settings: FlowStateSettings
    ) -> AsyncIterator[Callable[[timedelta], FirestoreFlowStateStore]]:
        async with opened(flow_state_settings, layout="native") as open_store:
            yield open_store


def test_agrees_with_a_dict(flow_state_store: FirestoreFlowStateStore) -> None:
    """Whatever sequence of operations leads there, the collection holds what a dict would."""
    machine = settings(max_examples=10, stateful_step_count=20, deadline=None)
    run_state_machine_as_test(lambda: FlowStateStoreMachine(flow_state_store), settings=machine)


class TestNativeFirestoreFlowStateStore(TypedFieldTests, ValueTests):
    """The contracts over the native layout, with what its maps can hold."""

    @pytest.fixture
    async def store(self, flow_state_settings: FlowStateSettings) -> AsyncIterator[FirestoreFlowStateStore]:
        store = FirestoreFlowStateStore(flow_state_settings.model_copy(update={"layout": "native"}))
        yield store
        await store.close()
