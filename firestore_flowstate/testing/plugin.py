"""The pytest plugin: test an app against the real Firestore emulator with one line.

::

    async def test_my_flow(flow_state_store):
        await flow_state_store.save("id", FlowState.start())

pytest loads this module in every run if the package is installed. So it imports nothing before a fixture is used that
pytest has not loaded by itself.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

import firestore_flowstate  # which imports a store when its name is first used

if TYPE_CHECKING:
    from typing import Protocol

    from ..emulator import Emulator
    from ..firestore import FirestoreFlowStateStore
    from ..flows import Flow
    from ..settings import FlowStateSettings
    from ..store import VersionedFlowStateStore
    from .simulation import Simulation

    class Simulate(Protocol):
        """`simulate` on a store."""

        async def __call__(
            self,
            flow: Flow[Any, Any],
            input: Any = ...,
            *,
            answers: Mapping[str, Any] | None = None,
            crash_before_write: int | None = None,
            crash_after_write: int | None = None,
            store: VersionedFlowStateStore | None = None,
        ) -> Simulation:
            """Run the flow. See `simulate`."""
            ...


pytest.register_assert_rewrite("firestore_flowstate.testing.conformance", "firestore_flowstate.testing.durability")


@pytest.fixture(scope="session")
def firestore_emulator() -> Iterator[Emulator]:
    """The Firestore emulator that FIRESTORE_EMULATOR_HOST names, or one of this session's own.

    Each worker of pytest-xdist is a session. To share one emulator among workers, run
    ``python -m firestore_flowstate.emulator exec -- pytest -n 2``, which names it to all of them.

    Its ``host`` is ``host:port``. Its ``environment`` is for code that finds the emulator by variables. If the machine
    has no emulator, the tests that ask for it fail, and say how to get it: skipped tests prove nothing.
    """
    from ..emulator import start_emulator

    try:
        emulator = start_emulator()
    except firestore_flowstate.EmulatorError as error:
        pytest.fail(str(error), pytrace=False)
    with emulator:
        yield emulator


@pytest.fixture
def flow_state_settings(firestore_emulator: Emulator) -> FlowStateSettings:
    """Settings of a fresh collection in a fresh project on the emulator. All others are the defaults.

    The variables ``FLOWSTATE_*`` are not read: a test ends alike on every machine.

    To test with other settings, override the fixture:
    ``flow_state_settings.model_copy(update={"layout": "native"})``.
    """
    fresh = uuid.uuid4().hex[:12]
    # A project whose name begins with demo- cannot be a real one, whatever credentials are at hand.
    return firestore_flowstate.FlowStateSettings(
        project=f"demo-{fresh}",
        collection=f"flows-{fresh}",
        emulator_host=firestore_emulator.host,
        _env_prefix=f"{fresh}_",  # no variable begins with it
    )


@pytest.fixture
def flow_state_store(flow_state_settings: FlowStateSettings) -> Iterator[FirestoreFlowStateStore]:
    """An empty FirestoreFlowStateStore on the emulator, closed after the test.

    Synchronous tests wrap it in SyncFlowStateStore, or use it in ``asyncio.run``.
    """
    import asyncio

    store = firestore_flowstate.FirestoreFlowStateStore(flow_state_settings)
    yield store
    # On a thread of its own: whether this thread has an event loop, and whose it is, differs between pytest plugins.
    closing = threading.Thread(target=lambda: asyncio.run(store.close()))
    closing.start()
    closing.join()


@pytest.fixture
def flows_memory() -> Simulate:
    """`firestore_flowstate.testing.simulate` in memory.

    ::

        async def test_publish(flows_memory):
            simulation = await flows_memory(publish, topic, answers={"approve": Approval(ok=True)})
            assert simulation.error is None
    """
    from .simulation import simulate

    return simulate


@pytest.fixture
def flows_emulator(flows_memory: Simulate, flow_state_store: FirestoreFlowStateStore) -> Simulate:
    """`firestore_flowstate.testing.simulate` on the emulator, in the collection of `flow_state_store`."""
    return partial(flows_memory, store=flow_state_store)
