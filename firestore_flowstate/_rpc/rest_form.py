"""Documents as Firestore's REST interface has them."""

from __future__ import annotations

from typing import Any

from google.protobuf.json_format import MessageToDict

from .messages import Document


def rest_form(document: Document) -> dict[str, Any]:
    """Return a document as JSON: its name and times, and its fields, each under the type of its value.

    Form: https://firebase.google.com/docs/firestore/reference/rest/v1/projects.databases.documents
    """
    return dict(MessageToDict(document))
