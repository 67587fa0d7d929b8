"""What a test leaves behind is found, or the rule that nothing is left would prove nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from firestore_flowstate._rpc.loop_thread import LoopThread
from tests.support.leftovers import Leftovers

SLEEP = (sys.executable, "-c", "import time; time.sleep(600)")


def test_a_process_is_found_and_ended() -> None:
    """It is found with the test that has started it."""
    process = subprocess.Popen(SLEEP)
    [found] = Leftovers(patience=0).of_tests()

    here = "tests/support/test_leftovers.py::test_a_process_is_found_and_ended (call)"
    assert f"process {process.pid} of {here}: {' '.join(SLEEP)}" == found
    assert -signal.SIGKILL == process.wait(20)
    assert [] == Leftovers(patience=0).of_tests()


def test_a_process_is_found_at_once() -> None:
    """It is found before it has run, too. If both share a processor, Popen of Python 3.13 returns before it has."""
    processors = os.sched_getaffinity(0)
    os.sched_setaffinity(0, [min(processors)])
    try:
        for _ in range(20):
            process = subprocess.Popen(SLEEP)
            found = Leftovers(patience=0).of_tests()
            assert -signal.SIGKILL == process.wait(20)
            assert 1 == len(found)
    finally:
        os.sched_setaffinity(0, processors)


def test_a_process_of_a_process_is_found() -> None:
    """It is found, also if the process in between has ended."""
    code = (
        f"import subprocess; print(subprocess.Popen({SLEEP}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).pid)"
    )
    pid = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()

    [found] = Leftovers(patience=0).of_tests()

    assert found.startswith(f"process {pid} of ")
    assert [] == Leftovers().of_tests()  # it was killed, and takes a moment to end


def test_a_thread_is_found() -> None:
    """It is found for as long as it runs."""
    leftovers = Leftovers(patience=0)
    thread = LoopThread("firestore-flowstate")
    found = leftovers.of_tests()
    thread.stop()

    assert ["thread firestore-flowstate"] == found
    assert [] == leftovers.of_tests()


def test_what_ends_by_itself_is_waited_for() -> None:
    """It is waited for within the patience."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(0.5)"])

    assert [] == Leftovers().of_tests()
    assert 0 == process.wait()


def test_ignored_signals_are_not_handed_on() -> None:
    """Tests started by nohup, or in the background of a script, ignore what they are told to. Their programs do not."""
    code = """
    import os, signal, subprocess, sys
    from tests.support.leftovers import ignore_by_handlers

    for signum in (signal.SIGHUP, signal.SIGINT):
        signal.signal(signum, signal.SIG_IGN)
    ignore_by_handlers()
    for signum in (signal.SIGHUP, signal.SIGINT):
        os.kill(os.getpid(), signum)
        program = subprocess.Popen([sys.executable, "-c", "print(flush=True); input()"], stdin=-1, stdout=-1)
        program.stdout.readline()
        program.send_signal(signum)
        program.communicate(timeout=20)
        print(program.returncode)
    """
    lines = "\n".join(line[4:] for line in code.splitlines())
    path = f"import sys; sys.path[:0] = {sys.path!r}"
    ran = subprocess.run(
        [sys.executable, "-c", path + lines], stdout=subprocess.PIPE, text=True, check=False, timeout=60
    )

    assert (0, "-1\n-2\n") == (ran.returncode, ran.stdout)
