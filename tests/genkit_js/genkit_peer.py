"""Genkit JS in a process of its own, on one collection."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any, Final

from firestore_flowstate import FlowStateSettings

PROJECT: Final = Path(__file__).parents[2]
MODULES: Final = PROJECT / ".genkit-js" / "node_modules"
REPLY: Final = "reply "


def number(text: str) -> int | float:
    """Return a whole number as JavaScript has it: beyond 2**53 it is a double whose last digits are not written."""
    return int(text) if abs(int(text)) <= 2**53 else float(text)


class GenkitError(Exception):
    """What Genkit JS raised."""


class Genkit:
    """Genkit JS with its own FirestoreStateStore, and the durable flow of peer.js."""

    def __init__(self, settings: FlowStateSettings) -> None:
        assert MODULES.is_dir(), "Genkit JS is not installed: make genkit-js"
        environment = {
            **os.environ,
            "FIRESTORE_EMULATOR_HOST": settings.emulator_host or "",
            "GCLOUD_PROJECT": settings.project or "",
            "METADATA_SERVER_DETECTION": "none",  # there is no Google Cloud around to ask for credentials
            "NODE_PATH": str(MODULES),
        }
        self._process = subprocess.Popen(
            ["node", "--no-deprecation", Path(__file__).with_name("peer.js"), settings.collection],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def call(self, command: str, *arguments: Any) -> Any:
        """Return what a command returns.

        Raises:
            GenkitError: It raised.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([command, *arguments]) + "\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith(REPLY):
                reply = json.loads(line.removeprefix(REPLY), parse_int=number)
                if "raised" in reply:
                    raise GenkitError(reply["raised"])
                return reply["returned"]
        raise AssertionError("Genkit JS has ended")

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate(timeout=20)
