"""The command that prints the index configuration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import click

from .options import given_settings, need_output, store_options
from .output import tell


@click.command()
@click.option(
    "--where", "keys", metavar="KEY", multiple=True, help="A key beside the state that queries filter by. Repeatable."
)
@click.option(
    "--format",
    type=click.Choice(["firebase", "terraform"]),
    default="firebase",
    show_default=True,
    metavar="FORMAT",
    help="firebase or terraform.",
)
@click.option("--unsharded-too", is_flag=True, help="Keep the indexes of one shard, while stores of one shard run.")
@store_options
def indexes(keys: Sequence[str], format: Literal["firebase", "terraform"], unsharded_too: bool) -> None:
    """Print the index configuration that the collection needs.

    It has the composite indexes, the fields without an index and the TTL policies, as firestore.indexes.json or as
    Terraform resources. Firestore is not called.
    """
    from ..indexes import index_file  # here, since it loads the types of documents, for which --help need not wait

    need_output()
    text = index_file(given_settings(), where=keys, format=format, unsharded_too=unsharded_too)
    tell(text.removesuffix("\n"))
