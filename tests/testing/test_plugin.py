"""The pytest plugin works for an app's developer from a test file of few lines, in any mode of pytest-asyncio."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from firestore_flowstate.emulator import Emulator
from tests.rpc.strict_python import STRICT_PYTHON

ASYNC_TEST = """
from firestore_flowstate import FlowState

async def test_my_flow(flow_state_store):
    assert (await flow_state_store.list()).flow_states == []
    state = FlowState.start(name="mine")
    await flow_state_store.save("id", state)
    assert await flow_state_store.load("id") == state
"""
SYNC_TEST = """
import asyncio
from firestore_flowstate import FlowState

def test_my_app(flow_state_store, flow_state_settings, firestore_emulator):
    print("HOST", firestore_emulator.host)
    assert flow_state_settings.project.startswith("demo-")
    assert flow_state_settings.emulator_host == firestore_emulator.host
    for name in ("one", "two"):
        state = FlowState.start(name=name)
        asyncio.run(flow_state_store.save("id", state))
        assert asyncio.run(flow_state_store.load("id")) == state
"""
OWN_SETTINGS = """
import pytest

@pytest.fixture
def flow_state_settings(flow_state_settings):
    return flow_state_settings.model_copy(update={"collection": "tenants/acme/flows", "page_size": 1})

def test_own_settings(flow_state_store, flow_state_settings):
    assert flow_state_settings.collection == "tenants/acme/flows"
"""
SETTINGS_OF_THE_PACKAGE = """
import firestore_flowstate

def test_settings(flow_state_settings, firestore_emulator):
    fresh = {"project", "collection", "emulator_host"}
    for name, field in firestore_flowstate.FlowStateSettings.model_fields.items():
        assert name in fresh or field.default == getattr(flow_state_settings, name), name
    assert firestore_emulator.host == flow_state_settings.emulator_host
"""
HOST_OF_A_WORKER = """
import os
from pathlib import Path

def test_host(firestore_emulator):
    Path(os.environ["PYTEST_XDIST_WORKER"]).write_text(firestore_emulator.host)
"""
FROZEN = """
import asyncio, sys, time
from datetime import date, timedelta
import freezegun
from firestore_flowstate import MemoryFlowStateStore
from firestore_flowstate.flows import Flows, Run

flows = Flows(MemoryFlowStateStore())

async def on_loop(number):
    await asyncio.sleep(0.001)
    return number

@flows.flow
async def asking(run: Run) -> list[int]:
    numbers = await asyncio.gather(run.step("a", on_loop, 1), run.step("b", lambda: 2), run.interrupt("c", int))
    await run.sleep("nap", timedelta(days=30))
    return numbers + [(await run.now()).year]

@freezegun.freeze_time("2020-12-25")
def test_it():
    assert date(2020, 12, 25) == date.today()
    assert not [name for name in sys.modules if name.startswith("firestore_flowstate.testing.conf")]
    assert "firestore_flowstate.testing.strategies" not in sys.modules  # nor hypothesis with it

@freezegun.freeze_time("2020-12-25")
async def test_simulations():
    from firestore_flowstate.testing import crash_everywhere
    from firestore_flowstate.testing.loop_time import going_timers

    simulations = await crash_everywhere(asking, answers={"c": 3})
    assert [1, 2, 3, 2021] == simulations[0].result
    one, other = going_timers(), going_timers()
    one.__enter__(), other.__enter__()
    one.__exit__(None, None, None)
    await asyncio.sleep(0.001)
    other.__exit__(None, None, None)
    assert asyncio.get_running_loop().time() == time.monotonic() == time.monotonic()  # it stands still again
"""


def _pytest(folder: Path, test: str, *options: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    (folder / "test_app.py").write_text(test)
    variables = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST_", "COV_"))}
    variables.update(environment)
    if "no:asyncio" not in options:
        options = ("-o", "asyncio_default_fixture_loop_scope=function", *options)  # which it warns to set
    command = [*STRICT_PYTHON, "-m", "pytest", "-p", "no:cacheprovider", "-q", *options, str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env=variables)


def test_an_app_is_tested_with_one_line(tmp_path: Path, firestore_emulator: Emulator) -> None:
    """A test needs one fixture, and nothing is to be configured. Each test has a collection of its own."""
    test = ASYNC_TEST + ASYNC_TEST.replace("test_my_flow", "test_another_flow") + SYNC_TEST
    ran = _pytest(tmp_path, test, "-o", "asyncio_mode=auto", environment=dict(firestore_emulator.environment))

    assert "3 passed" in ran.stdout, ran.stdout + ran.stderr
    assert 0 == ran.returncode


def test_the_developers_variables_do_not_reach_the_store(tmp_path: Path, firestore_emulator: Emulator) -> None:
    """States would expire, or go elsewhere, on one machine alone. A broken one does not matter."""
    own = {
        "FLOWSTATE_PROJECT": "mine",
        "FLOWSTATE_DATABASE": "other",
        "FLOWSTATE_COLLECTION": "mine",
        "FLOWSTATE_LAYOUT": "native",
        "FLOWSTATE_TIMEOUT": "0.001",
        "FLOWSTATE_EXPIRE_AFTER": "0.001",
        "FLOWSTATE_EXPIRE_WHEN": "always",
        "FLOWSTATE_EMULATOR_HOST": "127.0.0.1:1",
        "FLOWSTATE_ENDPOINT": "127.0.0.1:1",
        "FLOWSTATE_CODECS": "x",
        "flowstate_page_size": "7",
    }
    environment = {**firestore_emulator.environment, **own}
    ran = _pytest(tmp_path, ASYNC_TEST + SETTINGS_OF_THE_PACKAGE, "-o", "asyncio_mode=auto", environment=environment)

    assert "2 passed" in ran.stdout, ran.stdout + ran.stderr


def test_strict_mode_works_too(tmp_path: Path, firestore_emulator: Emulator) -> None:
    """Tests carry the mark of pytest-asyncio then. An app has settings of its own by overriding one fixture."""
    test = OWN_SETTINGS + ASYNC_TEST.replace("async def", "@pytest.mark.asyncio\nasync def")
    ran = _pytest(tmp_path, test, "-o", "asyncio_mode=strict", environment=dict(firestore_emulator.environment))

    assert "2 passed" in ran.stdout, ran.stdout + ran.stderr


def test_a_clock_may_be_frozen(tmp_path: Path) -> None:
    """That imports nothing of the plugin's, though freezegun looks at every name of each module. Simulations go on."""
    ran = _pytest(tmp_path, FROZEN, "-o", "asyncio_mode=auto", environment={})

    assert "2 passed" in ran.stdout, ran.stdout + ran.stderr
    assert 0 == ran.returncode


def test_the_session_starts_an_emulator_of_its_own(tmp_path: Path) -> None:
    """If none is named, one is started for the session and stopped at its end. Pytest-asyncio is not needed."""
    ran = _pytest(tmp_path, SYNC_TEST, "-s", "-p", "no:asyncio", environment={"FIRESTORE_EMULATOR_HOST": ""})

    assert "1 passed" in ran.stdout, ran.stdout + ran.stderr
    host = ran.stdout.partition("HOST ")[2].split()[0]
    assert not Emulator(host).is_running()


def test_each_worker_has_an_emulator_of_its_own(tmp_path: Path) -> None:
    """A worker of pytest-xdist is a session, which ends its emulator."""
    options = ("-n", "2", "--dist", "each", "-p", "no:asyncio")
    ran = _pytest(tmp_path, HOST_OF_A_WORKER, *options, environment={"FIRESTORE_EMULATOR_HOST": ""})
    one, other = ((tmp_path / worker).read_text() for worker in ("gw0", "gw1"))

    assert "2 passed" in ran.stdout, ran.stdout + ran.stderr
    assert one != other
    assert not Emulator(one).is_running()
    assert not Emulator(other).is_running()


def test_workers_share_an_emulator_that_is_named(tmp_path: Path, firestore_emulator: Emulator) -> None:
    """That is what `python -m firestore_flowstate.emulator exec` does. No worker stops it."""
    options = ("-n", "2", "--dist", "each", "-p", "no:asyncio")
    ran = _pytest(tmp_path, HOST_OF_A_WORKER, *options, environment=dict(firestore_emulator.environment))

    assert "2 passed" in ran.stdout, ran.stdout + ran.stderr
    assert [firestore_emulator.host] * 2 == [(tmp_path / worker).read_text() for worker in ("gw0", "gw1")]
    assert firestore_emulator.is_running()


def test_without_an_emulator_tests_fail_and_say_how_to_get_it(tmp_path: Path) -> None:
    """They fail with the message of the launcher, without a skip and without a stack trace."""
    environment = {"FIRESTORE_EMULATOR_HOST": "127.0.0.1:1"}
    ran = _pytest(tmp_path, SYNC_TEST, environment=environment)

    assert 1 == ran.returncode
    assert "1 error" in ran.stdout
    assert "127.0.0.1:1, and no Firestore emulator answers there" in ran.stdout
    assert "Traceback" not in ran.stdout
    assert "process.py" not in ran.stdout
    missing = _pytest(tmp_path, SYNC_TEST, environment={"FIRESTORE_EMULATOR_HOST": "", "PATH": "", "JAVA_HOME": ""})
    assert "The Firestore emulator cannot start" in missing.stdout
    assert "skipped" not in missing.stdout


def test_contracts_show_what_differs(tmp_path: Path) -> None:
    """A failed assertion of a suite is explained as those of one's own tests are. A missing fixture is named."""
    test = """
import pytest
from firestore_flowstate import MemoryFlowStateStore
from firestore_flowstate.testing import FlowStateStoreTests

class Forgetful(MemoryFlowStateStore):
    async def save(self, id, state, **options):
        state.cache.clear()
        await super().save(id, state, **options)

class TestForgetful(FlowStateStoreTests):
    @pytest.fixture
    def store(self):
        return Forgetful()

class TestWithoutFixture(FlowStateStoreTests):
    pass
"""
    ran = _pytest(tmp_path, test, "-o", "asyncio_mode=strict", "-k", "order_of_steps", environment={})

    assert "1 failed, " in ran.stdout, ran.stdout + ran.stderr
    assert "assert ['b', 'a'" in ran.stdout
    assert "1 error" in ran.stdout
    assert "TestWithoutFixture needs a fixture `store` that returns an empty store" in ran.stdout
