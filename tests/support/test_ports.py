"""A port that is kept for those who know its number."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from firestore_flowstate.emulator import start_emulator
from tests.support.ports import Port

ASK_FOR_MANY = """
import socket

for _ in range(100_000):
    with socket.create_server(("127.0.0.1", 0)) as server:
        print(server.getsockname()[1])
"""


def test_nobody_else_is_given_a_kept_port() -> None:
    """Other programs get any other of the some 28,000 ports. Connections to it are refused meanwhile."""
    with Port() as port:
        asked = subprocess.run([sys.executable, "-c", ASK_FOR_MANY], stdout=subprocess.PIPE, text=True, check=True)

        assert str(port.number) not in set(asked.stdout.split())
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port.number))


def test_a_kept_port_is_listened_on_again_and_again() -> None:
    """A listener can end and another one begin: a socket of this process, or the emulator of another one."""
    with Port() as port:
        for _ in range(2):
            with port.listen() as listener:
                socket.create_connection(("127.0.0.1", port.number)).close()
                listener.accept()[0].close()
        for _ in range(2):
            with start_emulator(port=port.number, attach=False) as emulator:
                assert port.host == emulator.host
