"""The suite of invariants notices each fault that is planted into the engine."""

from __future__ import annotations

import asyncio

import pytest

from firestore_flowstate import MemoryFlowStateStore
from firestore_flowstate.testing import FlowsTests
from firestore_flowstate.testing.durability import SAMPLES
from tests.flows.planted import FAULTS, Fault

_PATIENCE = 8.0  # seconds after which a test has noticed that nothing goes on


async def _run(fault: Fault) -> None:
    tests, store = FlowsTests(), MemoryFlowStateStore()
    samples = [sample for sample in SAMPLES if sample.name == fault.sample]
    await asyncio.wait_for(getattr(tests, fault.test)(store, *samples), _PATIENCE)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.sample or fault.test}")
async def test_without_the_fault_nothing_is_noticed(fault: Fault) -> None:
    """The tests pass, so with a fault it is the fault that they notice."""
    await _run(fault)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.plant.__name__}-{fault.sample or fault.test}")
async def test_a_planted_fault_is_noticed(fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test fails, or does not end."""
    before = asyncio.all_tasks()
    fault.plant(monkeypatch)

    with pytest.raises((AssertionError, asyncio.TimeoutError)):
        await _run(fault)
    left = asyncio.all_tasks() - before
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
