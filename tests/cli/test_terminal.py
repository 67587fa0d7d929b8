"""In a terminal, and when something ends early: signals, closed pipes, questions, progress."""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from firestore_flowstate import FlowStateSettings, SyncFlowStateStore
from firestore_flowstate.backup import export_line
from tests.cli.command import PATIENCE, Outcome, Processes
from tests.cli.story import flow, story
from tests.rpc.tcp_proxy import TcpProxy
from tests.support.raw_documents import RawCollection


class Terminal:
    """A terminal, of 100 columns if nothing else is said, with what is typed and what is shown."""

    def __init__(self, columns: int = 100) -> None:
        self._near, self.end = pty.openpty()
        fcntl.ioctl(self.end, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        os.set_blocking(self._near, False)
        self.shown = ""
        self._decode = codecs.getincrementaldecoder("utf-8")().decode  # a read may end in the middle of a character

    def type(self, text: str) -> None:
        """Type."""
        os.write(self._near, text.encode())

    def read(self) -> str:
        """Return what was shown so far."""
        with suppress(OSError):
            while data := os.read(self._near, 65536):
                self.shown += self._decode(data)
        return self.shown

    def wait_for(self, text: str) -> None:
        """Wait until the text is shown."""
        eventually(lambda: text in self.read(), lambda: self.shown)

    def close(self) -> None:
        """Hang up."""
        os.close(self._near)
        os.close(self.end)


def eventually(condition: Callable[[], bool], what: Callable[[], object] = lambda: "") -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, what()
        time.sleep(0.01)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    terminal = Terminal()
    yield terminal
    terminal.close()


@pytest.fixture
def proxy(flow_state_settings: FlowStateSettings) -> Iterator[TcpProxy]:
    assert flow_state_settings.emulator_host is not None
    proxy = TcpProxy(flow_state_settings.emulator_host)
    yield proxy
    proxy.close()


def test_progress_is_shown_if_people_look(flowstate: Processes, store: SyncFlowStateStore, terminal: Terminal) -> None:
    """It is shown on standard error, and only on a terminal. The result is what it is without progress."""
    process = flowstate.start("export", "-", stderr=terminal.end)
    out, _ = process.communicate(timeout=PATIENCE)

    assert 0 == process.returncode
    assert 4 == len(out.splitlines())
    assert b"\x1b" not in out
    assert "flow states" in terminal.read()
    assert "0/4" in terminal.shown
    assert "4 flow states exported" in terminal.shown


def test_findings_go_where_they_are_sent(
    flowstate: Processes, store: SyncFlowStateStore, terminal: Terminal, flow_state_settings: FlowStateSettings
) -> None:
    """They go there also while progress is shown on the terminal."""
    RawCollection(flow_state_settings).write("damaged", {"startTime": {"stringValue": "5"}})
    process = flowstate.start("doctor", stderr=terminal.end)
    out, _ = process.communicate(timeout=PATIENCE)

    assert 1 == process.returncode
    assert [b"hidden", b"unreadable"] == [line.split()[0] for line in out.splitlines()]
    assert b"\x1b" not in out
    assert "documents" in terminal.read()
    assert "2 findings" in terminal.shown


@pytest.mark.parametrize(("columns", "has_sizes"), [(100, True), (99, False)])
def test_a_narrow_terminal_is_spared_the_sizes(
    flowstate: Processes, store: SyncFlowStateStore, columns: int, has_sizes: bool
) -> None:
    """The list has them from 100 columns on."""
    terminal = Terminal(columns)
    try:
        process = flowstate.start("list", stdout=terminal.end)
        process.communicate(timeout=PATIENCE)

        assert "steps" in terminal.read()
        assert has_sizes is ("bytes" in terminal.shown)
    finally:
        terminal.close()


@pytest.mark.parametrize(
    ("shell", "registers"),
    [
        ("bash", "complete -o nosort -F _flowstate_completion flowstate"),
        ("zsh", "compdef _flowstate_completion flowstate"),
        ("fish", "complete --no-files --command flowstate"),
    ],
)
def test_shells_complete(flowstate: Processes, shell: str, registers: str) -> None:
    """The line of docs/cli.md registers a function that asks the command, which completes its commands and options."""
    assert registers in flowstate(_FLOWSTATE_COMPLETE=f"{shell}_source").out
    if shell == "bash":
        line = {"_FLOWSTATE_COMPLETE": "bash_complete", "COMP_WORDS": "flowstate wor", "COMP_CWORD": "1"}
        assert Outcome(0, "plain,worker\n", "") == flowstate(**line)


@pytest.mark.parametrize(("answer", "code", "left"), [("y", 0, 3), ("n", 1, 4)])
def test_a_question_is_answered(
    flowstate: Processes, store: SyncFlowStateStore, terminal: Terminal, answer: str, code: int, left: int
) -> None:
    """The question and its answer stand on the terminal, and not in the result."""
    process = flowstate.start("delete", "draft-7", stdin=terminal.end, stderr=terminal.end)
    terminal.wait_for("? [y/N]: ")
    terminal.type(f"{answer}\n")
    out, _ = process.communicate(timeout=PATIENCE)

    assert (code, b"") == (process.returncode, out)
    assert left == store.count()
    assert "Delete the flow state 'draft-7' of flows-" in terminal.read()
    assert ("aborted" in terminal.shown) is (answer == "n")


@pytest.mark.parametrize("command", [["delete", "draft-7"], ["purge", "--older-than", "0d"], ["migrate"]])
@pytest.mark.parametrize("interrupts", [True, False])
def test_a_question_is_not_answered(
    flowstate: Processes, store: SyncFlowStateStore, terminal: Terminal, command: list[str], *, interrupts: bool
) -> None:
    """Ctrl-C is a signal at a question too, with its exit code. The end of the input is an answer: no."""
    process = flowstate.start(*command, stdin=terminal.end, stderr=terminal.end)
    terminal.wait_for("? [y/N]:")
    eventually(lambda: is_asleep(process))
    if interrupts:
        process.send_signal(signal.SIGINT)
    else:
        terminal.type("\x04")
    process.communicate(timeout=PATIENCE)

    assert (130 if interrupts else 1, len(story())) == (process.returncode, store.count())
    assert ("flowstate: interrupted" if interrupts else "flowstate: aborted") in terminal.read()


def is_asleep(process: subprocess.Popen[bytes]) -> bool:
    """Return whether the process waits: Python would not see a signal that comes right before it begins to read."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(process.pid)], capture_output=True, text=True, check=True)
    return state.stdout.startswith("S")


def test_ctrl_c_ends_what_waits_for_a_file(flowstate: Processes, store: SyncFlowStateStore) -> None:
    """It ends at once, with the exit code that shells have for it. What was stored stays stored."""
    process = flowstate.start("import", "-", stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(b"".join(export_line(f"id-{place}", flow("x")).encode() for place in range(450)))
    process.stdin.flush()
    eventually(lambda: store.count() == 404)
    process.send_signal(signal.SIGINT)
    process.wait(PATIENCE)

    assert process.stdout is not None
    assert process.stderr is not None
    assert (130, b"", b"flowstate: interrupted\n") == (
        process.returncode,
        process.stdout.read(),
        process.stderr.read(),
    )


@pytest.mark.parametrize("loaded", ["click", "rich", "pydantic_settings"])
def test_ctrl_c_ends_what_is_being_loaded(flowstate: Processes, tmp_path: Path, loaded: str) -> None:
    """It ends at once, by the signal and with one line, whatever it was that the command had begun to load."""
    tmp_path.joinpath(f"{loaded}.py").write_text(
        "import signal, time\nsignal.raise_signal(signal.SIGINT)\ntime.sleep(60)"
    )
    process = flowstate.start("list", PYTHONPATH=str(tmp_path))
    out, err = process.communicate(timeout=PATIENCE)

    assert (-signal.SIGINT, b"", b"flowstate: interrupted\n") == (process.returncode, out, err)


def test_ctrl_c_that_is_ignored_while_the_command_loads(flowstate: Processes, tmp_path: Path) -> None:
    """As under nohup, the command goes on."""
    both = "import signal\nsignal.raise_signal(signal.SIGINT)\nraise ImportError(name='rich')"
    tmp_path.joinpath("rich.py").write_text(both)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process = flowstate.start("list", PYTHONPATH=str(tmp_path))
    finally:
        signal.signal(signal.SIGINT, before)
    _, err = process.communicate(timeout=PATIENCE)

    assert (1, True) == (process.returncode, err.startswith(b"flowstate: rich is missing"))


@pytest.mark.parametrize("command", [["export", "-"], ["list", "--limit", "2000"]])
def test_nobody_reads_on(flowstate: Processes, store: SyncFlowStateStore, command: list[str]) -> None:
    """The command ends without a word, as in `| head -1`, and with the exit code that shells have for it."""
    # A line of the list has 150 bytes. A pipe takes 64 KiB, and the first line is read with 8 KiB.
    store.save_many({f"id-{place}": flow("x" * 200, name="x" * 200) for place in range(1000)})
    process = flowstate.start(*command)
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline()
    process.stdout.close()
    process.wait(PATIENCE)

    assert (141, b"") == (process.returncode, process.stderr.read())


def test_a_signal_ends_what_waits_for_firestore(
    flowstate: Processes, store: SyncFlowStateStore, proxy: TcpProxy, tmp_path: Path
) -> None:
    """It ends long before the timeout. Nothing is left of a file that is not complete."""
    proxy.hold()
    process = flowstate.start(
        "export", str(tmp_path / "flows.jsonl"), "--emulator-host", proxy.host, FLOWSTATE_TIMEOUT="300"
    )
    eventually(lambda: proxy.connections > 0)
    assert 1 == len(list(tmp_path.iterdir()))
    process.terminate()
    process.wait(PATIENCE)

    assert (143, []) == (process.returncode, list(tmp_path.iterdir()))
    assert len(story()) == store.count()


@pytest.mark.parametrize(
    ("command", "code", "says"),
    [
        (["list"], 141, ""),
        (["show", "order-1001"], 141, ""),
        (["history", "order-1001"], 141, ""),
        (["count"], 141, ""),
        (["indexes"], 141, ""),
        (["export", "-"], 141, ""),
        (["watch"], 141, ""),
        (["--help"], 141, ""),
        (["--version"], 141, ""),
        (["list", "--help"], 141, ""),
        (["show", "missing"], 1, "flowstate: There is no flow state 'missing'"),
    ],
)
def test_nobody_reads_at_all(
    flowstate: Processes, store: SyncFlowStateStore, command: list[str], code: int, says: str
) -> None:
    """The reader has gone before the first line: the same, however short the result is."""
    reading, writing = os.pipe()
    os.close(reading)
    process = flowstate.start(*command, stdout=writing)
    os.close(writing)
    _, err = process.communicate(timeout=PATIENCE)

    assert code == process.returncode
    assert err.decode().startswith(says)
    assert b"Error" not in err
    assert b"ignored" not in err


LOST = "standard output is closed: the result would be lost"


@pytest.mark.parametrize(
    ("command", "closed", "code", "says"),
    [
        (("list",), "1>&-", 2, LOST),
        (("show", "order-1001"), "1>&-", 2, LOST),
        (("history", "order-1001"), "1>&-", 2, LOST),
        (("count",), "1>&-", 2, LOST),
        (("indexes",), "1>&-", 2, LOST),
        (("watch",), "1>&-", 2, LOST),
        (("watch", "order-1001", "--until", "done"), "1>&-", 0, ""),
        (("--help",), "1>&-", 0, ""),
        (("export", "-"), "1>&-", 2, LOST),
        (("purge", "--older-than", "1d", "--dry-run"), "1>&-", 2, LOST),
        (("gc", "--dry-run"), "1>&-", 2, LOST),
        (("migrate", "--dry-run"), "1>&-", 2, LOST),
        (("gc",), "1>&-", 0, ""),
        (("import", "-"), "0<&-", 2, "standard input is closed: there is nothing to import"),
        (("delete", "order-1001"), "0<&-", 2, "so that nobody can be asked: give --yes."),
        (("delete", "order-1001", "--yes"), "0<&- 1>&-", 0, ""),
        (("show", "missing"), "2>&-", 1, ""),
        (("purge",), "2>&-", 2, ""),
        (("doctor",), "0<&- 1>&- 2>&-", 0, ""),
        (("list",), "1>/dev/full", 1, "No space left on device"),
        (("indexes",), "1>/dev/full", 1, "No space left on device"),
        (("export", "-"), "1>/dev/full", 1, "No space left on device"),
    ],
)
def test_closed_streams(
    environment: dict[str, str], store: SyncFlowStateStore, command: tuple[str, ...], closed: str, code: int, says: str
) -> None:
    """The command does what it can, and says in one line what is missing. Its errors go to standard error alone."""
    line = f'exec "{sys.executable}" -m firestore_flowstate.cli "$@" {closed}'
    done = subprocess.run(
        ["sh", "-c", line, "sh", *command],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )

    assert code == done.returncode, done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert says in done.stderr
    if "2>&-" in closed:
        assert ("", "") == (done.stdout, done.stderr)
    elif says:
        assert done.stderr.startswith("flowstate: ")
        assert 1 == done.stderr.count("\n")
