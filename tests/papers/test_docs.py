"""The papers say what is so: their code runs, their links lead somewhere, and nothing public is left out."""

from __future__ import annotations

import ast
import inspect
import json
import os
import re
import subprocess
import uuid
from pathlib import Path

import pytest

import firestore_flowstate
import firestore_flowstate.flows  # whose errors stand in the same table
from firestore_flowstate import FlowState, FlowStateError, FlowStateSettings
from firestore_flowstate.emulator import Emulator
from tests.format.saved import saved
from tests.rpc.strict_python import STRICT_PYTHON

PROJECT = Path(__file__).parents[2]
README = (PROJECT / "README.md").read_text()
PAPERS = sorted(
    paper for place in ("", "docs/**/", "emulator/", "tests/data/*/") for paper in PROJECT.glob(f"{place}*.md")
)
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def test_the_first_lines_of_the_readme_run(firestore_emulator: Emulator) -> None:
    """The code prints what the block after it says."""
    index = next(index for index, (language, _) in enumerate(BLOCKS) if language == "python")
    ran = python("-c", BLOCKS[index][1], emulator=firestore_emulator)

    assert ("", BLOCKS[index + 1][1]) == (ran.stderr, ran.stdout)


def test_what_the_readme_says_of_a_document_of_your_own_is_so(firestore_emulator: Emulator) -> None:
    """The two failures are Firestore's and Google's client's, as they are printed."""
    (index,) = (index for index, (_, text) in enumerate(BLOCKS) if "import firestore\n" in text)
    ran = python("-c", BLOCKS[index][1], emulator=firestore_emulator)

    assert ("", BLOCKS[index + 1][1]) == (ran.stderr, ran.stdout)


def test_the_badges_are_true() -> None:
    """The Pythons, the license and the strictness of types are those of pyproject.toml."""
    project = (PROJECT / "pyproject.toml").read_text()
    pythons = re.findall(r"Python :: (3\.\d+)", project)
    badges = re.findall(r"!\[(\w+): (.*?)\]\((docs/badges/\w+\.svg)\)", README)

    assert {
        "python": f"{pythons[0]} to {pythons[-1]}",
        "types": "mypy strict" if "strict = true" in project else "",
        "license": re.findall(r'^license = "(.*)"', project, re.MULTILINE)[0],
    } == {name: text for name, text, _ in badges}
    for name, text, file in badges:
        assert f"<title>{name}: {text}</title>" in (PROJECT / file).read_text()


def test_the_diagram_names_fields_of_a_flow_state() -> None:
    """What the life of a flow shows is in the document under that name."""
    drawn = re.findall(r'class="field".*?>(\w+)', (PROJECT / "docs" / "diagrams" / "life-of-a-flow.svg").read_text())
    fields = {field.alias or name for name, field in FlowState.model_fields.items()}

    assert {"wakeAt"} == set(drawn) - fields


def test_every_public_name_is_in_the_table_of_names() -> None:
    """Who reads the page knows what there is, and is told of nothing that is not there."""
    cells = re.findall(r"^\| \[.*?\| (.*) \|$", (PROJECT / "docs" / "names.md").read_text(), re.MULTILINE)

    assert sorted(firestore_flowstate.__all__) == sorted(re.findall(r"`(\w+)`", "\n".join(cells)))


def test_every_name_of_durable_flows_is_on_the_page_of_names() -> None:
    """The page names all of them but the errors, which have a page of their own."""
    text = (PROJECT / "docs" / "names.md").read_text().partition("What `import firestore_flowstate.flows` has")[2]
    names = [name for name in firestore_flowstate.flows.__all__ if not name.endswith("Error")]

    assert sorted(names) == sorted(re.findall(r"`(\w+)`", text))


def test_the_table_of_errors_is_complete() -> None:
    """It has each error once, below its base, with the fields that it adds and the built-in error that it also is."""
    text = (PROJECT / "docs" / "errors.md").read_text()
    rows = re.findall(r"^\| ((?:&nbsp; )*)(`.*?) \|", text, re.MULTILINE)

    assert [error_row(kind) for kind in errors()] == [(indent.count("&"), *cell_of(cell)) for indent, cell in rows]


def test_the_table_of_settings_is_complete() -> None:
    """It has each setting with its variable and its default, in the order of the class."""
    text = (PROJECT / "docs" / "settings.md").read_text()
    lines = [[cell.strip() for cell in line.split("|")] for line in text.splitlines() if line.startswith("| `")]
    rows = [(cells[1].strip("`"), *cells[2:4]) for cells in lines]

    assert [row(name) for name in FlowStateSettings.model_fields] == rows


@pytest.mark.parametrize("paper", PAPERS, ids=lambda paper: str(paper.relative_to(PROJECT)))
def test_links_lead_somewhere(paper: Path) -> None:
    """Relative links name files that are there. Anchors name headings."""
    for link in LINK.findall(paper.read_text()):
        target, _, anchor = link.partition("#")
        if "://" in target:
            continue
        path = (paper.parent / target).resolve() if target else paper
        assert path.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}, link


def test_the_examples_of_payloads_run(firestore_emulator: Emulator) -> None:
    """Each makes a store that keeps a flow state."""
    blocks = re.findall(
        r"^```python\n(.*?)^```", (PROJECT / "docs" / "payloads.md").read_text(), re.MULTILINE | re.DOTALL
    )
    use = (
        "import os\nos.environ['WRAPPED_KEY'] = 'MDEyMzQ1Njc4OWFiY2RlZg=='\n{}\n"
        "from firestore_flowstate import FlowState, SyncFlowStateStore\n"
        "with SyncFlowStateStore(store) as blocking:\n"
        "    blocking.create('flow', FlowState.start(input='You are a helpful assistant.'))\n"
        "    print(blocking.load('flow').input)\n"
    )

    ran = [python("-c", use.format(block), emulator=firestore_emulator) for block in blocks]
    assert 2 * [("", "You are a helpful assistant.\n")] == [(run.stderr, run.stdout) for run in ran]


def test_the_example_of_values_prints_what_it_says(firestore_emulator: Emulator) -> None:
    """A model is read back as itself."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", (PROJECT / "docs" / "values.md").read_text(), re.MULTILINE | re.DOTALL)
    ran = python("-c", blocks[0], emulator=firestore_emulator)

    assert ("", blocks[1]) == (ran.stderr, ran.stdout)


def test_modules_that_the_architecture_names_are_there() -> None:
    """A file that was renamed is renamed in the papers."""
    text = (PROJECT / "docs" / "architecture.md").read_text()
    package = PROJECT / "firestore_flowstate"
    for name in re.findall(r"`(_(?:document|query|rpc|collection|commit|operations)[./]\w+)(?:\.py)?`", text):
        path = package / name.replace(".", "/")
        assert path.with_suffix(".py").exists() or path.is_dir(), name
    for name in re.findall(r"`((?:tests|benchmarks)/[\w/]+\.py)`", text):
        assert (PROJECT / name).exists(), name


def test_the_architecture_names_every_file_of_the_rooms_and_no_other() -> None:
    """A newcomer finds each file, and what it is for, in one list."""
    text = (PROJECT / "docs" / "architecture.md").read_text()
    package = PROJECT / "firestore_flowstate"
    rooms = ("_document", "_query", "_rpc", "_collection", "_commit", "_operations")
    files = {f"{room}/{path.name}": path for room in rooms for path in (package / room).glob("*.py")}
    private = {path.name for path in package.glob("_*.py")}
    said = dict(re.findall(r"^\| `(_\w+/\w+\.py)` \| (.*) \|$", text, re.MULTILINE))

    assert {name: _first_sentence(path) for name, path in files.items() if path.name != "__init__.py"} == said
    assert [] == sorted(name for name in private - {"__init__.py"} if f"`{name}`" not in text)


def test_the_architecture_names_every_module_of_durable_flows() -> None:
    """So is each module of flows in one list, a row for those that belong together."""
    text = (PROJECT / "docs" / "architecture.md").read_text()
    table = text.partition("\n## How a run is driven\n")[2].partition("\n\n| module |")[2].partition("\n\n")[0]
    modules = [path.name for path in (PROJECT / "firestore_flowstate" / "flows").glob("*.py")]

    named = re.findall(r"`(\w+\.py)`", "".join(row.split("|")[1] for row in table.splitlines()[2:]))

    assert sorted(name for name in modules if name != "__init__.py") == sorted(named)


def _first_sentence(path: Path) -> str:
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    assert docstring is not None, path
    return " ".join(docstring.partition("\n\n")[0].split())


def test_each_row_of_the_table_of_commits_is_decided_in_the_code() -> None:
    """Who reads a row finds it in the code by its number, and who reads the code finds its row."""
    text = (PROJECT / "docs" / "architecture.md").read_text()
    table = text.partition("\n## Committing a write\n")[2].partition("\n## ")[0]
    rows = [int(number) for number in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)]
    code = "".join(path.read_text() for path in sorted((PROJECT / "firestore_flowstate").rglob("*.py")))
    decided = {int(number) for found in re.findall(r"# rows? ([\d, ]+)", code) for number in found.split(",")}

    assert list(range(1, len(rows) + 1)) == rows
    assert set(rows) == decided


def test_the_example_of_the_format_is_a_saved_document() -> None:
    """The specification shows what the tests of the format compare with."""
    example = re.search(r"```json\n(.*?)```", (PROJECT / "docs" / "format.md").read_text(), re.DOTALL)

    assert example is not None
    assert saved({}) == json.loads(example[1])


def errors() -> list[type[FlowStateError]]:
    """Return the tree of errors, each before what is below it, in the order of the module."""

    def below(kind: type[FlowStateError]) -> list[type[FlowStateError]]:
        return [kind, *(one for child in kind.__subclasses__() for one in below(child))]

    return below(FlowStateError)


def error_row(kind: type[FlowStateError]) -> tuple[int, str, set[str]]:
    """Return how deep an error is, its name, and its other base and the fields that it brings."""
    own = inspect.signature(kind).parameters.values() if "__init__" in vars(kind) else ()
    fields = {one.name for one in own if one.kind is one.KEYWORD_ONLY} - {"flow_id"}
    depth = sum(issubclass(one, FlowStateError) for one in kind.__mro__) - 1
    return depth, kind.__name__, fields | {one.__name__ for one in kind.__bases__[1:]}


def cell_of(cell: str) -> tuple[str, set[str]]:
    """Return the name in the first cell of an error's row, and the other names."""
    name, *others = re.findall(r"`(\w+)`", cell)
    return name, set(others)


def row(name: str) -> tuple[str, str, str]:
    """Return the first cells of a setting's row."""
    default = FlowStateSettings.model_fields[name].default
    variable = "" if name.endswith("codecs") else f"`FLOWSTATE_{name.upper()}`"
    return name, variable, "" if default in (None, ()) else f"`{default}`"


def python(*arguments: str, emulator: Emulator) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **emulator.environment, "GOOGLE_CLOUD_PROJECT": f"demo-{uuid.uuid4().hex[:12]}"}
    return subprocess.run(
        [*STRICT_PYTHON, *arguments],
        env=environment,
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
