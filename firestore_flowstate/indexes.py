"""The index configuration that a store needs, to be deployed once per database.

``flowstate indexes`` prints the same. docs/indexes.md says how to deploy it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from ._arguments import check_keys
from ._query.index_configuration import index_configuration, to_firebase, to_terraform
from .errors import shown
from .settings import FlowStateSettings, settings_or_default


def index_file(
    settings: FlowStateSettings | None = None,
    *,
    where: Iterable[str] = (),
    format: Literal["firebase", "terraform"] = "firebase",
    unsharded_too: bool = False,
) -> str:
    """Return the text of a file with all composite indexes, exemptions and TTL policies.

    ::

        text = index_file(FlowStateSettings(collection="flows"), where=["owner"])

    Args:
        settings: Collection and shards are taken from them; for Terraform database and project too. None: settings
            from the environment.
        where: The unknown keys that queries filter by, such as ``["owner"]``. Each needs an index of its own.
        format: "firebase" for firestore.indexes.json, "terraform" for resources of the google provider.
        unsharded_too: Keep the indexes of ``shards=1`` beside those for more shards, for the time in which stores of
            both settings run.

    Raises:
        TypeError: `settings` is something else, or `where` is one text and not several.
        InvalidQueryError: `where` has a key that no query can filter by.
        ValueError: `format` is neither of the two.
    """
    settings = settings_or_default(settings)
    check_keys(where)
    configuration = index_configuration(
        settings.collection, shards=settings.shards, where=where, unsharded_too=unsharded_too
    )
    if format == "terraform":
        return to_terraform(configuration, database=settings.database, project=settings.project)
    if format != "firebase":
        raise ValueError(f"format is 'firebase' or 'terraform', not {shown(format)}")
    return to_firebase(configuration)
