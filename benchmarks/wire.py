"""Bytes on the wire: a forwarder on loopback that counts what passes through it, in both directions.

What it counts is what TCP carries: messages, headers and frames of HTTP/2 and acknowledgements in it, without TLS.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))

from tests.rpc.tcp_proxy import TcpProxy


class Wire:
    """A forwarder to a host, to be connected to in its place.

    Attributes:
        host: Its own ``127.0.0.1:PORT``.
        sent: The bytes that clients have sent so far.
        received: The bytes that they have received so far.
    """

    def __init__(self, upstream: str) -> None:
        self._proxy = TcpProxy(upstream)
        self._proxy.on_request(self._count_sent)
        self._proxy.on_reply(self._count_received)
        self.host = self._proxy.host
        self.sent = 0
        self.received = 0
        self._lock = threading.Lock()  # each connection has two threads

    @property
    def both(self) -> int:
        """The bytes in both directions."""
        return self.sent + self.received

    def close(self) -> None:
        """Close it, and the connections through it."""
        self._proxy.close()

    def _count_sent(self, chunk: bytes) -> None:
        with self._lock:
            self.sent += len(chunk)

    def _count_received(self, chunk: bytes) -> None:
        with self._lock:
            self.received += len(chunk)
