"""The contracts of `firestore_flowstate.store` as pytest classes, for stores of your own too.

::

    class TestMyStore(VersionedFlowStateStoreTests):
        @pytest.fixture
        def store(self) -> MyStore:
            return MyStore()

Every contract is the sum of suites with one subject each. A suite can be run alone while a store is being written. A
test cannot be overridden, by a mixin either: a store that fails one does not keep the contract.
"""

from __future__ import annotations

from .batches import BatchTests
from .contract import ExpiringFlowStateStoreTests, FlowStateStoreTests, VersionedFlowStateStoreTests
from .editing import EditingTests
from .expire_after import ExpireAfterTests
from .expiry import ExpiryTests
from .filtering import FilterTests
from .ids import IdTests
from .keeping import KeepingTests
from .listing import ListingTests
from .partial_writes import PartialWriteTests
from .summaries import SummaryTests
from .typed_fields import TypedFieldTests
from .unknown_keys import UnknownKeyTests
from .values import ValueTests
from .versions import VersionTests
from .waking import DueTests
from .watching import WatchTests
from .wrong_arguments import ArgumentTests

__all__ = [
    "ArgumentTests",
    "BatchTests",
    "DueTests",
    "EditingTests",
    "ExpireAfterTests",
    "ExpiringFlowStateStoreTests",
    "ExpiryTests",
    "FilterTests",
    "FlowStateStoreTests",
    "IdTests",
    "KeepingTests",
    "ListingTests",
    "PartialWriteTests",
    "SummaryTests",
    "TypedFieldTests",
    "UnknownKeyTests",
    "ValueTests",
    "VersionTests",
    "VersionedFlowStateStoreTests",
    "WatchTests",
]
