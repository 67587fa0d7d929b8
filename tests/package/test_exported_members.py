"""What the packages say they export is there, all of it and nothing else."""

from __future__ import annotations

import importlib
import inspect
from types import ModuleType

import pytest

import firestore_flowstate
import firestore_flowstate.emulator
import firestore_flowstate.flows
import firestore_flowstate.testing
import firestore_flowstate.testing.conformance

PACKAGES = (
    firestore_flowstate,
    firestore_flowstate.emulator,
    firestore_flowstate.flows,
    firestore_flowstate.testing,
    firestore_flowstate.testing.conformance,
)

by_name = pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)


@by_name
def test_all_is_true(package: ModuleType) -> None:
    """Every name of __all__ can be had, each once, in an order that is found again."""
    for name in package.__all__:
        assert getattr(package, name) is not None or name == "UNSET"

    assert sorted(set(package.__all__)) == sorted(package.__all__)


@by_name
def test_star_import_works(package: ModuleType) -> None:
    """It imports lazy names too."""
    names: dict[str, object] = {}
    exec(f"from {package.__name__} import *", names)  # noqa: S102  # the statement under test

    assert set(package.__all__) <= set(names)


@pytest.mark.parametrize("package", PACKAGES[:3] + PACKAGES[4:], ids=lambda package: package.__name__)
def test_dir_shows_all_names(package: ModuleType) -> None:
    """It also shows those that are not loaded yet. That of `testing` does not: a frozen clock would import them all."""
    assert set(package.__all__) <= set(dir(package))


@by_name
def test_public_classes_and_functions_are_in_all(package: ModuleType) -> None:
    """Whatever the package imports from its own modules under a public name is exported on purpose."""
    imported = {
        name
        for name, value in vars(package).items()
        if not name.startswith("_")
        and (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__.startswith("firestore_flowstate")
    }

    assert imported <= set(package.__all__)


@by_name
def test_other_names_are_attribute_errors(package: ModuleType) -> None:
    """The error has the module and the name, as Python says it."""
    with pytest.raises(AttributeError, match=r"firestore_flowstate.*no_such_name"):
        _ = package.no_such_name


def test_lazy_names_are_what_their_modules_have() -> None:
    """A lazy name is loaded once, and is the class itself."""
    for package in (firestore_flowstate, firestore_flowstate.testing):
        for name, module in package._LAZY.items():
            assert getattr(importlib.import_module(f"{package.__name__}.{module}"), name) is getattr(package, name)


def test_every_error_is_exported() -> None:
    """Nobody needs to import from the module of errors."""
    errors = {name for name in vars(firestore_flowstate.errors) if name.endswith("Error")}

    assert errors <= set(firestore_flowstate.__all__)


@by_name
def test_exported_things_are_documented(package: ModuleType) -> None:
    """Each class and function says what it is."""
    things = [getattr(package, name) for name in package.__all__]

    assert [] == [
        thing for thing in things if (inspect.isclass(thing) or inspect.isfunction(thing)) and not thing.__doc__
    ]
