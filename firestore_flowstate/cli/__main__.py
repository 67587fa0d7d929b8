"""The entry point of `python -m firestore_flowstate.cli`."""

import sys

from .entry import main

sys.exit(main())
