"""Wrong arguments, settings and surroundings: one line that says what to do, and an exit code."""

from __future__ import annotations

import importlib.metadata
import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from firestore_flowstate.cli import main
from tests.cli.command import Outcome, Processes


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nope"], "No such command 'nope'"),
        (["list", "--nope"], "No such option '--nope'"),
        (["list", "--nope"], "(Did you mean one of: '--name', '--since', '--token'?) See flowstate list --help"),
        (["count", "--where", "x"], "'x' is not KEY=TEXT or KEY:=JSON. See flowstate count --help"),
        (
            ["purge", "--older-than", "99999999999d"],
            "'99999999999d' is too long: a number in a duration has at most 6",
        ),
        (["expire", "x", "--after", "P99999999999D"], "'P99999999999D' is too long"),
        (["expire", "x", "--after", "99999999999y"], "'99999999999y' is not a duration"),
        (["show", "x", "--raw", "--details"], "give one of --raw and --details"),
        *(
            (["worker", "shop:flows", "--poll", seconds], f"'{seconds}' is not a number of seconds from 0.01 to 86,400")
            for seconds in ("nan", "inf", "-1", "0", "86401", "soon")
        ),
        (["show"], "Missing argument 'ID'. See flowstate show --help"),
        (["delete"], "Missing argument 'ID...'"),
        (["export"], "Missing argument 'FILE'"),
        (["purge"], "Missing option '--older-than'"),
        (["list", "--limit", "0"], "Invalid value for '--limit'"),
        (["list", "--limit", "many"], "Invalid value for '--limit'"),
        (["list", "--status", "nix"], "'nix' is not one of 'scheduled', 'running', 'blocked', 'done', 'failed'"),
        (["list", "--started-after", "yesterday"], "'yesterday' is not a time such as 2024-05-31"),
        (["list", "--started-before", "2024-13-01"], "is not a time such as"),
        (["list", "--started-before", "1717146000"], "'1717146000' is not a time such as"),
        (["list", "--token", "garbage"], "The continuation token 'garbage' is damaged"),
        (["list", "--token", ""], "The continuation token '' is damaged"),
        (["count", "--where", "owner"], "'owner' is not KEY=TEXT or KEY:=JSON"),
        (["count", "--where", "n:=one"], "'one' in n:= is not JSON; for text it is KEY=TEXT"),
        (["count", "--where", "n:=[1]"], "where['n'] is a string, a whole number of 64 bits or a bool"),
        (["count", "--where", f"n:={'[' * 100_000}"], "is not JSON"),
        (["count", "--where", "status=done"], "where has the key 'status'"),
        (["count", "--where", "a=1", "--where", "a=2"], "--where names 'a' twice"),
        (["count", "--name", "\ud800"], "name contains a lone surrogate"),
        (["count", "--collection", "a/b"], "--collection: the path 'a/b' names a document"),
        (["count", "--project", ""], "--project: must be a name"),
        (["count", "--project", "My Project"], "--project: must be the id of a project, of lower-case letters"),
        (["count", "--project", "é"], "not its name: 'é'"),
        (["count", "--timeout", "0"], "--timeout: Input should be greater than 0"),
        (["count", "--since", "2"], "Invalid value for '--since': '2' is not a duration"),
        (["count", "--since", "2h", "--started-after", "2024-05-31"], "leave one out"),
        (["list", "--sort", "owner"], "'owner' is not one of 'started', 'written'"),
        (["count", "--shards", "501"], "--shards: Input should be less than or equal to 500"),
        (["count", "--emulator-host", "nowhere"], "--emulator-host: must be host:port"),
        (["count", "--emulator-host", "a..b:80"], "--emulator-host: must be host:port"),
        (["migrate", "--to-collection", "a/b"], "--to-collection: the path 'a/b' names a document"),
        (["migrate", "--to-layout", "native", "--shards", "2"], "shards need the serialized layout"),
        (["purge", "--older-than", "90"], "'90' is not a duration such as 90d, 12h, 1d12h or P90D"),
        (["purge", "--older-than", "-1d"], "'-1d' is not a duration"),
        (["purge", "--older-than", "1d", "--yes", "--yes", "extra"], "unexpected extra argument"),
        (["show", "a/b"], "The flow id 'a/b' contains a slash"),
        (["show", ""], "The flow id '' is empty"),
        (["delete", "--yes", "__x__"], "matches __.*__, which Firestore reserves"),
        (["indexes", "--format", "yaml"], "'yaml' is not one of 'firebase', 'terraform'"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else None,
)
def test_wrong_arguments(here: Callable[..., Outcome], arguments: list[str], says: str) -> None:
    """Exit code 2, one line, and no result."""
    outcome = here(*arguments)

    assert (2, "", 1) == (outcome.code, outcome.out, outcome.err.count("\n"))
    assert outcome.err.startswith("flowstate: ")
    assert says in outcome.err


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("FLOWSTATE_SHARDS", "999", "FLOWSTATE_SHARDS: Input should be less than or equal to 500"),
        ("FLOWSTATE_TIMEOUT", "soon", "FLOWSTATE_TIMEOUT: Input should be a valid number"),
        ("FLOWSTATE_COLLECTION", "a/b", "FLOWSTATE_COLLECTION: the path 'a/b' names a document"),
        ("FLOWSTATE_KEYS", "{bad", "FLOWSTATE_KEYS: must be a JSON object of the keys"),
        ("FLOWSTATE_KEYS", json.dumps({"a": "c2VjcmV0"}), "FLOWSTATE_KEYS: key 'a' has 6 bytes"),
        ("FLOWSTATE_CURRENT_KEY", "a", "current_key 'a' is not among keys"),
        ("FLOWSTATE_CODECS", "x", "flowstate: FLOWSTATE_CODECS: codecs are objects, which are given in code only"),
        ("FLOWSTATE_PROJECT", "My Project", "FLOWSTATE_PROJECT: must be the id of a project"),
        ("GOOGLE_CLOUD_PROJECT", "My Project", "GOOGLE_CLOUD_PROJECT: must be the id of a project"),
        ("FIRESTORE_EMULATOR_HOST", "nowhere", "FIRESTORE_EMULATOR_HOST: must be host:port"),
        ("FIRESTORE_EMULATOR_HOST", "a..b:80", "FIRESTORE_EMULATOR_HOST: must be host:port"),
    ],
)
def test_wrong_settings(
    here: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch, variable: str, value: str, says: str
) -> None:
    """The variable is named. A key is not shown."""
    monkeypatch.setenv(variable, value)
    outcome = here("count")

    assert (2, "", 1) == (outcome.code, outcome.out, outcome.err.count("\n"))
    assert says in outcome.err
    assert "c2VjcmV0" not in outcome.err


def test_no_arguments(here: Callable[..., Outcome]) -> None:
    """The help is printed to standard error, as errors are."""
    outcome = here()

    assert (2, "") == (outcome.code, outcome.out)
    assert "Usage: flowstate [OPTIONS] COMMAND" in outcome.err


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["--emulator-host", "127.0.0.1:9"], "127.0.0.1:9 refuses connections, so no emulator is there: start one"),
        (["--emulator-host", "nowhere.invalid:80"], "nowhere.invalid:80 cannot be resolved, so no emulator is there"),
        (["--emulator-host", "[::1]:9"], "[::1]:9 refuses connections"),
        # DNS has such a name in ASCII, which is longer: more than the 63 characters that a label may have.
        (["--emulator-host", f"{60 * 'é'}.de:80"], "é.de:80 cannot be resolved, so no emulator is there"),
    ],
)
def test_a_host_that_cannot_be_reached(here: Callable[..., Outcome], given: list[str], says: str) -> None:
    """The host is named at once, and not after all the time that a call may take."""
    start = time.monotonic()
    outcome = here("list", *given)

    assert (1, "", 1) == (outcome.code, outcome.out, outcome.err.count("\n"))
    assert says in outcome.err
    assert time.monotonic() - start < 10  # a third of the timeout of 30 s, on a machine that is busy


@pytest.mark.parametrize(
    "command",
    ["show id", "count", "watch", "watch id", "history id", "doctor", "gc", "rewrap", "expire id --never", "list --due",
     "delete --yes id", "purge --yes --older-than 1d", "migrate --dry-run --to-collection c", "export -",
     f"import {__file__}", "cancel id",
     "resume id --step s --json 1", "retry id"],
)  # fmt: skip
def test_every_command_looks_for_the_host(here: Callable[..., Outcome], command: str) -> None:
    """All of them name a host that cannot be reached, and at once."""
    start = time.monotonic()
    outcome = here(*command.split(), "--emulator-host", "127.0.0.1:9")

    assert 1 == outcome.code
    assert "127.0.0.1:9 refuses connections" in outcome.err
    assert time.monotonic() - start < 10  # as above


def test_nobody_answers(here: Callable[..., Outcome]) -> None:
    """A server that takes connections and says nothing may only be slow: within the timeout, as an error of its own."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host = f"127.0.0.1:{silent.getsockname()[1]}"
        outcome = here("list", "--emulator-host", host, "--timeout", "0.3")

    assert (1, "", 1) == (outcome.code, outcome.out, outcome.err.count("\n"))
    assert "did not succeed within 0.3 s" in outcome.err


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("FLOWSTATE_COLECTION", "FLOWSTATE_COLECTION is not one of the settings; is FLOWSTATE_COLLECTION meant?"),
        ("flowstate_shard", "flowstate_shard is not one of the settings; is FLOWSTATE_SHARDS meant?"),
        ("FLOWSTATE_XYZZY", "FLOWSTATE_XYZZY is not one of the settings"),
    ],
)
def test_a_misspelt_variable(
    here: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch, name: str, says: str
) -> None:
    """A warning names it once, with the one that is meant. The command goes on."""
    monkeypatch.setenv(name, "1")

    assert Outcome(0, "0\n", f"flowstate: warning: {says}\n") == here("count")
    assert 1 == here("migrate", "--to-collection", "other", "--dry-run").err.count("not one of the settings")


def test_a_misspelt_variable_beside_an_application(
    here: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its store does not read the variable either, and would look elsewhere in silence."""
    monkeypatch.setenv("FLOWSTATE_SHARD", "1")

    for arguments in (("start", "json:dumps"), ("worker", "json:dumps"), ("sweep", "--flows", "json:dumps")):
        assert 1 == here(*arguments).err.count("is FLOWSTATE_SHARDS meant?")


def test_no_credentials(environment: dict[str, str], flowstate: Processes) -> None:
    """The error says what to do."""
    del environment["FIRESTORE_EMULATOR_HOST"]
    nowhere = {"HOME": "/nonexistent", "CLOUDSDK_CONFIG": "/nonexistent", "NO_GCE_CHECK": "true"}
    outcome = flowstate("count", **nowhere)

    assert (1, "", 1) == (outcome.code, outcome.out, outcome.err.count("\n"))
    assert "flowstate: no usable Google credentials: run `gcloud auth application-default login`" in outcome.err


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_the_extra_is_missing(missing: str) -> None:
    """The error says what to install."""
    code = f"import sys; sys.modules[{missing!r}] = None; from firestore_flowstate.cli import main; sys.exit(main())"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert (1, "") == (ran.returncode, ran.stdout)
    assert f"flowstate: {missing} is missing: the command needs pip install 'firestore-flowstate[cli]'\n" == ran.stderr


@pytest.mark.parametrize(
    "command", ["list", "show id", "doctor", "rewrap", "history id", "cancel id", "gc", "export -"]
)
def test_the_extra_of_keys_is_missing(
    here: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """Every command that opens a store says what to install."""
    monkeypatch.setenv("FLOWSTATE_KEYS", json.dumps({"a": "MDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDA="}))
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.ciphers", None)

    says = "flowstate: Encryption needs the package cryptography: pip install 'firestore-flowstate[crypto]'\n"
    outcome = here(*command.split())
    assert (1, "", [says]) == (*outcome[:2], outcome.err.splitlines(keepends=True)[-1:])


def test_the_command_is_installed() -> None:
    """Its name is the one that the documentation has."""
    [script] = importlib.metadata.entry_points(group="console_scripts", name="flowstate")

    assert main is script.load()


def test_libraries_keep_their_warnings_to_themselves(
    here: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Warnings such as those about old Pythons are not shown. The package's own are lines like others."""
    import warnings

    from firestore_flowstate import FlowStateWarning
    from firestore_flowstate.cli import inspecting

    def warn(*_: object) -> str:
        warnings.warn("You are using an old Python", FutureWarning, stacklevel=1)
        warnings.warn("Deploy a TTL policy", FlowStateWarning, stacklevel=1)
        return "here"

    monkeypatch.setattr(inspecting, "collection_of", warn)

    assert "flowstate: warning: Deploy a TTL policy\nhere\nnothing is wrong\n" == here("doctor").err


def test_help_is_fast(flowstate: Processes) -> None:
    """It loads neither grpc nor Google's libraries."""
    start = time.monotonic()
    outcome = flowstate("--help", PYTHONPROFILEIMPORTTIME="1")

    assert 0 == outcome.code
    assert time.monotonic() - start < 30
    assert not {"grpc", "google.protobuf"} & {line.rpartition("|")[2].strip() for line in outcome.err.splitlines()}
