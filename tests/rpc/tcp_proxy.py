"""A TCP proxy on loopback whose faults are real ones: refused, cut, held and swallowed."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from typing import Final

from tests.support.ports import Port

_CHUNK: Final = 65536  # bytes that are read at once


class TcpProxy:
    """Passes bytes between its own port and `upstream`, until told otherwise.

    Attributes:
        upstream: The ``HOST:PORT`` that the bytes go to.
        host: ``127.0.0.1:PORT``, to connect to in place of `upstream`.
        connections: How many connections were accepted so far.
    """

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        address, _, port = upstream.rpartition(":")
        self._address = (address, int(port))
        self._port = Port()
        self._listener = self._port.listen()
        self.host = self._port.host
        self.connections = 0
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._replies_pass = threading.Event()
        self._replies_pass.set()
        self._requests_pass = threading.Event()
        self._requests_pass.set()
        self._swallow = False
        self._delay = 0.0
        self._on_request: Callable[[bytes], None] | None = None
        self._on_reply: Callable[[bytes], None] | None = None
        self._start()

    def hold_replies(self) -> None:
        """Let requests through and keep the replies back, until `let_pass`."""
        self._replies_pass.clear()

    def hold(self) -> None:
        """Accept connections and requests, and pass nothing on, until `let_pass`."""
        self._replies_pass.clear()
        self._requests_pass.clear()

    def swallow_replies(self) -> None:
        """Let requests through and throw the replies away."""
        self._swallow = True

    def delay(self, seconds: float) -> None:
        """Pass each chunk on so much later, until `let_pass`."""
        self._delay = seconds

    def refuse(self) -> None:
        """Refuse connections, and break those that are open, until `listen`."""
        # A blocked accept keeps the port open: wake it up.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def listen(self) -> None:
        """Accept connections again, on the same port."""
        self._listener = self._port.listen()
        self._start()

    def let_pass(self) -> None:
        """Pass everything on again, what was held back first."""
        self._swallow = False
        self._delay = 0.0
        self._requests_pass.set()
        self._replies_pass.set()

    def cut(self) -> None:
        """Break every connection that is open, by a reset."""
        while self._pairs:
            for end in self._pairs.pop():
                _end(end)

    def on_request(self, hook: Callable[[bytes], None] | None) -> None:
        """Call `hook` with each chunk of requests, before it is passed on."""
        self._on_request = hook

    def on_reply(self, hook: Callable[[bytes], None] | None) -> None:
        """Call `hook` with each chunk of replies, before it is passed on, or held if the hook says so."""
        self._on_reply = hook

    def close(self) -> None:
        """Refuse connections from now on, and break those that are open."""
        self.refuse()
        self.let_pass()
        self.cut()
        self._port.close()

    def _start(self) -> None:
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            self.connections += 1
            try:
                far = socket.create_connection(self._address)
            except OSError:
                near.close()
                continue
            for end in (near, far):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._pairs.append((near, far))
            if listener.fileno() == -1:  # `refuse` came meanwhile, and has not seen this pair
                self.cut()
                return
            threading.Thread(target=self._pass_requests, args=(near, far), daemon=True).start()
            threading.Thread(target=self._pass_replies, args=(far, near), daemon=True).start()

    def _pass_requests(self, near: socket.socket, far: socket.socket) -> None:
        for chunk in _chunks(near):
            time.sleep(self._delay)
            self._requests_pass.wait()
            if (hook := self._on_request) is not None:
                hook(chunk)
            if not _send(far, chunk):
                break
        _end(far)

    def _pass_replies(self, far: socket.socket, near: socket.socket) -> None:
        for chunk in _chunks(far):
            if (hook := self._on_reply) is not None:
                hook(chunk)
            time.sleep(self._delay)
            self._replies_pass.wait()
            if not self._swallow and not _send(near, chunk):
                break
        _end(near)


def _end(end: socket.socket) -> None:
    """Tell the other side that the connection is over, also while another thread waits for what comes from it.

    To close it alone does not tell until that thread has something: whoever only listens would wait for ever.
    """
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()


def _chunks(source: socket.socket):  # type: ignore[no-untyped-def]
    while True:
        try:
            chunk = source.recv(_CHUNK)
        except OSError:
            return
        if not chunk:
            return
        yield chunk


def _send(sink: socket.socket, chunk: bytes) -> bool:
    try:
        sink.sendall(chunk)
    except OSError:
        return False
    return True
