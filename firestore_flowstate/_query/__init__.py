"""Queries, continuation tokens and indexes as pure functions, without I/O."""
