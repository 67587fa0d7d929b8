"""An emulator answers while it is wanted, and not a moment longer."""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from firestore_flowstate._rpc.deadline import monotonic
from firestore_flowstate.emulator import Emulator, start_emulator
from firestore_flowstate.emulator import process as emulator_process
from firestore_flowstate.emulator.finding import find_emulator
from firestore_flowstate.emulator.process import EmulatorProcess, free_port
from firestore_flowstate.errors import EmulatorError
from tests.emulator.child_processes import Programs, eventually, nothing_is_left_of, processes_with
from tests.emulator.fake_machine import write_jar, write_java
from tests.emulator.rest_call import request
from tests.support.ports import Port

DOCUMENTS = "projects/demo-flowstate/databases/(default)/documents"
START = """
import os, sys, time
from firestore_flowstate.emulator import start_emulator
emulator = start_emulator()
print(emulator.port, flush=True)
"""


def test_it_answers_as_soon_as_it_is_returned(emulator: Emulator) -> None:
    """A document written is there to read."""
    request(emulator.host, "PATCH", f"{DOCUMENTS}/a/b", token="owner", body={"fields": {"x": {"integerValue": "1"}}})

    status, document = request(emulator.host, "GET", f"{DOCUMENTS}/a/b", token="owner")

    assert (200, {"x": {"integerValue": "1"}}) == (status, document["fields"])
    assert "Dev App Server is now running" in emulator.log


def test_reset_empties_one_database(emulator: Emulator) -> None:
    """Other projects and databases keep their documents."""
    others = ["projects/demo-other/databases/(default)", "projects/demo-flowstate/databases/other"]
    for place in ("projects/demo-flowstate/databases/(default)", *others):
        request(emulator.host, "PATCH", f"{place}/documents/a/b", token="owner", body={})

    emulator.reset()

    assert 404 == request(emulator.host, "GET", f"{DOCUMENTS}/a/b", token="owner")[0]
    assert [200, 200] == [request(emulator.host, "GET", f"{place}/documents/a/b", token="owner")[0] for place in others]


def test_two_run_beside_each_other(emulator: Emulator) -> None:
    """Each takes a free port of its own."""
    with start_emulator() as other:
        assert other.port != emulator.port
        assert (True, True) == (emulator.is_running(), other.is_running())
    assert (True, False) == (emulator.is_running(), other.is_running())


def test_stop_leaves_nothing_and_may_come_twice() -> None:
    """When stop returns, Java is gone. Its last words can still be read."""
    emulator = start_emulator()

    emulator.stop()
    emulator.stop()

    assert [] == processes_with(f"--port={emulator.port}")
    assert "Dev App Server is now running" in emulator.log


def test_a_thread_may_start_it_and_end() -> None:
    """The emulator belongs to the process: asyncio.to_thread may run it, whose threads come and go."""
    started: list[Emulator] = []
    thread = threading.Thread(target=lambda: started.append(start_emulator()))
    thread.start()
    thread.join()

    with started[0] as emulator:
        assert emulator.is_running()


def test_a_coroutine_may_start_it() -> None:
    """Starting blocks, so it goes to a thread. The event loop may end before the emulator."""
    emulator = asyncio.run(asyncio.to_thread(start_emulator))

    with emulator:
        assert emulator.is_running()


def test_a_killed_one_comes_back_on_its_port() -> None:
    """Kill is a crash, after which the same address can be served again."""
    with Port() as port:
        crashed = start_emulator(port=port.number)
        crashed.kill()
        assert not crashed.is_running()

        with start_emulator(port=crashed.port) as emulator:
            assert (crashed.host, True) == (emulator.host, emulator.is_running())
        crashed.stop()


@pytest.mark.parametrize(
    ("ending", "code"),
    [
        ("with emulator: pass", 0),
        ("with emulator: sys.exit(3)", 3),
        ("with emulator: raise LookupError", 1),
        ("pass", 0),
        ("os._exit(4)", 4),
        ("os.fork() or sys.stdin.read(); os._exit(5)", 5),
    ],
    ids=["end of the block", "exit", "exception", "never stopped", "no cleaning up", "a forked child lives on"],
)
def test_it_ends_with_the_program_that_started_it(programs: Programs, ending: str, code: int) -> None:
    """Java ends however the program ends, and whoever else holds its pipes."""
    program = programs.start("-c", START + ending)
    assert program.stdout
    port = int(program.stdout.readline())

    assert (code, True) == (program.wait(), nothing_is_left_of(port))


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
def test_it_ends_with_a_program_that_is_killed(programs: Programs, signum: signal.Signals) -> None:
    """No signal leaves Java behind, the program having no handler of its own."""
    program = programs.start("-c", START + "with emulator:\n while True: time.sleep(0.01)")
    assert program.stdout
    port = int(program.stdout.readline())

    program.send_signal(signum)

    assert (-signum, True) == (program.wait(), nothing_is_left_of(port))


def test_a_forked_child_does_not_end_it(programs: Programs) -> None:
    """A child that leaves the same block leaves the emulator to its parent."""
    leaving = "with emulator:\n  if not os.fork(): sys.exit(0)\n  print(os.wait()[1], emulator.is_running())"

    code, out, _ = programs.run("-c", START + leaving)

    assert (0, ["0 True"]) == (code, out.splitlines()[1:])


def test_no_warning_comes_of_it(programs: Programs) -> None:
    """Files and processes are closed when the block ends."""
    code, _, err = programs.run("-X", "dev", "-W", "error", "-c", START + "emulator.stop()")

    assert (0, "") == (code, err)


def test_stop_clears_up_behind_a_killed_supervisor() -> None:
    """Java is ended also when nobody watches it any more."""
    emulator = start_emulator()
    (supervisor,) = [pid for pid, command in processes_with(f"--port={emulator.port}") if "supervisor.py" in command]
    os.kill(supervisor, signal.SIGKILL)

    emulator.stop()

    assert nothing_is_left_of(emulator.port)


def test_one_that_does_not_answer_in_time_is_ended(bare_machine: Path) -> None:
    """The time that a start may take is the caller's to say."""
    write_java(bare_machine / "bin", otherwise=["while :; do /bin/sleep 0.1; done"])
    write_jar(bare_machine / ".cache/firebase/emulators/cloud-firestore-emulator-v1.19.8.jar")

    with pytest.raises(EmulatorError, match=r"did not start: it did not answer in time\."):
        start_emulator(timeout=0.5)

    assert eventually(lambda: not processes_with(f"{bare_machine}/bin/java"))


def test_a_start_ends_in_time_while_the_clock_is_frozen(bare_machine: Path, programs: Programs) -> None:
    """A fixture may start the emulator inside freezegun, whose `time.monotonic` stands still."""
    write_java(bare_machine / "bin", otherwise=["while :; do /bin/sleep 0.1; done"])
    write_jar(bare_machine / ".cache/firebase/emulators/cloud-firestore-emulator-v1.19.8.jar")
    code = """
import freezegun
from firestore_flowstate import EmulatorError
from firestore_flowstate.emulator import start_emulator
with freezegun.freeze_time("2030-01-01"):
    try:
        start_emulator(timeout=0.5)
    except EmulatorError as error:
        print(error)
"""

    returned, out, err = programs.run("-c", code)

    assert (0, True) == (returned, "did not start: it did not answer in time." in out), out + err
    assert eventually(lambda: not processes_with(f"{bare_machine}/bin/java"))


def test_an_interrupted_start_leaves_nothing(bare_machine: Path, programs: Programs) -> None:
    """Ctrl-C while the emulator starts ends what has been started."""
    write_java(bare_machine / "bin", otherwise=["while :; do /bin/sleep 0.1; done"])
    write_jar(bare_machine / ".cache/firebase/emulators/cloud-firestore-emulator-v1.19.8.jar")
    program = programs.start("-c", START)
    assert eventually(
        lambda: any("supervisor.py" not in each for _, each in processes_with(f"{bare_machine}/bin/java"))
    )

    program.send_signal(signal.SIGINT)

    assert -signal.SIGINT == program.wait()
    assert eventually(lambda: not processes_with(f"{bare_machine}/bin/java"))


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("method", "lines"), [("await_answer", 40), ("wait", 20)])  # each goes round at least once
def test_an_interrupt_at_any_line_lets_it_be_stopped(bare_machine: Path, method: str, lines: int) -> None:
    """Python calls the handler of a signal wherever it is, also between subprocess having a lock and its ``try``."""
    write_java(bare_machine / "bin", otherwise=["while :; do /bin/sleep 0.1; done"])
    write_jar(bare_machine / ".cache/firebase/emulators/cloud-firestore-emulator-v1.19.8.jar")
    process = EmulatorProcess(find_emulator(), port=free_port())
    for number in range(lines):
        with pytest.raises(KeyboardInterrupt), interrupted_at_line(number):
            process.wait() if method == "wait" else process.await_answer(deadline=monotonic() + 60)

    process.stop()

    assert eventually(lambda: not processes_with(f"{bare_machine}/bin/java"))


@contextmanager
def interrupted_at_line(number: int) -> Iterator[None]:
    """Do what Ctrl-C does when as many lines of the emulator's processes and of subprocess have been run."""
    lines = itertools.count()

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        if frame.f_code.co_filename not in (emulator_process.__file__, subprocess.__file__):
            return None
        if event == "line" and number == next(lines):
            raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)


def test_a_taken_port_is_named() -> None:
    """The port that was asked for is the port, or an error."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        with pytest.raises(EmulatorError, match=f"Port {port} on 127.0.0.1 is taken by another program"):
            start_emulator(port=port)


def test_another_port_is_tried_if_the_free_one_is_taken(bare_machine: Path) -> None:
    """Between finding a port free and listening on it another program may take it."""
    counter = bare_machine / "starts"
    write_java(
        bare_machine / "bin",
        otherwise=[f'echo x >> "{counter}"', "echo java.net.BindException: Address in use", "exit 1"],
    )
    write_jar(bare_machine / ".cache/firebase/emulators/cloud-firestore-emulator-v1.19.8.jar")

    with pytest.raises(EmulatorError, match="is taken by another program"):
        start_emulator()

    assert 5 == len(counter.read_text().splitlines())


def test_options_reach_java(bare_machine: Path) -> None:
    """They stand before the class, so that Java takes them for its own."""
    write_java(bare_machine / "bin", otherwise=['echo "$@"', "exit 1"])
    write_jar(bare_machine / ".cache/firebase/emulators/cloud-firestore-emulator-v1.19.8.jar")

    with pytest.raises(EmulatorError, match=r"-Xshare:auto -Xmx1g -cp .* --host=127\.0\.0\.1 --port=4711"):
        start_emulator(port=4711, java_options=["-Xmx1g"])


def test_rules_that_do_not_compile_are_refused(tmp_path: Path) -> None:
    """The emulator itself would start, and tell every client."""
    rules = tmp_path / "firestore.rules"
    rules.write_text('rules_version = "2"; nonsense')

    with pytest.raises(EmulatorError) as caught:
        start_emulator(rules=rules)

    assert (
        f"{rules}: Error compiling rules:\nL1:22 mismatched input 'nonsense'"
        == str(caught.value).partition(" expecting")[0]
    )


def test_rules_that_are_not_there_are_refused(tmp_path: Path) -> None:
    """The error comes before anything is started."""
    with pytest.raises(EmulatorError, match=f"There is no file of security rules {tmp_path}/none."):
        start_emulator(rules=tmp_path / "none")


@pytest.mark.parametrize("written", ["{}", "http://{}", "http://{}/"])
def test_a_named_emulator_is_used_and_left_running(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    """FIRESTORE_EMULATOR_HOST is honoured as everywhere. Whoever started that emulator stops it."""
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", written.format(emulator.host))

    with start_emulator() as attached:
        assert (emulator.host, None, "") == (attached.host, attached.installation, attached.log)
    attached.kill()

    assert emulator.is_running()


def test_an_empty_name_counts_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """An emulator is started."""
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", "")

    with start_emulator() as emulator:
        assert emulator.installation is not None


def test_a_named_emulator_must_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another one would not be the one that the rest of the environment talks to."""
    with Port() as port:
        monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", port.host)

        with pytest.raises(
            EmulatorError, match=f"FIRESTORE_EMULATOR_HOST is {port.host}, and no Firestore emulator answers there"
        ):
            start_emulator()


@pytest.mark.parametrize("host", ["a..b:80", f"{64 * 'x'}.example:80"])
def test_a_named_emulator_may_have_a_name_that_nothing_has(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    """A label of a name has 1 to 63 characters. The error is that of a host on which no emulator answers."""
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", host)

    with pytest.raises(EmulatorError, match=f"FIRESTORE_EMULATOR_HOST is {host}, and no Firestore emulator answers"):
        start_emulator()
    with pytest.raises(EmulatorError, match=f"The Firestore emulator on {host} does not answer"):
        Emulator(host).reset()


@pytest.mark.parametrize("wrong", ["8080", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:99999", "a b:1/c", ":8080"])
def test_a_name_must_be_host_and_port(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    """The message has the variable and its value."""
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", wrong)

    with pytest.raises(EmulatorError) as caught:
        start_emulator()

    assert f"FIRESTORE_EMULATOR_HOST must be host:port such as 127.0.0.1:8080, not {wrong!r}." == str(caught.value)


def test_a_named_emulator_cannot_be_given_rules(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """They would silently not be in force."""
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", emulator.host)

    with pytest.raises(EmulatorError, match="with a port and rules of its own"):
        start_emulator(rules="emulator/firestore.rules")


def test_a_named_emulator_cannot_be_given_options(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its Java runs already, and they would silently do nothing."""
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", emulator.host)

    with pytest.raises(EmulatorError, match="options for its Java"):
        start_emulator(java_options=["-Xmx1g"])
    with start_emulator(java_options=[]) as attached:
        assert attached.host == emulator.host


@pytest.mark.parametrize(
    ("wrong", "kind", "says"),
    [
        ({"port": 70000}, ValueError, "port is from 1 to 65535, or None for a free port, not 70000"),
        ({"port": -5}, ValueError, "port is from 1 to 65535, or None for a free port, not -5"),
        ({"port": True}, TypeError, "port is a whole number, or None for a free port, not True"),
        ({"port": "8080"}, TypeError, "port is a whole number, or None for a free port, not '8080'"),
        ({"java_options": "-Xmx1g"}, TypeError, "java_options is a sequence of options, such as ["),
        ({"java_options": [5]}, TypeError, "java_options is a sequence of options, such as ["),
        ({"java_options": None}, TypeError, "java_options is a sequence of options, such as ["),
    ],
)
def test_arguments_that_cannot_be_right_are_refused(wrong: Any, kind: type[Exception], says: str) -> None:
    """The error names the argument, before anything is started."""
    with pytest.raises(kind, match=re.escape(says)):
        start_emulator(**wrong)


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    ("wrong", "kind", "says"),
    [
        ({"project": None}, TypeError, "project is the id of a project, such as 'demo-flowstate', not None"),
        ({"database": 5}, TypeError, "database is the id of a database, such as '(default)', not 5"),
        ({"project": "a b/é\n"}, ValueError, "project is the id of a project"),
        ({"project": ""}, ValueError, "project is the id of a project"),
        ({"database": "a/b"}, ValueError, "database is the id of a database"),
    ],
)
def test_reset_refuses_what_is_no_id(emulator: Emulator, wrong: Any, kind: type[Exception], says: str) -> None:
    """The emulator answers some of these after a minute, and others not at all."""
    with pytest.raises(kind, match=re.escape(says)):
        emulator.reset(**wrong)


def test_reset_of_one_that_is_gone_is_an_error() -> None:
    """The error is an EmulatorError, not one of sockets."""
    emulator = start_emulator()
    emulator.stop()

    with pytest.raises(EmulatorError, match=f"The Firestore emulator on {emulator.host} does not answer"):
        emulator.reset()
