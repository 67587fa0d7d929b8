"""The invariants of durable flows as pytest classes, for stores of your own too."""

from __future__ import annotations

from .answers import AnswerTests
from .contests import ContestTests
from .crashes import CrashTests
from .endings import EndingTests
from .wakes import WakeTests


class FlowsTests(CrashTests, ContestTests, AnswerTests, EndingTests, WakeTests):
    """What must hold for durable flows over a VersionedFlowStateStore. Override the fixture `store`.

    Sample flows run on the store while processes die before and after each write, replies are lost, leases end, and
    answers and cancellations come at the worst moment. A journal has what is written and done, and the invariants are
    judged from it. For a slow store set `every` and `first`, so that only some of the writes are tried.

    ::

        class TestMyFlows(FlowsTests):
            @pytest.fixture
            def store(self) -> MyStore:
                return MyStore()

    Needs the extra ``flows`` beside ``testing``.
    """
