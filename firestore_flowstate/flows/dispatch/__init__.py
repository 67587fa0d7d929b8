"""Dispatchers, which wake runs: the protocol, the dispatcher in this process, and the names of wake times."""

from __future__ import annotations

from .in_process import InProcess
from .protocol import Dispatcher
from .wake_names import early_name, next_hop, sweep_name, task_name, wake_name

__all__ = ["Dispatcher", "InProcess", "early_name", "next_hop", "sweep_name", "task_name", "wake_name"]
