"""What each call returns, on the real emulator."""

from __future__ import annotations

from typing import Any

import pytest

from firestore_flowstate._rpc.connection import Connection
from firestore_flowstate._rpc.deadline import Deadline
from firestore_flowstate._rpc.outcome import Refused


async def put(connection: Connection, deadline: Deadline, collection: str, **numbers: int) -> dict[str, str]:
    """Store a document for each keyword with that number as `n`, and return their resource names."""
    documents = await connection.documents(deadline)
    from firestore_flowstate._rpc import messages

    names = {id: f"{documents}/{collection}/{id}" for id in numbers}
    writes = [
        messages.Write(update=messages.Document(name=names[id], fields={"n": messages.Value(integer_value=number)}))
        for id, number in numbers.items()
    ]
    await connection.commit(writes, deadline=deadline, flow_id=None)
    return names


def query(collection: str, **clauses: Any) -> Any:
    from firestore_flowstate._rpc import messages

    return messages.StructuredQuery(from_=[{"collection_id": collection}], **clauses)


async def test_commit_tells_each_update_time(connection: Connection, deadline: Deadline, collection: str) -> None:
    """A commit returns what the server does: the update time that the next precondition names."""
    names = await put(connection, deadline, collection, a=1)
    found = await connection.get(names["a"], deadline=deadline)
    from firestore_flowstate._rpc import messages

    write = messages.Write(
        update=messages.Document(name=names["a"]),
        current_document=messages.Precondition(update_time=found.update_time),
    )
    response = await connection.commit([write], deadline=deadline, flow_id="a")
    again = await connection.get(names["a"], deadline=deadline)

    assert again.update_time == response.write_results[0].update_time


async def test_get_of_nothing_is_none(connection: Connection, deadline: Deadline, collection: str) -> None:
    """A document that is not there is None, whatever its id says."""
    documents = await connection.documents(deadline)
    ids = ["x", "database x does not exist", "project x not found", "datastore mode"]

    assert [None] * 4 == [await connection.get(f"{documents}/{collection}/{id}", deadline=deadline) for id in ids]


async def test_get_reads_what_the_mask_names(connection: Connection, deadline: Deadline, collection: str) -> None:
    """A mask leaves fields out. An empty one leaves all of them out."""
    names = await put(connection, deadline, collection, a=1)

    masks = [None, ["n"], ["m"], []]
    found = [await connection.get(names["a"], deadline=deadline, mask=mask) for mask in masks]
    assert [["n"], ["n"], [], []] == [list(document.fields) for document in found]


async def test_reads_as_of_a_time(connection: Connection, deadline: Deadline, collection: str) -> None:
    """With a read_time, get, batch_get and run_query return the document as it was then."""
    names = await put(connection, deadline, collection, a=1)
    before = (await connection.get(names["a"], deadline=deadline)).update_time
    await put(connection, deadline, collection, a=2)
    documents = await connection.documents(deadline)

    got = await connection.get(names["a"], deadline=deadline, read_time=before)
    batch = await connection.batch_get([names["a"]], deadline=deadline, read_time=before)
    [queried], _ = await connection.run_query_at(documents, query(collection), deadline=deadline, read_time=before)
    assert [1, 1, 1] == [d.fields["n"].integer_value for d in (got, batch[names["a"]], queried)]


async def test_batch_get_leaves_out_what_is_missing(
    connection: Connection, deadline: Deadline, collection: str
) -> None:
    """What is found comes back by name. What is missing, and nothing asked for, is absent."""
    names = await put(connection, deadline, collection, a=1, b=2)
    missing = names["a"] + "-missing"

    found = await connection.batch_get([*names.values(), missing], deadline=deadline, mask=["n"])
    assert {names["a"]: 1, names["b"]: 2} == {name: d.fields["n"].integer_value for name, d in found.items()}
    assert {} == await connection.batch_get([], deadline=deadline)


async def test_queries_keep_their_order(connection: Connection, deadline: Deadline, collection: str) -> None:
    """Documents come in the order that the query names, and count agrees with their number."""
    await put(connection, deadline, collection, a=2, b=3, c=1)
    documents = await connection.documents(deadline)
    descending = query(collection, order_by=[{"field": {"field_path": "n"}, "direction": 2}])

    found = await connection.run_query(documents, descending, deadline=deadline)
    assert [3, 2, 1] == [document.fields["n"].integer_value for document in found]
    count, _ = await connection.count(documents, descending, deadline=deadline)
    none, _ = await connection.count(documents, query(collection + "-empty"), deadline=deadline)

    assert (3, 0) == (count, none)
    assert [] == await connection.run_query(documents, query(collection + "-empty"), deadline=deadline)


async def test_refusals_of_preconditions(connection: Connection, deadline: Deadline, collection: str) -> None:
    """A precondition that does not hold is a refusal that names the status, and nothing is written."""
    names = await put(connection, deadline, collection, a=1)
    from firestore_flowstate._rpc import messages

    conditions = {
        "ALREADY_EXISTS": (names["a"], messages.Precondition(exists=False)),
        "NOT_FOUND": (names["a"] + "-missing", messages.Precondition(exists=True)),
        "FAILED_PRECONDITION": (
            names["a"],
            messages.Precondition(update_time=messages.Timestamp(seconds=1)),
        ),
    }
    codes = []
    for name, condition in conditions.values():
        write = messages.Write(update=messages.Document(name=name), current_document=condition)
        with pytest.raises(Refused) as refused:
            await connection.commit([write], deadline=deadline, flow_id="a")
        codes.append(refused.value.code)
    assert list(conditions) == codes


async def test_refusal_of_a_large_request_comes_at_once(
    connection: Connection, deadline: Deadline, collection: str
) -> None:
    """A request over the emulator's 4 MiB has the status of a used up quota, and is not sent again."""
    documents = await connection.documents(deadline)
    from firestore_flowstate._rpc import messages

    large = messages.Value(bytes_value=bytes(5 << 20))
    write = messages.Write(update=messages.Document(name=f"{documents}/{collection}/a", fields={"x": large}))
    with pytest.raises(Refused) as refused:
        await connection.commit([write], deadline=deadline, flow_id="a")

    assert "RESOURCE_EXHAUSTED" == refused.value.code
    assert deadline.remaining() > 15


async def test_more_than_four_mebibytes_can_be_read(
    connection: Connection, deadline: Deadline, collection: str
) -> None:
    """Replies may be of any size: a query over 12 documents of 900 KB, and a batch of them, come whole."""
    documents = await connection.documents(deadline)
    from firestore_flowstate._rpc import messages

    large = messages.Value(bytes_value=bytes(900_000))
    names = [f"{documents}/{collection}/{number}" for number in range(12)]
    for name in names:
        write = messages.Write(update=messages.Document(name=name, fields={"x": large}))
        await connection.commit([write], deadline=deadline, flow_id=None)

    assert 12 == len(await connection.run_query(documents, query(collection), deadline=deadline))
    assert 12 == len(await connection.batch_get(names, deadline=deadline))


async def test_is_emulator_and_project(connection: Connection, deadline: Deadline) -> None:
    """On the emulator with no project named, the project is demo-flowstate."""
    assert "projects/demo-flowstate/databases/(default)/documents" == await connection.documents(deadline)
    assert connection.is_emulator
