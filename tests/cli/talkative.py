"""The application, with logging of its own."""

from __future__ import annotations

import logging

from tests.cli.application import broke as broke

logging.basicConfig(format="own: %(message)s")
