"""What a store does, one module an operation: in which order it reads and writes, and what it makes of the outcomes.

These modules import grpc and protobuf. A store imports them on a thread: the first ones when it connects, the others at
the first call that needs them. From then on they are attributes of this package.
"""


def import_first() -> None:
    """Import the modules of load, save and update: a process that starts or resumes a flow waits for no others."""
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
