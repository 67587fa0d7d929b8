"""Ports that no other program gets, while nobody listens on them yet or for a while."""

from __future__ import annotations

import socket


class Port:
    """A port of 127.0.0.1 that is kept until `close`, whoever listens on it.

    A port that was free a moment ago may be another program's now. The socket here is bound and does not listen, so
    connections are refused, and the system gives the port to nobody who asks for any free one. It lets a server listen
    that asks for this port and sets SO_REUSEADDR, as asyncio, gunicorn, Java and Node do.

    Attributes:
        number: The port.
        host: ``127.0.0.1:PORT``.
    """

    def __init__(self) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", 0))
        self.number: int = self._socket.getsockname()[1]
        self.host = f"127.0.0.1:{self.number}"

    def listen(self) -> socket.socket:
        """Return a socket that listens on the port."""
        return socket.create_server(("127.0.0.1", self.number))

    def close(self) -> None:
        """Let others have the port."""
        self._socket.close()

    def __enter__(self) -> Port:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
