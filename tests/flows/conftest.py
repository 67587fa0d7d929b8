"""Flows over a store in memory, in this process."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from firestore_flowstate import MemoryFlowStateStore
from firestore_flowstate.flows import Flows
from tests.flows.counting_store import CountingStore


@pytest.fixture
def store() -> CountingStore:
    return CountingStore(MemoryFlowStateStore())


@pytest.fixture
async def flows(store: CountingStore) -> AsyncIterator[Flows]:
    flows = Flows(store)
    yield flows
    await flows.close()
