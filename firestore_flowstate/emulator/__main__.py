"""The entry point of `python -m firestore_flowstate.emulator`."""

import sys

from .command_line import main

sys.exit(main())
