"""Flask in gunicorn: workers that are processes or threads, forked before or after the app is loaded."""

from __future__ import annotations

import pytest

from tests.hosts.serving import EXAMPLES, Server, at_once, in_turn

THREADS = ("--worker-class", "gthread", "--threads", "4")


@pytest.mark.parametrize(
    ("workers", "options"),
    [(1, ()), (1, (*THREADS, "--preload")), (4, ("--preload",)), (4, THREADS)],
    ids=["1 sync", "1 gthread, preload", "4 sync, preload", "4 gthread"],
)
def test_gunicorn(host_environment: dict[str, str], workers: int, options: tuple[str, ...]) -> None:
    """A store that is made when the module is loaded serves every request of every worker, and loses no step."""
    app = ("--chdir", str(EXAMPLES), "--workers", str(workers), *options, "flask_app:app")
    with Server("gunicorn", "--bind", "127.0.0.1:{port}", *app, environment=host_environment) as server:
        http = server.wait().http
        started = in_turn(lambda number: http.put(f"/runs/run-{number}").status_code, 8)
        at_once(lambda number: http.put(f"/runs/run-0/steps/step-{number}").raise_for_status(), 20)
        again = http.put("/runs/run-0").status_code
        shown = in_turn(lambda _: http.get("/runs/run-0").json(), 20)
        missing = http.get("/runs/missing").status_code
        pids = server.workers()

    assert [200] * 8 == started
    assert 409 == again  # and its 20 steps are there
    assert [20] * 20 == [len(answer["steps"]) for answer in shown]
    assert 404 == missing
    assert workers == len(pids)
