"""What a store does, one module an operation: in which order it reads and writes, and what it makes of the outcomes.

These modules import grpc and protobuf. A store imports those that it needs on a thread, the first when it connects;
from then on they are attributes of this package, by which whoever has the store's collection calls them.
"""


def import_first() -> None:
    """Import what a process needs for a flow that it starts or resumes: it is to wait for nothing else."""
    from . import reading, saving, updating  # noqa: F401  # they become attributes of the package


def import_all() -> None:
    """Import all operations."""
    from . import (  # noqa: F401  # as above
        bulk,
        deleting,
        due,
        editing,
        examining,
        listing,
        migrating,
        orphans,
        reading,
        repacking,
        saving,
        updating,
        watching,
    )
