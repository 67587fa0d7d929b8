"""Versions: what a writer must know of a stored state to write on top of it in one round trip."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from typing import Any, Final, NamedTuple, TypeAlias, get_args
from zlib import crc32

import orjson

from .._limits import EPOCH, NANOS, SECONDS, Moment, exact, is_int64
from ..models import FlowState, StoredAs
from ..unset import Unset
from .head import EXPIRE_AFTER, StatusInputs, has_expired, own_duration
from .root import Root
from .stored_document import LayoutName, StoredDocument
from .stored_values import MAX_IDS, PartRef, part_count
from .update import Update

_FORMAT: Final = 1  # of the text
_MICROSECOND: Final = timedelta(microseconds=1)  # what Firestore's times are whole numbers of
_MICROSECONDS: Final = range(SECONDS.start * 10**6, SECONDS.stop * 10**6)  # since the epoch: the years 1 to 9999
_IN_9999: Final = 253_370_764_800_000_000  # microseconds since the epoch: long after any write
_BY_LETTER: Final[Mapping[str, LayoutName]] = {name[0]: name for name in get_args(LayoutName)}


@dataclass(frozen=True, kw_only=True)
class Written:
    """What a document was filled with, in either layout: its version follows from that.

    Attributes:
        layout: How it holds the state.
        expire_at: When the state expires; None: it does not.
        revision: The revision that it has; empty in the native layout, which has none.
        weight: The weight of the log in the root.
        parts: The references to its parts, each with their bytes.
        created: The id of the create that made the document; None if it is not known.
        has_extra: Whether the payload has unknown keys.
        owns_expiry: Whether ``expireAt`` is an unknown key of a native state.
        expire_after: The flow's own duration until it expires, in milliseconds; None if it has none.
    """

    layout: LayoutName
    expire_at: datetime | None
    revision: str = ""
    weight: int = 0
    parts: Sequence[tuple[PartRef, bytes]] = ()
    created: str | None = None
    has_extra: bool = False
    owns_expiry: bool = False
    expire_after: int | float | None = None

    @property
    def refs(self) -> tuple[PartRef, ...]:
        """Every reference to parts."""
        return tuple(ref for ref, _ in self.parts) if self.parts else ()

    @property
    def part_count(self) -> int:
        """How many parts it refers to."""
        return part_count(self.refs) if self.parts else 0


class Compacted(NamedTuple):
    """What a compaction has made of a root.

    Attributes:
        revision: The revision of the root, which no compaction changes.
        updated: Its update_time.
        weight: The weight of its log.
        part_count: How many parts it counts.
        part_refs: Its references to parts.
    """

    revision: str
    updated: Moment
    weight: int
    part_count: int
    part_refs: tuple[PartRef, ...]


@dataclass(frozen=True, kw_only=True)
class Version:
    """A stored version of a flow state.

    Attributes:
        updated: The update_time of the root document.
        revision: The id of its last segment; empty in the native layout, which has no segments.
        layout: How it is stored.
        status_inputs: What its status follows from.
        weight: The weight of the log inside the root: its bytes, plus 1,000 a segment.
        part_count: How many parts the root counts: as many as it refers to, or more.
        created: The id of the create that made the document; None if it is not known.
        expires: When it expires, in microseconds since the epoch; None if it does not. A float of seconds would be some
            microseconds off for times centuries away.
        owns_expiry: Whether ``expireAt`` of a native document is an unknown key of its state.
        expire_after: Its flow's own duration until it expires, in milliseconds; None if it has none.
        has_extra: Whether its payload has unknown keys, which no partial write can remove.
        part_refs: The references of the root to parts; None if it has some that were not read. They are not in the
            text of a version: no commit may delete a part because a text says so.
        is_hearsay: Whether it was read from a text, which may have been changed on its way, or follows from such a
            version by updates that read nothing.
    """

    updated: Moment
    revision: str
    layout: LayoutName
    status_inputs: StatusInputs
    weight: int = 0
    part_count: int = 0
    created: str | None = None
    expires: int | None = None
    owns_expiry: bool = False
    expire_after: int | float | None = None
    has_extra: bool = False
    part_refs: tuple[PartRef, ...] | None = field(default=(), compare=False)
    is_hearsay: bool = field(default=False, compare=False)

    @classmethod
    def of_document(cls, document: StoredDocument, status_inputs: StatusInputs) -> Version:
        """Return the version of a document. It has no revision if the document was read by the mask `UPDATE_BASE`."""
        return cls(
            updated=document.updated,
            revision=document.revision,
            layout=document.layout,
            status_inputs=status_inputs,
            weight=document.weight,
            part_count=document.part_count,
            created=document.created,
            expires=_since_epoch(document.expire_at),
            owns_expiry=document.owns_expiry,
            expire_after=document.expire_after,
            has_extra=document.has_extra,
            part_refs=document.known_refs,
        )

    @classmethod
    def of_save(
        cls,
        written: Written,
        *,
        updated: Moment,
        status_inputs: StatusInputs,
        root: Root | None,
    ) -> Version:
        """Return the version of a state that was stored whole.

        Args:
            written: What its document was filled with.
            updated: The update_time that the commit gave it.
            status_inputs: What its status followed from when it was encoded.
            root: Its root as it was found stored, if the reply was lost; None: it is stored as it was written.
        """
        found = root or written
        return cls(
            updated=updated,
            revision=written.revision,
            layout=written.layout,
            status_inputs=status_inputs,
            weight=found.weight,
            part_count=found.part_count,
            part_refs=found.refs,
            created=written.created,
            expires=_since_epoch(written.expire_at),
            owns_expiry=written.owns_expiry,
            has_extra=written.has_extra,
            expire_after=written.expire_after,
        )

    @classmethod
    def of(cls, state: FlowState, document: str) -> Version | None:
        """Return the version that the state was last loaded or stored as in a document; None if that is not known."""
        noted = state._noted_of(document)
        return noted.known if isinstance(noted, KnownDocument) else None

    def after_update(
        self,
        update: Update,
        *,
        updated: Moment,
        expire_at: datetime | Unset | None,
        refs: Sequence[PartRef],
        transforms: Sequence[Any],
        rebased: Root | None,
        root: Root | None,
    ) -> Version:
        """Return the version that an update makes of this one.

        Args:
            update: What was written.
            updated: The update_time that the commit gave it.
            expire_at: When it expires; UNSET: as before.
            refs: The references of its root to parts, as far as they were known when the update was sent.
            transforms: What Firestore returned for the transforms; empty if the reply was lost.
            rebased: The root that the update was put on top of, if maintenance had changed it since; None: it had not.
            root: The root after the update as it was found stored, if the reply was lost.
        """
        base = self
        after: tuple[PartRef, ...] | None
        if rebased is not None:
            refs = rebased.refs
            base = replace(self, weight=rebased.weight, part_count=rebased.part_count, part_refs=rebased.refs)
        if root is not None:
            weight, count, after = root.weight, root.part_count, root.refs
        else:
            weight, count = update.counts_after(base.weight, base.part_count, refs=refs, results=transforms)
            after = None if base.part_refs is None else update.refs_after(base.part_refs)
        return replace(
            base,
            updated=updated,
            revision=update.revision,
            status_inputs=update.status_inputs_after(base.status_inputs),
            weight=weight,
            part_count=count,
            part_refs=after,
            expires=base.expires if isinstance(expire_at, Unset) else _since_epoch(expire_at),
            expire_after=update.change.own_duration_after(base.expire_after),
        )

    def after_compaction(self, compacted: Compacted | None) -> Version:
        """Return this version as it was compacted; itself if it was not, or if another one was."""
        if compacted is None or compacted.revision != self.revision:
            return self
        return replace(
            self,
            updated=compacted.updated,
            weight=compacted.weight,
            part_count=compacted.part_count,
            part_refs=compacted.part_refs,
        )

    def with_revision_of(self, other: Version) -> Version:
        """Return this version with the revision of another text of it, since it was read without its log."""
        return replace(self, revision=other.revision)

    def without_parts(self) -> Version:
        """Return this version as one that has no parts."""
        return replace(self, part_refs=())

    def as_if_it_expired(self) -> Version:
        """Return this version as one that expires at some time, in the year 9999 if it does not."""
        return self if self.expires is not None else replace(self, expires=_IN_9999)

    def is_of(self, document: StoredDocument) -> bool:
        """Return whether the document is this version, also if maintenance has packed it anew since."""
        return document.updated == self.updated or (document.root is not None and document.revision == self.revision)

    def expire_at(self) -> datetime | None:
        """Return when the state expires, in UTC; None if it does not."""
        return None if self.expires is None else EPOCH + timedelta(microseconds=self.expires)

    def has_expired(self) -> bool:
        """Return whether the state counts as absent by now."""
        return has_expired(self.expire_at(), datetime.now(timezone.utc))

    def stamp(self, state: FlowState, document: str, *, revisions: Sequence[str]) -> FlowState:
        """Note on the state that it is stored in the document as this version; return the state.

        Args:
            state: The state.
            document: The resource name of the document.
            revisions: The revisions that a write on top of it is to remember, oldest first.
        """
        assert self.part_refs is not None  # noqa: S101  # the whole state was read or written, and its references too
        origin = state._origin_beside(document)
        state._note_stored(KnownDocument(self, document, tuple(revisions[-MAX_IDS:]), origin))
        return state

    def to_text(self, document: str) -> VersionText:
        """Return the version as the opaque text that users hold, bound to the path of its document.

        In this process the text remembers the version itself, with the references that no text has, and the database.

        A commit gives all its documents the same update_time, so without the path the version of one could pass for
        that of another. The check at the end finds texts that were changed by accident. It is not a signature.
        """
        status_inputs = self.status_inputs
        flags = f"{status_inputs.ended[:1]}{'b' * status_inputs.blocked}{'x' * status_inputs.executed}"
        flags += "o" * self.owns_expiry + "e" * self.has_extra
        fields: list[Any] = [
            _FORMAT,
            *self.updated,
            self.revision,
            self.layout[0],
            flags,
            self.weight,
            self.part_count,
            self.created,
            self.expires,
            self.expire_after,
        ]
        check = check_of(_path_of(document), fields)
        text = base64.urlsafe_b64encode(orjson.dumps([*fields, check])).decode().rstrip("=")
        return VersionText.of(text, self, document)

    @classmethod
    def from_text(cls, text: str, document: str) -> Version | None:
        """Return the version that the text stands for; None if it is not of a document at the path of this one.

        The text may come from a browser, so that each field in it is checked as those of a stored document are.
        A text that `to_text` has returned in this process is not parsed: it has the version as an attribute. Of another
        subclass of str the text counts, whatever its methods say: a conflict would make callers try again and again.
        So it does of a document at the same path in another database, whose layout and parts are not those of this one.
        """
        if type(text) is VersionText and text.document == document:
            return text.known
        text = exact(text)
        try:
            fields = json.loads(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True))
            form, seconds, nanos, revision, layout, flags, weight, parts, created, expires, own, check = fields
            if form != _FORMAT or check != check_of(_path_of(document), fields[:-1]):
                return None
            return cls(
                updated=Moment(_within(SECONDS, seconds), _within(NANOS, nanos)),
                revision=_text(revision),
                layout=(told := _BY_LETTER.get(layout, "serialized")),
                status_inputs=StatusInputs(
                    "failed" if "f" in flags else "done" if "d" in flags else "", "b" in flags, "x" in flags
                ),
                weight=_integer(weight),
                part_count=_integer(parts),
                created=None if created is None else _text(created),
                expires=None if expires is None else _within(_MICROSECONDS, expires),
                expire_after=None if own is None else _number(own),
                owns_expiry="o" in flags and told == "native",
                has_extra="e" in flags,
                part_refs=() if parts <= 0 else None,
                is_hearsay=True,
            )
        except (
            ValueError,
            TypeError,
            AttributeError,  # it is not a text
            OverflowError,
            RecursionError,
        ):
            return None


@dataclass(frozen=True)
class Anything:
    """A flow state or none: the write replaces or deletes whatever is stored."""


@dataclass(frozen=True)
class Absent:
    """No flow state, or one that has expired."""


@dataclass(frozen=True)
class Exactly:
    """One version of the flow state, also as maintenance has packed it anew since.

    Attributes:
        version: The version.
    """

    version: Version


@dataclass(frozen=True)
class AsRead:
    """A document that nobody has written since it was read.

    Attributes:
        updated: The update_time that it had.
    """

    updated: Moment


Expectation: TypeAlias = Anything | Absent | Exactly | AsRead
"""What a write expects to find in place of what it writes."""


class VersionText(str):
    """The text of a version that has not left this process. A copy that comes out of pickle or JSON is a plain str.

    So is ``str(version)``, which libraries need that take no subclass of str, as `yaml.safe_dump` does not.

    Attributes:
        known: The version.
        document: The resource name of its document.
    """

    __slots__ = ("document", "known")
    known: Version
    document: str

    @classmethod
    def of(cls, text: str, known: Version, document: str) -> VersionText:
        """Return the text of the version of the document."""
        made = cls(text)
        made.known, made.document = known, document
        return made

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, (str.__str__(self),)


@dataclass(frozen=True)
class KnownDocument:
    """What a state knows of the document that it was read from or written to.

    Attributes:
        known: Its version, with its parts.
        document: Its resource name, which has the project and the database.
        revisions: The revisions that a write on top of it is to remember, oldest first; at most 64.
        origin: What the state knows of the document that it was first read from or written to, if that is another one.
    """

    known: Version
    document: str
    revisions: tuple[str, ...]
    origin: StoredAs | None = None

    @classmethod
    def of(cls, state: FlowState, document: str) -> KnownDocument | None:
        """Return what a state knows of a document; None if it was neither read from it nor written to it."""
        noted = state._noted_of(document)
        return noted if isinstance(noted, KnownDocument) else None

    @property
    def version(self) -> str:
        """The version as text. It is made when somebody asks for it: most states are stored again without it."""
        return self.known.to_text(self.document)

    @property
    def updated_at(self) -> datetime:
        """When it was written, in UTC."""
        return self.known.updated.as_datetime()

    @property
    def expire_at(self) -> datetime | None:
        """When it expires; None if it does not."""
        return self.known.expire_at()

    @property
    def sorts_keys(self) -> bool:
        """Whether the maps of its values come back with sorted keys."""
        return self.known.layout == "native"


def revisions_to_remember(state: FlowState, base: Version | None) -> tuple[str, ...]:
    """Return the revisions that a write of the whole state on top of a version can remember, oldest first."""
    if base is None or not base.revision:
        return ()
    noted = state._noted()
    for known in (noted, getattr(noted, "origin", None)):
        if isinstance(known, KnownDocument) and known.revisions[-1:] == (base.revision,):
            return known.revisions
    return (base.revision,)


def check_of(path: str, fields: Sequence[object]) -> int:
    """Return the check of the fields of a version of the document at the path: a CRC-32, against accidents alone."""
    return crc32(path.encode() + b"\0" + orjson.dumps(fields))


def _path_of(document: str) -> str:
    """Return the path of a document relative to its database, if it is not that already."""
    return document.partition("/documents/")[2] or document


def _since_epoch(moment: datetime | None) -> int | None:
    return None if moment is None else (moment - EPOCH) // _MICROSECOND


def _within(numbers: range, value: object) -> int:
    if not isinstance(value, int) or value not in numbers:
        raise ValueError
    return int(value)


def _integer(value: object) -> int:
    if not isinstance(value, int) or not is_int64(value):
        raise ValueError
    return int(value)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    value.encode()  # ValueError: a lone surrogate, which no message can hold
    return value


def _number(value: object) -> int | float:
    found = own_duration({EXPIRE_AFTER: value})
    if found is None:
        raise ValueError
    return found
