"""What is watched: a target of Listen, and its documents as the server has told them so far.

https://cloud.google.com/firestore/docs/reference/rpc/google.firestore.v1#listenrequest
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from .messages import Document, Target
from .outcome import CallFailed


class Watched:
    """A target that somebody watches. Changed on the loop of its stream alone, and read from any thread.

    Args:
        target: The documents or the query, without an id.
        notify: Tells the watcher to look at `latest`, `failure` and `is_lost`; returns whether it still can. The same
            for all targets of a watcher, who is to see all that have changed in one moment at once.

    Attributes:
        latest: The documents as of one moment, replaced whole; None until the first answer.
        count: How often `latest` was replaced.
        failure: What ended the watching.
        trouble: How its stream has failed last, since it was last heard of.
        attempts: How often the stream has failed since then.
        is_lost: Whether its stream has gone with its channel, so that it needs another.
        is_current: Whether the server has sent everything up to some moment.
        token: Where a stream may go on; empty if it must begin anew.
        anew: How often its stream had to ask for everything again, of late.
        asked_anew: When it last did.
    """

    def __init__(self, target: Target, notify: Callable[[], bool]) -> None:
        self.target = target
        self.notify = notify
        self.latest: Sequence[Document] | None = None
        self.count = 0
        self.failure: CallFailed | None = None
        self.trouble: CallFailed | None = None
        self.attempts = 0
        self.is_lost = True
        self.is_current = False
        self.token = b""
        self.anew = 0
        self.asked_anew = -math.inf
        self._documents: dict[str, Document] = {}
        self._has_changed = True

    @property
    def size(self) -> int:
        """How many documents it has."""
        return len(self._documents)

    def begin(self) -> None:
        """Begin on another stream, which sends what has changed since the token, or everything."""
        self.is_current = False
        if not self.token:
            self.reset()

    def reset(self) -> None:
        """Forget the documents: the server sends all of them again. What the watcher has seen stays until then.

        The token goes with them: a stream that went on from it would send only what has changed since.
        """
        self._documents.clear()
        self.token = b""
        self.is_current = False
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
        self.is_current = True
        self.trouble, self.attempts = None, 0

    def show(self) -> bool:
        """Put what there is into `latest`, if that has changed; return whether the watcher is to be told."""
        if not self.is_current or not self._has_changed:
            return False
        self._has_changed = False
        self.latest = tuple(self._documents.values())
        self.count += 1
        return True

    def note(self, trouble: CallFailed) -> None:
        """Note that its stream has failed, and is opened again."""
        self.trouble = trouble.with_traceback(None)  # kept for long, which its frames are not to be
        self.attempts += 1

    def fail(self, failure: CallFailed) -> None:
        """End the watching."""
        self.failure = failure
        self.notify()

    def lose(self) -> None:
        """Tell the watcher to ask for another stream."""
        self.is_lost = True
        self.notify()
