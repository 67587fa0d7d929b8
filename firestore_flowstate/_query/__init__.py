"""Queries and continuation tokens as pure functions: no I/O. `structured` imports google.*, the rest does not."""
