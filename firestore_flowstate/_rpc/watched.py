"""What is watched: a target of Listen, and its documents as the server has told them so far.

https://cloud.google.com/firestore/docs/reference/rpc/google.firestore.v1#listenrequest
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from .outcome import CallFailed

if TYPE_CHECKING:
    from .messages import Document, Target


class Watched:
    """A target that somebody watches. Changed on the loop of its stream alone, and read from any thread.

    Args:
        target: The documents or the query, without an id.
        notify: Tells the watcher to look at `latest`, `failure` and `is_lost`; returns whether it still can.

    Attributes:
        latest: The documents as of one moment, replaced whole; None until the first answer.
        count: How often `latest` was replaced.
        failure: What ended the watching.
        is_lost: Whether its stream has gone with its channel, so that it needs another.
        token: Where a stream may go on; empty where it must begin anew.
        anew: How often in a row its stream had to ask for everything again.
    """

    def __init__(self, target: Target, notify: Callable[[], bool]) -> None:
        self.target = target
        self.notify = notify
        self.latest: Sequence[Document] | None = None
        self.count = 0
        self.failure: CallFailed | None = None
        self.is_lost = True
        self.token = b""
        self.anew = 0
        self._documents: dict[str, Document] = {}
        self._is_current = False
        self._has_changed = True

    @property
    def size(self) -> int:
        """How many documents it has."""
        return len(self._documents)

    def begin(self) -> None:
        """Begin on another stream, which sends what has changed since the token, or everything."""
        self._is_current = False
        if not self.token:
            self.reset()

    def reset(self) -> None:
        """Forget the documents: the server sends all of them again. What the watcher has seen stays until then."""
        self._documents.clear()
        self._is_current = False
        self._has_changed = True

    def set(self, document: Document) -> None:
        """Take a document that belongs to it."""
        self._documents[document.name] = document
        self._has_changed = True

    def remove(self, name: str) -> None:
        """Take out a document that does not belong to it any more."""
        if self._documents.pop(name, None) is not None:
            self._has_changed = True

    def current(self) -> None:
        """Note that the server has sent everything up to some moment."""
        self._is_current = True
        self.anew = 0

    def publish(self) -> bool:
        """Show the watcher what there is, if that has changed; return whether the watcher is still there."""
        if not self._is_current or not self._has_changed:
            return True
        self._has_changed = False
        self.latest = tuple(self._documents.values())
        self.count += 1
        return self.notify()

    def fail(self, failure: CallFailed) -> None:
        """End the watching."""
        self.failure = failure
        self.notify()

    def lose(self) -> None:
        """Tell the watcher to ask for another stream."""
        self.is_lost = True
        self.notify()
