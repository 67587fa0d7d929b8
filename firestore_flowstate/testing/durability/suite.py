"""The invariants of durable flows as pytest classes, for stores of your own too."""

from __future__ import annotations

from .answers import AnswerTests
from .contests import ContestTests
from .crashes import CrashTests
from .endings import EndingTests
from .wakes import WakeTests


class FlowsTests(CrashTests, ContestTests, AnswerTests, EndingTests, WakeTests):
    """What holds for durable flows over a VersionedFlowStateStore. Override the fixture `store`.

    Sample flows run on the store while processes die before and after each write, replies are lost, leases pass, and
    answers and cancellations come at the worst moment. What is written and done stands in a journal, from which the
    invariants are judged. A store that is slow may try only some of the writes: `every` and `first`.

    Needs the extra ``flows`` beside ``testing``.
    """
