"""What a user hovers over: each method of each store has the docstring of the contract, and its example runs."""

from __future__ import annotations

import ast
import asyncio
import bz2
import inspect
import re
import textwrap
from collections.abc import Callable
from datetime import date, timedelta, timezone
from pathlib import Path
from types import ModuleType
from typing import Any

import firebase_admin
import griffe
import pytest
from pydantic import BaseModel

import firestore_flowstate
from docs.docstrings import Inherited
from firestore_flowstate import (
    CacheEntry,
    FirestoreFlowStateStore,
    FlowState,
    FlowStateSettings,
    FlowStateStore,
    MemoryFlowStateStore,
    SyncFlowStateStore,
    VersionedFlowStateStore,
    backup,
    copies,
    doctor,
    emulator,
    indexes,
    inspection,
)

METHODS = [
    (contract, name)
    for contract in (FlowStateStore, VersionedFlowStateStore)
    for name, member in vars(contract).items()
    if inspect.isfunction(member) and not name.startswith("_")
]
STORES = [FirestoreFlowStateStore, MemoryFlowStateStore, SyncFlowStateStore]
EXAMPLE = re.compile(r"^::\n\n((?:    .*\n|\n)+)", re.MULTILINE)


PUBLIC = (firestore_flowstate, backup, copies, doctor, emulator, indexes, inspection)
PYDANTICS = ".model_post_init"  # what a model must have for pydantic, which nobody else calls
EXAMPLE_IN_TEXT = re.compile(r"::\n\n((?:    .*\n|\n)+)", re.MULTILINE)


def example_of(contract: type, name: str) -> str:
    """Return the code in the docstring of a method."""
    [code] = EXAMPLE.findall(f"{inspect.getdoc(getattr(contract, name))}\n")
    return textwrap.dedent(code)


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("name", [name for contract, name in METHODS if contract is VersionedFlowStateStore])
def test_a_method_has_the_docstring_of_the_contract(store: type, name: str) -> None:
    """`help`, and an editor that runs the code, find it on the class that is used."""
    assert inspect.getdoc(getattr(VersionedFlowStateStore, name)) == inspect.getdoc(getattr(store, name))


@pytest.mark.parametrize("store", ["FirestoreFlowStateStore", "MemoryFlowStateStore"])
def test_a_reader_of_the_source_finds_it_through_the_bases(store: str) -> None:
    """Editors and the site do not run the code: the class names the contract as its base."""
    package: Any = griffe.load("firestore_flowstate", extensions=griffe.load_extensions(Inherited))
    contract = package["store.VersionedFlowStateStore"]
    for _, name in METHODS:
        assert contract[name].docstring.value == package[store][name].docstring.value


@pytest.mark.parametrize(("contract", "name"), METHODS)
def test_a_docstring_tells_of_each_argument_and_of_errors(contract: type, name: str) -> None:
    """It names each argument, and each error that is raised."""
    docstring = inspect.getdoc(getattr(contract, name)) or ""
    arguments = [one for one in inspect.signature(getattr(contract, name)).parameters if one != "self"]

    assert [] == [one for one in arguments if not re.search(rf"^    {one}: ", docstring, re.MULTILINE)]
    assert "\nRaises:\n" in docstring


@pytest.mark.parametrize("kind", [MemoryFlowStateStore, FirestoreFlowStateStore])
@pytest.mark.parametrize(("contract", "name"), METHODS)
async def test_an_example_runs(
    contract: type,
    name: str,
    kind: type[Any],
    flow_state_settings: FlowStateSettings,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It runs on a store that has the flow that all of them speak of."""
    store = kind(flow_state_settings)
    state = FlowState.start(name="publish", input="rivers")
    state.operation.done = True
    if contract is not VersionedFlowStateStore or name != "create":
        await store.save("order-17", FlowState.model_validate({**state.model_dump(by_alias=True), "wakeAt": 5}))
    code = f"async def example():\n{textwrap.indent(example_of(contract, name), '    ')}"
    names: dict[str, Any] = {**vars(firestore_flowstate), "store": store, "state": state, "timedelta": timedelta}
    names |= {one: getattr(firestore_flowstate, one) for one in firestore_flowstate.__all__}
    exec(compile(ast.parse(code), str(Path(__file__)), "exec"), names)  # noqa: S102  # what our own docstrings show
    await names["example"]()
    if kind is FirestoreFlowStateStore:
        await store.close()

    assert ("order-17 5\n" if name == "due" else "") == capsys.readouterr().out


def documented_beside_the_contract() -> dict[str, object]:
    """Return what is public beside the methods of the contract, by its name."""
    documented: dict[str, object] = {}
    for module in PUBLIC:
        if module is not emulator:  # which tells of a command line, too
            documented[module.__name__] = module
        for name in getattr(module, "__all__", [name for name in vars(module) if not name.startswith("_")]):
            value = getattr(module, name)
            if isinstance(value, ModuleType) or not (hasattr(module, "__all__") or is_of(module, value)):
                continue
            documented[name] = value
            for member, one in vars(value).items() if inspect.isclass(value) else ():
                if not member.startswith("_") and member not in vars(VersionedFlowStateStore):
                    documented[f"{name}.{member}"] = one
    return documented


def is_of(module: ModuleType, value: object) -> bool:
    """Return whether the module itself defines the value."""
    return getattr(value, "__module__", None) == module.__name__


def functions_beside_the_contract() -> dict[str, Callable[..., object]]:
    """Return those that are functions of this package and take arguments, by their names."""
    found = {}
    for name, value in documented_beside_the_contract().items():
        function = value.__func__ if isinstance(value, classmethod | staticmethod) else value
        if inspect.isfunction(function) and function.__module__.startswith("firestore_flowstate"):
            function = inspect.unwrap(function)
            if set(inspect.signature(function).parameters) - {"self", "cls"} and not name.endswith(PYDANTICS):
                found[name] = function
    return found


@pytest.mark.parametrize(("name", "function"), functions_beside_the_contract().items())
def test_a_docstring_beside_the_contract_tells_all(name: str, function: Callable[..., object]) -> None:
    """It has each argument, an example, and the errors of a call that is sent or that raises one by itself."""
    docstring = inspect.getdoc(function) or ""
    arguments = [one for one in inspect.signature(function).parameters if one not in ("self", "cls")]
    [tree] = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    raises = isinstance(tree, ast.AsyncFunctionDef) or any(isinstance(node, ast.Raise) for node in ast.walk(tree))
    of_class = inspect.getdoc(getattr(firestore_flowstate, name.partition(".")[0], None)) or ""

    assert [] == [one for one in arguments if not re.search(rf"^    {one}: ", docstring, re.MULTILINE)]
    assert not raises or "\nRaises:\n" in docstring
    assert EXAMPLE_IN_TEXT.search(f"{docstring}\n") or f"def {function.__name__}(" in of_class


def other_examples() -> dict[str, str]:
    """Return the code in the docstrings of what is public beside the methods of the contract, by its name."""
    docstrings = {name: inspect.getdoc(value) or "" for name, value in documented_beside_the_contract().items()}
    return {
        name: textwrap.dedent("\n".join(EXAMPLE_IN_TEXT.findall(f"{text}\n")))
        for name, text in docstrings.items()
        if EXAMPLE_IN_TEXT.search(f"{text}\n")
    }


OTHERS = other_examples()


class Plan(BaseModel):
    """The type that an example reads a step as."""

    rivers: list[str]


@pytest.mark.parametrize("name", OTHERS)
async def test_an_example_beside_the_contract_runs(
    name: str, flow_state_settings: FlowStateSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It runs on the same flow, in an empty folder, with settings from the environment."""
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", flow_state_settings.emulator_host or "")
    monkeypatch.setenv("FLOWSTATE_PROJECT", flow_state_settings.project or "")
    monkeypatch.chdir(tmp_path)
    state = FlowState.start(name="publish", input="rivers")
    state.cache["plan"] = CacheEntry(value={"rivers": ["Spree"]})
    state.events_triggered["approve"] = True
    state.cache["days"] = CacheEntry(value=["2026-11-28"])
    is_blocking = "await" not in OTHERS[name] and "async" not in OTHERS[name]
    code = f"{'' if is_blocking else 'async '}def example():\n{textwrap.indent(OTHERS[name], '    ')}"
    async with FirestoreFlowStateStore(flow_state_settings) as store:
        await store.save("order-17", state)
        names: dict[str, Any] = {"store": store, "state": state, "Plan": Plan, "date": date, "bz2": bz2}
        names |= {one: getattr(firestore_flowstate, one) for one in firestore_flowstate.__all__}
        names |= {"timedelta": timedelta, "timezone": timezone, "app": object.__new__(firebase_admin.App)}
        for module in PUBLIC[1:]:
            names |= vars(module)
        names["emulator"] = emulator.start_emulator()  # which is the one of the tests
        exec(compile(ast.parse(code), str(Path(__file__)), "exec"), names)  # noqa: S102  # our own docstrings
        if is_blocking:
            await asyncio.to_thread(names["example"])
        else:
            await names["example"]()


def test_the_examples_beside_the_contract_are_found() -> None:
    """They are those of classes, functions and a module."""
    assert {"FirestoreFlowStateStore", "SyncFlowStateStore", "FlowState.cache_value", "examine"} <= set(OTHERS)
    assert "firestore_flowstate.backup" in OTHERS
