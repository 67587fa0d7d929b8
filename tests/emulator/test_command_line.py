"""`python -m firestore_flowstate.emulator`, run as a user runs it."""

from __future__ import annotations

import ast
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from firestore_flowstate.emulator import Emulator, find_emulator
from firestore_flowstate.emulator.process import free_port
from tests.emulator.child_processes import Programs, nothing_is_left_of, processes_with
from tests.emulator.fake_machine import write_jar, write_java
from tests.emulator.rest_call import request

MODULE = ("-m", "firestore_flowstate.emulator")
SHOW_HOST = "import os; print(os.environ['FIRESTORE_EMULATOR_HOST'], flush=True)"
# Tells that it is ready, then which signals come, until a second after the first.
COUNT_SIGNALS = f"""
import signal, sys
wanted = {{signal.SIGINT, signal.SIGTERM, signal.SIGHUP}}
signal.pthread_sigmask(signal.SIG_BLOCK, wanted)
{SHOW_HOST}
came = [signal.sigwait(wanted)]
while more := signal.sigtimedwait(wanted, 1):
    came.append(more.si_signo)
print([signal.Signals(each).name for each in came])
sys.exit(9)
"""

# Runs a command of Python with another standard output.
OUTPUTS = """
import os, subprocess, sys

def closed_pipe():
    reading, writing = os.pipe()
    os.close(reading)
    return writing

def full():
    return os.open("/dev/full", os.O_WRONLY)

def run(output):
    return subprocess.call([sys.executable, *sys.argv[1:]], stdout=output)

"""


@pytest.mark.parametrize("separator", [["--"], []])
def test_exec_runs_the_command_with_the_emulator_up(programs: Programs, separator: list[str]) -> None:
    """The command finds it by FIRESTORE_EMULATOR_HOST. Afterwards nothing is left of it."""
    ask = (
        "import os, urllib.request as u; print(u.urlopen(os.path.expandvars('http://$FIRESTORE_EMULATOR_HOST')).read())"
    )

    code, out, err = programs.run(*MODULE, "exec", *separator, sys.executable, "-c", f"{SHOW_HOST}; {ask}")

    host, answer = out.splitlines()
    assert (0, "b'Ok\\n'", "") == (code, answer, err)
    assert nothing_is_left_of(int(host.rpartition(":")[2]))


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        (["sh", "-c", "exit 7"], 7, ""),
        (["sh", "-c", "kill -TERM $$"], 143, ""),
        (["sh", "-c", "kill -KILL $$"], 137, ""),
        (["no-such-command"], 127, "no-such-command: command not found\n"),
        (["/"], 126, "/: Permission denied\n"),
        (["echo", "--", "--port", "x"], 0, ""),
    ],
)
def test_exec_exits_as_the_command_does(
    programs: Programs, emulator: Emulator, command: list[str], code: int, said: str
) -> None:
    """Its exit code follows the rules of a shell: 128 + n for signal n, 127 and 126 for what cannot be run."""
    found = programs.run(*MODULE, "exec", "--", *command, FIRESTORE_EMULATOR_HOST=emulator.host)

    assert (code, said) == (found[0], found[2])


def test_exec_leaves_the_commands_arguments_alone(programs: Programs, emulator: Emulator) -> None:
    """Only the first separator is ours."""
    host = {"FIRESTORE_EMULATOR_HOST": emulator.host}

    assert "--rules -- x\n" == programs.run(*MODULE, "exec", "--", "echo", "--rules", "--", "x", **host)[1]
    assert "--rules -- x\n" == programs.run(*MODULE, "exec", "echo", "--rules", "--", "x", **host)[1]


def test_exec_uses_a_named_emulator_and_leaves_it_running(programs: Programs, emulator: Emulator) -> None:
    """The emulator that FIRESTORE_EMULATOR_HOST names goes on after the command."""
    code, out, _ = programs.run(
        *MODULE, "exec", "--", sys.executable, "-c", SHOW_HOST, FIRESTORE_EMULATOR_HOST=emulator.host
    )

    assert (0, f"{emulator.host}\n", True) == (code, out, emulator.is_running())


def test_exec_leads_the_command_to_its_emulator(programs: Programs, emulator: Emulator) -> None:
    """This package's own variable, which would win over FIRESTORE_EMULATOR_HOST, is not passed on."""
    show = "from firestore_flowstate import FlowStateSettings; print(FlowStateSettings().emulator_host)"
    named = {"FIRESTORE_EMULATOR_HOST": emulator.host, "FLOWSTATE_EMULATOR_HOST": "127.0.0.1:1"}

    assert (0, f"{emulator.host}\n", "") == programs.run(*MODULE, "exec", "--", sys.executable, "-c", show, **named)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_exec_passes_signals_on(programs: Programs, signum: signal.Signals) -> None:
    """The command decides what a signal means, and the emulator is there until it has ended."""
    program = programs.start(*MODULE, "exec", "--", sys.executable, "-c", COUNT_SIGNALS)
    assert program.stdout
    port = int(program.stdout.readline().rpartition(":")[2])

    program.send_signal(signum)

    assert (9, f"['{signum.name}']\n") == (program.wait(), program.stdout.read())
    assert nothing_is_left_of(port)


def test_exec_does_not_repeat_what_the_terminal_sends(programs: Programs, emulator: Emulator) -> None:
    """Ctrl-C in a terminal reaches the command by itself: a second one would break off its clearing up."""
    in_terminal = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))"
    program = programs.start(
        *("-c", in_terminal, sys.executable, *MODULE, "exec", "--", sys.executable, "-c", COUNT_SIGNALS),
        FIRESTORE_EMULATOR_HOST=emulator.host,
    )
    assert program.stdin
    assert program.stdout
    assert f"{emulator.host}\n" == program.stdout.readline()

    program.stdin.write("\x03")
    program.stdin.flush()

    assert "['SIGINT']" in program.stdout.read()
    assert 9 == program.wait()


def test_exec_that_is_killed_leaves_no_java(programs: Programs) -> None:
    """Java ends, also if the command goes on and holds what it has inherited."""
    program = programs.start(*MODULE, "exec", "--", sys.executable, "-c", f"{SHOW_HOST}; input()")
    assert program.stdout
    port = int(program.stdout.readline().rpartition(":")[2])

    program.kill()

    assert nothing_is_left_of(port)


def test_exec_tells_when_the_emulator_has_ended_first(programs: Programs) -> None:
    """A command that failed for that reason would otherwise be looked at in vain."""
    program = programs.start(*MODULE, "exec", "--", sys.executable, "-c", f"{SHOW_HOST}; input()")
    assert program.stdout
    port = int(program.stdout.readline().rpartition(":")[2])
    for pid, command in processes_with(f"--port={port}"):
        if "supervisor.py" not in command:
            subprocess.run(["kill", "-KILL", str(pid)], check=True)
    assert nothing_is_left_of(port)

    _, err = program.communicate("\n")

    assert (0, True) == (program.returncode, "The Firestore emulator ended before the command did." in err)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_start_runs_until_it_is_stopped(programs: Programs, signum: signal.Signals) -> None:
    """It prints the variable to set, starts one of its own whatever is named, and ends well when asked to."""
    program = programs.start(*MODULE, "start", FIRESTORE_EMULATOR_HOST="127.0.0.1:1")
    assert program.stdout
    variable, _, host = program.stdout.readline().strip().partition("=")
    status, _ = request(host, "GET", "projects/p/databases/(default)/documents/a/b")
    assert ("FIRESTORE_EMULATOR_HOST", 404) == (variable, status)

    program.send_signal(signum)

    assert (0, True) == (program.wait(), nothing_is_left_of(int(host.rpartition(":")[2])))


def test_start_fails_when_the_emulator_ends_by_itself(programs: Programs) -> None:
    """The error has the end of the emulator's log."""
    program = programs.start(*MODULE, "start")
    assert program.stdout
    port = program.stdout.readline().strip().rpartition(":")[2]
    for pid, command in processes_with(f"--port={port}"):
        if "supervisor.py" not in command:
            subprocess.run(["kill", "-KILL", str(pid)], check=True)

    _, err = program.communicate()

    assert (1, True) == (program.returncode, err.startswith("The Firestore emulator ended by itself.\n"))


def test_where_prints_what_would_be_used(programs: Programs) -> None:
    """Java with its version, and the jar with who has put it there."""
    found = find_emulator()

    code, out, err = programs.run(*MODULE, "where")

    java, jar = out.splitlines()
    assert (0, "") == (code, err)
    assert java.startswith(f"java  {found.java} (")
    assert f"jar   {found.jar} ({found.source})" == jar


def test_where_prints_a_path_that_the_encoding_lacks(programs: Programs, tmp_path: Path) -> None:
    """It is escaped, and a UnicodeEncodeError does not end the command."""
    jar = tmp_path / "ö→.jar"
    jar.symlink_to(find_emulator().jar)

    code, out, err = programs.run(*MODULE, "where", FIRESTORE_EMULATOR_BINARY_PATH=str(jar), PYTHONIOENCODING="ascii")

    said = f"jar   {tmp_path}/\\xf6\\u2192.jar (FIRESTORE_EMULATOR_BINARY_PATH)"
    assert (0, said, "") == (code, out.splitlines()[-1], err)


def test_where_prints_the_emulator_that_is_named(programs: Programs, emulator: Emulator) -> None:
    """Neither Java nor a jar is looked for."""
    assert (0, f"host  {emulator.host} (FIRESTORE_EMULATOR_HOST)\n", "") == programs.run(
        *MODULE, "where", FIRESTORE_EMULATOR_HOST=emulator.host
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["exec"], "a command is needed, such as: exec -- pytest"),
        (["exec", "--"], "a command is needed, such as: exec -- pytest"),
        (["exec", "--port", "0", "--", "true"], "argument --port: '0' is not a port, 1 to 65535"),
        (["where", "--", "true"], "only exec takes a command"),
        (["nonsense"], "invalid choice: 'nonsense'"),
    ],
)
def test_wrong_arguments_are_explained(programs: Programs, arguments: list[str], said: str) -> None:
    """Exit code 2, as everywhere, and nothing is started."""
    code, out, err = programs.run(*MODULE, *arguments)

    assert (2, "", True) == (code, out, said in err)


@pytest.mark.parametrize("arguments", [["start", "--rules", "none"], ["exec", "--rules", "none", "--", "true"]])
def test_errors_are_one_message(programs: Programs, arguments: list[str]) -> None:
    """The message is on standard error, with exit code 1 and without a traceback."""
    assert (1, "", "There is no file of security rules none.\n") == programs.run(*MODULE, *arguments)


@pytest.mark.parametrize(
    ("output", "code", "said"), [("closed_pipe()", 141, ""), ("full()", 1, "[Errno 28] No space left on device\n")]
)
@pytest.mark.parametrize("command", ["start --port {port}", "where", "--help", "start --help"])
def test_an_output_that_takes_nothing_ends_the_command(
    programs: Programs, output: str, code: int, said: str, command: str
) -> None:
    """If nobody reads it, that is as in every pipe, without a word. Nothing that was started is left."""
    port = free_port()
    arguments = [*MODULE, *command.format(port=port).split()]
    # Without a buffer argparse passes over what it cannot write of a help.
    found = programs.run("-c", f"{OUTPUTS}sys.exit(run({output}))", *arguments, PYTHONUNBUFFERED="")

    assert (code, "", said) == found
    assert nothing_is_left_of(port)


def test_options_for_java_are_passed_on(bare_machine: Path, programs: Programs) -> None:
    """Each is passed by a `--java-option`."""
    write_java(bare_machine / "bin", otherwise=['echo "$@"', "exit 1"])
    write_jar(bare_machine / ".cache/firebase/emulators/cloud-firestore-emulator-v1.19.8.jar")

    _, _, err = programs.run(*MODULE, "start", "--java-option=-Xmx1g", "--java-option=-Da=b", "--port=4711")

    assert "-Xshare:auto -Xmx1g -Da=b -cp" in err


def test_the_launcher_loads_neither_grpc_nor_rich(programs: Programs) -> None:
    """It starts fast, and also runs if the extra is not installed."""
    before = "import sys; there = {*sys.modules}; "  # packages that share the name google leave it at every start
    show = "import firestore_flowstate.emulator.command_line; print({*sys.modules} - there)"
    loaded = ast.literal_eval(programs.run("-c", before + show)[1])

    assert "firestore_flowstate.emulator.command_line" in loaded
    assert not {name for name in loaded if name.split(".")[0] in ("grpc", "google", "rich")}
