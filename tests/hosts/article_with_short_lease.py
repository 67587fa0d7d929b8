"""The application of examples/article with a lease of two seconds: who takes over need not wait for a minute."""

from __future__ import annotations

from app import app, flows  # examples/article

flows._engine.lease = 2000

__all__ = ["app"]
