"""What a store does, one module an operation: in which order it reads and writes, and what it makes of the outcomes.

These modules import grpc and Google's libraries. A store imports them when it connects; from then on they are
attributes of this package, by which whoever has the store's collection calls them.
"""


def import_all() -> None:
    """Import the operations, and with them grpc and Google's libraries, which takes 0.3 s."""
    from . import (  # noqa: F401  # they become attributes of the package
        bulk,
        deleting,
        due,
        editing,
        examining,
        exporting,
        inspecting,
        listing,
        migrating,
        orphans,
        purging,
        reading,
        rewrapping,
        saving,
        updating,
        watching,
    )
