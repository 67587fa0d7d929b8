"""Names: ids of flow states, paths of collections and values, and field paths, by Firestore's rules.

Sources: https://firebase.google.com/docs/firestore/quotas#collections_documents_and_fields and
https://cloud.google.com/firestore/docs/reference/rpc/google.firestore.v1#fieldreference
"""

from __future__ import annotations

import json
import re
import secrets
from typing import Final

from ..errors import InvalidFlowIdError

MAX_NAME_BYTES: Final = 1500
MAX_PATH_BYTES: Final = 1499  # of a field path that a mask names, without its quotes
_RESERVED: Final = re.compile(r"__.*__", re.DOTALL)
_SIMPLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)


def check_flow_id(id: str) -> str:
    """Return the id if it can name a document, else raise InvalidFlowIdError with the rule it breaks.

    An id of a subclass of str, such as an enumeration, comes back as the text that it is equal to.
    """
    if not isinstance(id, str):
        raise InvalidFlowIdError(f"A flow id is a string, not {type(id).__name__}: {id!r:.200}")
    if rule := _broken_rule(id):
        raise InvalidFlowIdError(f"The flow id {id!r:.200} {rule}.", flow_id=id)
    return str.__str__(id)


def is_reserved(name: str) -> bool:
    """Return whether Firestore keeps the name for itself, of a document or a field."""
    return _RESERVED.fullmatch(name) is not None


def utf8_bytes(text: str) -> int | None:
    """Return how many bytes of UTF-8 the text has, or None if it has none: Firestore takes no lone surrogate."""
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        return None


def new_id() -> str:
    """Return a random id: 64 bits, as 11 characters."""
    return secrets.token_urlsafe(8)


def check_collection_path(path: str) -> str:
    """Return the path if it names a collection, else raise ValueError with the rule it breaks.

    A nested collection is ``collection/document/collection``: an odd number of names.
    """
    names = path.split("/")
    for name in names:
        if rule := _broken_rule(name):
            raise ValueError(f"the name {name!r:.200} in the collection path {path!r:.200} {rule}")
    if len(names) % 2 == 0:
        raise ValueError(
            f"the path {path!r:.200} names a document: a collection path has an odd number of names, "
            "as in 'flows' or 'tenants/acme/flows'"
        )
    return path


def _broken_rule(name: str) -> str | None:
    if not name:
        return "is empty, and Firestore has no nameless documents"
    if "/" in name:
        return "contains a slash, which would make it a path to another collection"
    if name in {".", ".."}:
        return "is '.' or '..', which Firestore reserves"
    if is_reserved(name):
        return "matches __.*__, which Firestore reserves"
    size = utf8_bytes(name)
    if size is None:
        return "contains a lone surrogate, so it is not valid UTF-8"
    if size > MAX_NAME_BYTES:
        return f"has {size:,} bytes of UTF-8, more than Firestore's {MAX_NAME_BYTES:,}"
    return None


def quoted(key: str) -> str:
    """Return a field's name as a field path, quoted whatever is in it.

    A carriage return is escaped too: read as it is, it becomes a line feed, and the path that of another field.
    """
    escaped = key.replace("\\", "\\\\").replace("`", "\\`").replace("\r", "\\r")
    return f"`{escaped}`"


def unquoted(path: str) -> str:
    """Return the name of the field that `quoted` has given this path."""
    return _ESCAPED.sub(lambda match: "\r" if match[1] == "r" else match[1], path[1:-1])


def field_path(key: str) -> str:
    """Return a field's name as a field path, quoted if it must be, as people write it."""
    return key if _SIMPLE.fullmatch(key) else quoted(key)


def in_cache(step: object) -> str:
    """Return the path of a step's entry."""
    return f"cache[{_shown(step)}]"


def in_events(step: object) -> str:
    """Return the path of an event's payload."""
    return f"events_triggered[{_shown(step)}]"


def in_extra(key: object) -> str:
    """Return the path of an unknown key that an update names."""
    return f"extra[{_shown(key)}]"


def _shown(step: object) -> str:
    if not isinstance(step, str):
        return repr(step)[:80]
    text = json.dumps(step if len(step) <= 80 else step[:80] + "…", ensure_ascii=False)
    return text.encode(errors="backslashreplace").decode()  # a lone surrogate could not be printed
