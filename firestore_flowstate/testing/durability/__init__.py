"""Durable flows over a store of your own: the invariants that must hold, as tests.

::

    class TestMyFlows(FlowsTests):
        @pytest.fixture
        def store(self) -> MyStore:
            return MyStore()

The module `invariants` lists what must hold. `Journal` and `WatchedStore` write down what happens, and `violations`
judges that.
"""

from __future__ import annotations

from .invariants import violations
from .journal import Journal
from .samples import SAMPLES, Sample
from .suite import FlowsTests
from .watched_store import WatchedStore

__all__ = ["SAMPLES", "FlowsTests", "Journal", "Sample", "WatchedStore", "violations"]
