"""The application of examples/article: a durable flow in FastAPI, whose process is killed again and again."""

from __future__ import annotations

import ast
import re
import time
from collections.abc import Callable
from typing import Any

import httpx

from tests.hosts.serving import EXAMPLES, PATIENCE, ROOT, Server

LONGEST = 45


def server(environment: dict[str, str], *, holds_sections: bool) -> Server:
    folders = f"{EXAMPLES / 'article'}:{ROOT / 'tests' / 'hosts'}"
    arguments = ("--host", "127.0.0.1", "--port", "{port}", "article_with_short_lease:app")
    held = {"HOLDS_SECTIONS": "1"} if holds_sections else {}
    return Server("uvicorn", *arguments, environment={**environment, **held, "PYTHONPATH": f"{ROOT}:{folders}"})


def until(http: httpx.Client, holds: Callable[[dict[str, Any]], bool]) -> None:
    """Ask until the article is so."""
    deadline = time.monotonic() + PATIENCE
    while not holds(seen := http.get("/articles/cats").json()):
        assert time.monotonic() < deadline, seen
        time.sleep(0.02)


def test_an_article_survives_kills(host_environment: dict[str, str]) -> None:
    """Its process is killed while it drafts, waits for a person and sleeps. Nothing is done twice."""
    logs = ""
    for round in ("drafting", "waiting", "sleeping", "end"):
        with server(host_environment, holds_sections=round == "drafting") as serving:
            http = serving.wait().http
            if round == "drafting":
                topic = {"title": "cats", "embargo": "PT8S"}
                assert [202, 202] == [http.put("/articles/cats", json=topic).status_code for _ in range(2)]
                until(http, lambda seen: "draft" in seen["steps"])  # two other sections are under way
            elif round == "waiting":
                until(http, lambda seen: seen["status"] == "blocked" and len(seen["steps"]["approve/show"]) == 3)
            elif round == "sleeping":
                assert 422 == http.post("/articles/cats/approval", json={"ok": "perhaps"}).status_code
                assert 202 == http.post("/articles/cats/approval", json={"ok": True}).status_code
                assert 409 == http.post("/articles/cats/approval", json={"ok": True}).status_code
                until(http, lambda seen: "approve" in seen["steps"] and seen["status"] == "blocked")
            else:
                until(http, lambda seen: seen["status"] == "done")
                assert 404 == http.get("/articles/dogs").status_code
                assert 404 == http.post("/articles/dogs/approval", json={"ok": True}).status_code
                assert 422 == http.put("/articles/__cats__", json={"title": "cats"}).status_code
                assert 422 == http.get("/articles/__cats__").status_code
            if round != "end":
                serving.kill()
            logs += serving.log()

    done = sorted(re.findall(r"^done: (.*)$", logs, re.MULTILINE))
    assert [
        "outline of cats",
        "publish cats with 3 sections",
        "section cats 1",
        "section cats 2",
        "section cats 3",
    ] == done


def test_the_application_is_short() -> None:
    """It has at most 45 lines, without docstrings and empty lines: a reader sees all of it at once."""
    text = (EXAMPLES / "article" / "app.py").read_text()
    documented = [node for node in ast.walk(ast.parse(text)) if ast.unparse(node).startswith(('"""', "'"))]
    docstrings = {
        line
        for node in documented
        if isinstance(node, ast.Expr)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    lines = [line for number, line in enumerate(text.splitlines(), 1) if line.strip() and number not in docstrings]

    assert len(lines) <= LONGEST, len(lines)
