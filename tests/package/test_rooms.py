"""The rooms of the house keep to themselves: rules of docs/architecture.md, read from the imports."""

from __future__ import annotations

import ast
import dataclasses
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from typing import NamedTuple, get_args

import pytest

import firestore_flowstate
from firestore_flowstate import FlowState
from firestore_flowstate._document.head import EXPIRY
from firestore_flowstate._document.stored_document import LayoutName
from firestore_flowstate._document.version import Version
from firestore_flowstate._own_fields import OWN_NAMES

PACKAGE = Path(firestore_flowstate.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))

PURE = ("_document", "_query")
FLOORS = ("_collection", "_commit", "_operations")  # above `_document`, `_query` and `_rpc`, the lowest first
LOWEST = ("_limits", "_error_texts", "_version")  # all rooms may import these
KNOW_THE_FORMAT = ("_document", "_query", "query")
PUBLIC = ("errors", "models", "pages", "query", "store", "unset", "codecs", "_own_fields", *LOWEST)
READS_THE_ENVIRONMENT = ("settings", "emulator", "cli", "flows.firebase")  # the last: one of firebase_admin
OF_GOOGLE = ("_rpc", "flows.cloud_tasks", "flows.firebase", "flows.dispatch.session", "flows.google_tokens")
OUTER = ("flows", "testing", "cli")  # built on the stores, of public names only
GOOGLES_OWN_SWITCHES = "_rpc.database"  # of client certificates, which Google's libraries take from there alone


LATE = {
    "": (
        1,
        "stores and settings are loaded when they are asked for, with what they need",
    ),
    "firestore": (2, "the connection, with grpc, when the store connects; types of google.cloud for native documents"),
    "_operations": (2, "the first operations at the same moment, and all when one of the others is called"),
    "_rpc.connection": (2, "google.auth and google.cloud take longer than grpc, and the emulator needs none of them"),
    "_rpc.channel": (1, "as above"),
    "_rpc.link": (1, "as above"),
    "_rpc.credentials": (1, "as above"),
    "_rpc.database": (2, "as above"),
    "_document.native_values": (3, "as above: values that JSON has not"),
    "_rpc.messages": (1, "protobuf's JSON, for those who look at a document as it is stored"),
    "_rpc.fork": (1, "a process without grpc is forked without it"),
    "_rpc.call_errors": (2, "firestore_admin takes 0.1 s, and only an error needs it"),
    "_document.builtin_codecs": (2, "cryptography is an extra"),
    "models": (1, "the one cycle, of which LEADS_BACK tells"),
    "emulator.command_line": (2, "rich is an extra"),
    "testing": (1, "pytest is loaded when its suites are asked for"),
    "testing.plugin": (3, "it is loaded in every run of an environment, also in those that test something else"),
    "cli.entry": (3, "click and rich are an extra, and without it the command says so"),
    "cli.indexing": (1, "the types of documents, for which --help need not wait"),
}
"""How many imports inside functions a room has, and why."""

LATE_OF_FLOWS = {
    "flows.cloud_tasks": (5, "google-cloud-tasks is an extra"),
    "flows.dispatch.session": (3, "google.auth takes longer than all of flows, and Firebase alone needs it"),
    "flows.firebase": (6, "firebase-admin is an extra"),
    "flows.flows": (1, "a cycle with its blocking face"),
    "flows.http": (1, "starlette is an extra, and is loaded when an app is made"),
    "flows.oidc": (2, "google.auth, as above, which only a target of Cloud Tasks needs"),
    "flows.open_telemetry": (1, "OpenTelemetry is used if the application has imported it"),
    "flows.payloads": (2, "jsonschema is an extra"),
}
"""Those of durable flows, whose queues, tokens and traces are libraries that most applications do without."""

MOST_LATE = 35
MOST_LATE_OF_FLOWS = 22


WHOLES = ("flows.driving.Drive", "flows.run.Run", "flows.flows.Flows", "flows.blocking.BlockingFlows")
"""What is made of parts that know its type: a drive, what its function sees of it, and the face of all."""
LEADS_BACK = ("models", "_document.json_text.value_as")
"""The one cycle of modules. `FlowState.cache_value` reads a value from its JSON form, since it is to give before a save
what it gives after one; and a value may have models in it, whose JSON form is of Genkit's names."""
BOTH_FACES = ("flows.flows", "flows.blocking.BlockingFlows")  # each of the two gives the other


class Import(NamedTuple):
    """One import, as the absolute name of what it names."""

    module: str
    imported: str
    line: int
    for_types_only: bool
    inside_a_function: bool


def _name(path: Path) -> str:
    """Return the name of a module inside the package. The package itself is the empty name."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(path: Path) -> Iterator[Import]:
    tree = ast.parse(path.read_text())
    package = path.relative_to(PACKAGE.parent).parent.parts
    typing_only = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.unparse(block.test)
        for node in ast.walk(block)
    }
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            names = [".".join((*base, *filter(None, [node.module]), alias.name)) for alias in node.names]
        else:
            continue
        for name in names:
            yield Import(_name(path), name, node.lineno, id(node) in typing_only, id(node) in inside)


@cache
def _all_imports() -> tuple[Import, ...]:
    return tuple(found for path in MODULES for found in _imports(path))


def _inside(found: Import) -> str | None:
    """Return what of this package is imported, as a name inside it."""
    head, _, rest = found.imported.partition(".")
    return rest if head == PACKAGE.name else None


def _is_in(name: str, *rooms: str) -> bool:
    return any(name == room or name.startswith(f"{room}.") for room in rooms)


def test_modules_are_found() -> None:
    """A wrong folder would make every test below pass."""
    assert {"", "models", "memory", "_document.head", "_rpc.connection", "testing.plugin"} <= set(map(_name, MODULES))
    assert any(found.imported == "firestore_flowstate.models.FlowState" for found in _all_imports())


def test_rooms_are_found() -> None:
    """A room that is not there would make a rule about it pass."""
    ruled = {*PURE, *FLOORS, *LOWEST, *PUBLIC, *READS_THE_ENVIRONMENT, *OF_GOOGLE, GOOGLES_OWN_SWITCHES, *LATE, *OUTER}

    assert set() == ruled - set(map(_name, MODULES))


def test_grpc_is_touched_in_one_room() -> None:
    """Only `_rpc` knows how calls are sent."""
    assert set() == {found for found in _all_imports() if _is_in(found.imported, "grpc")} - {
        found for found in _all_imports() if _is_in(found.module, "_rpc")
    }


def test_google_is_touched_in_one_room() -> None:
    """Only `_rpc`, queues and tokens import google.*, but for the types of values that documents are made of."""
    outside = {
        (found.module, found.imported)
        for found in _all_imports()
        if _is_in(found.imported, "google", "proto", "firebase_admin") and not _is_in(found.module, *OF_GOOGLE)
    }

    assert {module for module, _ in outside} <= {"_document.native_values"}
    assert {imported.rpartition(".")[2] for _, imported in outside} <= {
        "DatetimeWithNanoseconds",
        "Timestamp",
        "GeoPoint",
        "Vector",
    }


def test_pure_rooms_import_what_is_pure() -> None:
    """`_document` and `_query` know models and errors, the shapes of protobuf messages, and nothing that does I/O."""
    pure_modules = {"_rpc.messages", "_gc_pause", *PUBLIC}
    for found in _all_imports():
        inside = _inside(found)
        if inside is not None and _is_in(found.module, *PURE):
            assert _is_in(inside, *PURE, *pure_modules), found


def test_imports_stand_at_the_head_of_a_module() -> None:
    """Those inside functions are few, and each has its reason above."""
    statements = {(found.module, found.line) for found in _all_imports() if found.inside_a_function}
    late = Counter(module for module, _ in statements)

    assert {module: number for module, (number, _) in {**LATE, **LATE_OF_FLOWS}.items()} == dict(late)
    assert sum(number for number, _ in LATE.values()) <= MOST_LATE
    assert sum(number for number, _ in LATE_OF_FLOWS.values()) <= MOST_LATE_OF_FLOWS
    assert all(_is_in(module, "flows") for module in LATE_OF_FLOWS)


def test_modules_have_an_order() -> None:
    """Each can be read after those that it imports, for types and inside functions too: no import leads back.

    The types of wholes do, which their parts are given, and one import of a method of models.
    """
    after: dict[str, set[str]] = {name: set() for name in map(_name, MODULES) if name}
    for found in _all_imports():
        inside = _inside(found)
        if found.module not in after or inside is None or (found.module, inside) == LEADS_BACK:
            continue
        if inside in WHOLES and (found.for_types_only or (found.module, inside) == BOTH_FACES):
            continue
        imported = inside if inside in after else inside.rpartition(".")[0]
        after[found.module] |= {imported} & after.keys() - {found.module}

    assert len(after) == len([*TopologicalSorter(after).static_order()])  # which raises CycleError, and shows it


def test_documents_do_not_know_queries() -> None:
    """Between the pure rooms there is one direction: queries speak of documents."""
    for found in _all_imports():
        if _is_in(found.module, "_document"):
            assert not _is_in(_inside(found) or "", "_query"), found


@pytest.mark.parametrize("library", ["asyncio", "os", "socket", "threading", "time", "logging", "subprocess", "http"])
def test_pure_rooms_do_nothing(library: str) -> None:
    """They have no clock, no environment, no files and no waiting."""
    assert [] == [found for found in _all_imports() if _is_in(found.module, *PURE) and _is_in(found.imported, library)]


def test_the_models_know_no_room() -> None:
    """Models, errors and the protocol can be read, and imported, by themselves."""
    for found in _all_imports():
        inside = _inside(found)
        if inside is not None and found.module in PUBLIC:
            assert _is_in(inside, *PUBLIC) or (found.module, inside) == LEADS_BACK, found


def test_the_store_in_memory_knows_no_server() -> None:
    """It shares the format and the queries, and no code that calls anybody."""
    for found in _all_imports():
        if found.module == "memory":
            assert not _is_in(_inside(found) or "", "_rpc", *FLOORS, "firestore", "blocking"), found


def test_calls_know_nothing_of_flow_states() -> None:
    """`_rpc` sends what it is given: it knows settings and errors, not models and formats."""
    for found in _all_imports():
        if _is_in(found.module, "_rpc"):
            assert not _is_in(_inside(found) or "", "models", "memory", "firestore", *FLOORS, "_document"), found


@pytest.mark.parametrize(("room", "below"), [(room, FLOORS[:floor]) for floor, room in enumerate(FLOORS)])
def test_each_floor_stands_on_those_below_it(room: str, below: tuple[str, ...]) -> None:
    """A collection knows no write, and the path of a write knows no operation."""
    allowed = (
        "_document",
        "_query",
        "_rpc",
        *below,
        room,
        "settings",
        "reports",
        "_arguments",
        "_gc_pause",
        "copies",
        *PUBLIC,
    )
    for found in _all_imports():
        inside = _inside(found)
        if inside is not None and _is_in(found.module, room):
            assert _is_in(inside, *allowed), found


STORED_FIELDS = {
    "_flowstate",
    "flowId",
    "startTime",
    "status",
    "blockedOnStep",
    "shard",
    "expireAt",
    "summary",
    "input",
    "cache",
    "eventsTriggered",
    "operation",
    "executions",
    "traceContext",
    "extra",
    "log",
    "weight",
    "parts",
    "created",
    "wakeAt",
    "expireAfter",
    "errorLine",
    "steps",
    "lastEnd",
}
"""The names of fields of a document in either layout, down to those of its maps."""


def _names_of_fields(path: Path) -> Iterator[str]:
    """Yield the lines in which a module speaks of fields of documents, by their names or by looking into a message."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if node.value.split(".")[0].strip("`") in STORED_FIELDS and " " not in node.value:
                yield f"{path.name}:{node.lineno}: {node.value!r}"
        elif isinstance(node, ast.Name) and node.id == "PAYLOAD":
            yield f"{path.name}:{node.lineno}: PAYLOAD"
        elif isinstance(node, ast.Subscript) and ast.unparse(node.value).endswith(".fields"):
            yield f"{path.name}:{node.lineno}: {ast.unparse(node)}"


@pytest.mark.parametrize("room", [*FLOORS, "firestore", "memory", "_signals"])
def test_only_the_format_knows_names_of_fields(room: str) -> None:
    """Operations hold documents, versions and states: a change of the format stays in its room and in the query's."""
    paths = [path for path in MODULES if _is_in(_name(path), room)]

    assert paths
    assert [] == [found for path in paths for found in _names_of_fields(path)]


def test_own_names_are_listed_once() -> None:
    """They are those of the wire and those of a head. Only the format and queries go by the list."""
    assert {*FlowState.wire_names.values(), "status", "shard", EXPIRY, "summary", "_flowstate"} == OWN_NAMES
    for found in _all_imports():
        if _is_in(_inside(found) or "", "_own_fields"):
            assert _is_in(found.module, *KNOW_THE_FORMAT), found


TWO_SIDES = {
    "__init__.py": "what a room offers",
    "__main__.py": "what `python -m` runs",
    "blocking.py": "a facade for code without an event loop, of the store and of flows",
    "doctor.py": "what doctor looks at, in the store and in flows",
    "driving.py": "a drive, and the commands for it",
    "editing.py": "an operation, and its suite",
    "errors.py": "the errors, of the store and of flows",
    "listing.py": "an operation, the commands for it, and its suite",
    "suite.py": "the base of the suites, of stores and of flows",
    "watching.py": "an operation, the command for it, and its suite",
}
"""The file names that several rooms have, and the one thing that each stands for."""


def test_no_two_files_have_one_name() -> None:
    """A name leads to one thing, wherever in the package a reader meets it."""
    files = Counter(path.name for path in MODULES)

    assert set(TWO_SIDES) == {name for name, times in files.items() if times > 1}


def test_no_two_classes_have_one_name() -> None:
    """A name leads to one class, wherever in the package a reader meets it."""
    nodes = (node for path in MODULES for node in ast.walk(ast.parse(path.read_text())))
    classes = Counter(node.name for node in nodes if isinstance(node, ast.ClassDef))

    assert set() == {name for name, times in classes.items() if times > 1}


COMMITS = {
    "_commit.pending_write": (
        "commit_batches",  # what the loop sends
        "_commit_and_then_delete",  # the same, if Firestore refuses to delete so much at once
        "_write_ahead",  # the parts before it
    ),
    "_commit.deleting_parts": ("delete_parts",),  # parts that no root names, under a condition on the root
    "_operations.bulk": ("save_many",),  # up to 100 at once; each goes through the loop if that fails
    "_operations.deleting": ("delete_documents",),  # the same for delete_many and purge
}
"""Who sends a commit. docs/architecture.md ("Committing a write") says why these do, and why it is safe."""


def test_commits_are_sent_by_one_loop() -> None:
    """Only it knows what to do if a reply is lost. The others need no answer, or hand what they sent to it."""
    senders = {
        (_name(path), function.name)
        for path in MODULES
        for function in ast.parse(path.read_text()).body
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Attribute) and ast.unparse(node).endswith("connection.commit")
    }

    assert {(room, function) for room, functions in COMMITS.items() for function in functions} == senders


def test_versions_are_made_in_one_place() -> None:
    """What a version has is decided once, whoever reads or writes a document."""
    makers = {
        _name(path)
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Version"
    }

    assert set() == makers  # the class makes itself, in its own methods


def _derivations_of_versions(path: Path) -> Iterator[str]:
    """Yield the lines in which a module makes a version of another, or reads what a partial write has made of one."""
    names = {field.name for field in dataclasses.fields(Version)}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == "replace":
            if names & {keyword.arg for keyword in node.keywords}:
                yield f"{path.name}:{node.lineno}: {ast.unparse(node)}"
        elif isinstance(node, ast.Subscript) and ast.unparse(node.value).endswith("transforms"):
            yield f"{path.name}:{node.lineno}: {ast.unparse(node)}"


@pytest.mark.parametrize("room", FLOORS)
def test_only_the_format_derives_a_version(room: str) -> None:
    """An update or a compaction says what it did; what a version is after that is decided in its module."""
    assert [] == [found for path in (PACKAGE / room).glob("*.py") for found in _derivations_of_versions(path)]


def _branches_on_the_layout(path: Path) -> Iterator[str]:
    """Yield the lines in which a module asks which layout it has before it, or takes one of them by its name."""
    names = set(get_args(LayoutName))
    for node in ast.walk(ast.parse(path.read_text())):
        asked: list[ast.expr] = []
        if isinstance(node, ast.Compare):
            asked = [node.left, *node.comparators]
        elif isinstance(node, ast.Subscript):
            asked = [*ast.walk(node.slice)]  # type: ignore[list-item]  # expressions, and what these are made of
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "isinstance":
            asked = [inside for inside in ast.walk(node) if isinstance(inside, ast.Name)]
        named = any(isinstance(one, ast.Constant) and one.value in names for one in asked)
        of_a_class = any(isinstance(one, ast.Name) and one.id.endswith("Layout") for one in asked)
        if named or of_a_class or getattr(node, "attr", None) in ("is_native", "is_serialized"):
            yield f"{path.name}:{node.lineno}: {ast.unparse(node)}"  # type: ignore[attr-defined]  # all of these have one


@pytest.mark.parametrize("room", [*FLOORS, "firestore"])
def test_layouts_are_asked_and_not_told_apart(room: str) -> None:
    """What differs between the layouts is a method or an attribute of theirs; `_document.layouts.Layout` has all."""
    paths = [path for path in MODULES if _is_in(_name(path), room)]

    assert [] == [found for path in paths for found in _branches_on_the_layout(path)]


def test_a_layout_is_code_of_its_own() -> None:
    """Neither knows the other, and of the rooms above none knows one of them."""
    for found in _all_imports():
        if _is_in(_inside(found) or "", "_document.native", "_document.serialized"):
            assert _is_in(found.module, "_document.layouts"), found


@pytest.mark.parametrize("room", OUTER)
def test_outer_rooms_use_public_names_only(room: str) -> None:
    """What is built on the stores could be built by anybody. Durable flows know Firestore's limits as all rooms do."""
    for found in _all_imports():
        inside = _inside(found)
        if inside is not None and _is_in(found.module, room) and not _is_in(inside, room):
            if room == "flows" and _is_in(inside, *LOWEST):
                continue
            parts = inside.removesuffix("__version__").split(".")
            assert not any(part.startswith("_") for part in parts), found


def test_surrogates_have_one_check_and_one_wording() -> None:
    """`is_utf8` finds them, and NOT_UTF8 says so. In values of native documents protobuf finds them."""
    spelled = [
        f"{_name(path)}:{node.lineno}"
        for path in MODULES
        for tree in [ast.parse(path.read_text())]
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and "surrogate" in str(node.value) and node.value not in _docstrings(tree)
        if not _is_in(_name(path), "testing")
    ]

    assert ["_document.scalar_forms", "_error_texts"] == sorted(one.partition(":")[0] for one in spelled)  # of a pair


def _docstrings(tree: ast.AST) -> set[object]:
    return {node.value.value for node in ast.walk(tree) if isinstance(node, ast.Expr) and hasattr(node.value, "value")}


def test_nothing_imports_outer_rooms() -> None:
    """The package works without its command line and its tests."""
    for found in _all_imports():
        for room in ("testing", "cli"):
            if not _is_in(found.module, room):
                assert not _is_in(_inside(found) or "", room), found


def test_stores_know_nothing_of_durable_flows() -> None:
    """Flows are built on top. Only the outer rooms know both."""
    for found in _all_imports():
        if not _is_in(found.module, "flows", "testing", "cli"):
            assert not _is_in(_inside(found) or "", "flows"), found


def test_stores_never_read_the_environment() -> None:
    """Settings do, once. An app that passes settings is not surprised by a variable."""
    for path in MODULES:
        if _is_in(_name(path), *READS_THE_ENVIRONMENT, GOOGLES_OWN_SWITCHES):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = {getattr(node, "attr", None), getattr(node, "id", None), getattr(node, "name", None)}
            assert not names & {"environ", "getenv", "environb"}, f"{path}:{getattr(node, 'lineno', '?')}"


def test_nothing_has_a_lock_that_no_fork_knows_of() -> None:
    """Before Python 3.12 a cached_property has one for all instances: a child that finds it taken waits for ever."""
    assert [] == [found for found in _all_imports() if found.imported == "functools.cached_property"]


def test_no_module_is_a_drawer() -> None:
    """Names say what is inside."""
    drawers = {"utils", "util", "helpers", "common", "misc", "base", "mixins"}

    assert not drawers & {path.stem.strip("_") for path in MODULES}


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_a_module_has_at_most_300_lines_of_code(path: Path) -> None:
    """It holds one concept. Docstrings, comments, imports and signatures, which tell rather than do, do not count."""
    tree, text = ast.parse(path.read_text()), path.read_text().splitlines()
    telling: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            telling |= {*range(node.lineno, (node.end_lineno or 0) + 1)}
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            telling |= {*range(node.lineno, node.body[0].lineno)}
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            telling |= {*range(node.lineno, (node.end_lineno or 0) + 1)}
    code = [n for n, line in enumerate(text, 1) if n not in telling and line.strip() and line.strip()[0] != "#"]

    assert len(code) <= 300


@cache
def _loaded_by(code: str) -> frozenset[str]:
    """Return the modules that are loaded after the code ran in a Python of its own."""
    script = f"{code}\nimport sys\nprint(*sys.modules)"
    environment = {"PATH": "", "PYTHONPATH": str(PACKAGE.parent)}
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=True, env=environment
    )
    return frozenset(ran.stdout.split())


@pytest.mark.parametrize(
    "code",
    [
        "import firestore_flowstate",
        "from firestore_flowstate import FlowState; FlowState.start()",
        "from firestore_flowstate import MemoryFlowStateStore; MemoryFlowStateStore()",
        "from firestore_flowstate import FirestoreFlowStateStore; FirestoreFlowStateStore()",
        "from firestore_flowstate import *; SyncFlowStateStore(MemoryFlowStateStore())",
        "import firestore_flowstate.emulator",
        "import firestore_flowstate.flows",
        "from firestore_flowstate.flows import cloud_tasks, firebase, http",
        "from firestore_flowstate.testing import flow_states, same_state",
        "import firestore_flowstate.testing.plugin",
    ],
)
def test_no_grpc_before_the_first_call(code: str) -> None:
    """Importing the package and constructing stores is cheap, and safe before a fork."""
    loaded = _loaded_by(code) - _loaded_by("")  # in which google.cloud may be, as packages that share the name leave it

    assert "firestore_flowstate" in loaded
    assert not {name for name in loaded if name == "grpc" or name.startswith(("grpc.", "google.", "proto."))}


def test_importing_the_package_loads_no_settings() -> None:
    """pydantic-settings is as large again as the package."""
    assert not {"pydantic_settings", "firestore_flowstate.settings", "firestore_flowstate.memory"} & _loaded_by(
        "import firestore_flowstate"
    )


def test_the_plugin_loads_nothing_of_its_own() -> None:
    """It is loaded in every run of an environment, also in those that test something else."""
    before = _loaded_by("import pytest, firestore_flowstate")
    loaded = _loaded_by("import firestore_flowstate.testing.plugin")

    assert {"firestore_flowstate.testing", "firestore_flowstate.testing.plugin"} == {
        name for name in loaded - before if not name.startswith("_")
    }


def test_testing_can_be_imported_without_pytest() -> None:
    """Only what needs pytest asks for it: strategies and comparison serve other test runners."""
    code = (
        "import sys; sys.modules['pytest'] = None\n"
        "import firestore_flowstate.testing as testing\n"
        "testing.flow_states, testing.same_state\n"
        "try: testing.FlowStateStoreTests\n"
        "except ImportError: pass\n"
        "else: raise AssertionError"
    )

    assert "firestore_flowstate.testing.strategies" in _loaded_by(code)


def test_each_test_has_its_folder_and_each_folder_its_line() -> None:
    """Each folder has a line in tests/README.md. A package can have modules of the names that others have."""
    tests = Path(__file__).parents[1]
    folders = {path.parent for path in tests.rglob("test_*.py")}
    listed = re.findall(r"^\| \[`([a-z_]+)/`\]", (tests / "README.md").read_text(), re.MULTILINE)

    assert tests not in folders
    assert [] == [folder.name for folder in folders if not (folder / "__init__.py").exists()]
    assert {path.name for path in tests.iterdir() if path.is_dir() and path.name[0] not in "_."} == set(listed)
