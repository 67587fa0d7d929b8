"""The functions of examples/firebase with a lease of two seconds: who takes over need not wait for a minute."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "firebase" / "functions"))

import main

main.flows._engine.lease = 2000
start, approve, drive, sweep = main.start, main.approve, main.drive, main.sweep

__all__ = ["approve", "drive", "start", "sweep"]
