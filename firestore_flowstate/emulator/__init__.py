"""Find, start, wait for and stop the official Firestore emulator.

::

    with start_emulator() as emulator:
        store = FirestoreFlowStateStore(FlowStateSettings(emulator_host=emulator.host))

On the command line, with FIRESTORE_EMULATOR_HOST set for the command::

    python -m firestore_flowstate.emulator exec -- COMMAND...
"""

from .emulator import Emulator, start_emulator
from .finding import Installation, find_emulator

__all__ = ["Emulator", "Installation", "find_emulator", "start_emulator"]
