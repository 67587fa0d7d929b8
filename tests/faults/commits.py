"""Commits on their way through a proxy, recognised by their bytes, and what becomes of them there."""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tests.rpc.tcp_proxy import TcpProxy

Result = TypeVar("Result")

# A CommitRequest begins with the name of its database and then its first Write, which begins with `update` or `delete`.
_START = rb"/databases/\(default\)\x12[\x80-\xff]*[\x00-\x7f]"
_BEGINNING = re.compile(_START + rb"(?=[\x0a\x12])")
_WHOLE = re.compile(rb"(?s)\x00(.{4})(?=\x0a.projects/[^/]+" + _START + rb"[\x0a\x12])")
_UPDATE = 0x0A
_FRAME = 16_384  # bytes, the most that a frame has if no more was agreed on
_MESSAGE_HEADER = 5
_FRAME_HEADER = 9  # bytes: three of the length, one of the type, flags and stream
_HEADERS = 0x01


def first_documents(chunk: bytes) -> list[str]:
    """Return, for each commit that begins in a chunk of requests, the name of the first document that it writes."""
    names = []
    for beginning in _BEGINNING.finditer(chunk):
        at = beginning.end()
        if chunk[at] == _UPDATE:  # a Write, whose Document begins with its name
            at = _skip_length(chunk, at + 1)[1]
        size, at = _skip_length(chunk, at + 1)
        names.append(chunk[at : at + size].decode("utf-8", "replace"))
    return names


def whole_commits(chunk: bytes) -> list[bytes]:
    """Return the commits in a chunk of requests, as their messages, without those that take several HTTP/2 frames."""
    messages = []
    for match in _WHOLE.finditer(chunk):  # a message of gRPC begins with a zero and its length
        begin, size = match.end(), int.from_bytes(match[1], "big")
        if begin + size <= len(chunk) and size + _MESSAGE_HEADER <= _FRAME:
            messages.append(chunk[begin : begin + size])
    return messages


async def lose_reply(
    proxy: TcpProxy,
    write: Awaitable[Result],
    *,
    root: str,
    is_stored: Callable[[], Awaitable[bool]],
    then: Callable[[], Awaitable[None]] | None = None,
) -> Result:
    """Await a write whose first commit of the root reaches Firestore, and whose reply is cut off.

    Args:
        proxy: What the write goes through.
        write: The write.
        root: The id of the flow state.
        is_stored: Tells, by another way than the proxy, whether the commit was applied.
        then: What others do before the writer hears of the cut.
    """
    began = time.monotonic()

    def hold(chunk: bytes) -> None:
        # Of a large request the server tells in between how much more it takes, which must pass.
        if _begins_reply(chunk):
            proxy.hold_replies()

    sent = on_commit(proxy, root, lambda: proxy.on_reply(hold))
    writing = asyncio.ensure_future(write)
    await sent
    while not await is_stored():  # noqa: ASYNC110
        await asyncio.sleep(0.002)  # only the server knows
    if then is not None:
        # If others delete a state after less than a fifth of the time that has passed since the sending, the store may
        # miss it (docs/reliability.md, "Known limits"). On a busy machine that time is long. The store counts it from
        # up to 2 ms before the sending on: a quarter and 10 ms are more than a fifth of that.
        await asyncio.sleep((time.monotonic() - began) / 4 + 0.01)
        await then()
    proxy.on_reply(None)
    proxy.cut()
    proxy.let_pass()
    return await writing


async def lose_request(
    proxy: TcpProxy, write: Awaitable[Result], *, root: str, then: Callable[[], Awaitable[None]] | None = None
) -> Result:
    """Await a write whose first commit of the root is cut off on its way to Firestore. See `lose_reply`."""
    loop = asyncio.get_running_loop()

    def cut() -> None:
        if then is not None:
            asyncio.run_coroutine_threadsafe(_call(then), loop).result()
        proxy.cut()

    on_commit(proxy, root, cut)
    return await write


def on_commit(proxy: TcpProxy, root: str, action: Callable[[], None]) -> asyncio.Future[None]:
    """Do something, once, before a commit is passed on that writes this root first. Return a future of that."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    once = threading.Lock()

    def look(chunk: bytes) -> None:
        if any(name.endswith(f"/{root}") for name in first_documents(chunk)) and once.acquire(blocking=False):
            proxy.on_request(None)
            action()
            with contextlib.suppress(RuntimeError):  # the test has ended meanwhile, and its loop is closed
                loop.call_soon_threadsafe(done.set_result, None)

    proxy.on_request(look)
    return done


async def _call(function: Callable[[], Awaitable[None]]) -> None:
    await function()


def _begins_reply(chunk: bytes) -> bool:
    """Return whether one of the HTTP/2 frames in a chunk has the headers of a reply."""
    at = 0
    while at + _FRAME_HEADER <= len(chunk):
        if chunk[at + 3] == _HEADERS:
            return True
        at += _FRAME_HEADER + int.from_bytes(chunk[at : at + 3], "big")
    return False


def _skip_length(chunk: bytes, at: int) -> tuple[int, int]:
    """Return the number that a varint at this place is, and the place behind it."""
    size = shift = 0
    while True:
        byte = chunk[at]
        at += 1
        size |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return size, at
