"""Settings of a store, from code or from the environment."""

from __future__ import annotations
