"""The optional judge, asked over a real socket: what it answers, what fails, and that off means off."""

from __future__ import annotations

import ast
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from mmie.configuration import DEFAULT_FILE, read_configuration
from mmie.errors import InputError
from mmie.judge import (
    Endpoint,
    agreement,
    chosen_answers,
    configured_endpoint,
    judge_answer,
    known_texts,
)

ROOT = DEFAULT_FILE.parent.parent
QUESTION = ("What is the capital?", "Paris", "It is Paris.")


def says(word: str) -> bytes:
    return json.dumps({"choices": [{"message": {"content": word}}]}).encode()


class Stub(ThreadingHTTPServer):
    """Answers by a script of behaviours, one a request, the last for all further ones."""

    daemon_threads = True

    def __init__(self, behaviours: list[Any]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behaviours = behaviours
        self.seen: list[tuple[dict[str, str], Any]] = []

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(f"http://127.0.0.1:{self.server_port}/v1", "stub", timeout=0.4, retries=2, pause=0.0)


class _Handler(BaseHTTPRequestHandler):
    server: Stub

    def do_POST(self) -> None:
        content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.seen.append((dict(self.headers), content))
        number = min(len(self.server.seen), len(self.server.behaviours)) - 1
        behaviour = self.server.behaviours[number]
        if behaviour == "hang":
            time.sleep(3)
        elif behaviour == "trickle":
            self.send_response(200)
            self.end_headers()
            for _ in range(30):
                self.wfile.write(b" ")
                self.wfile.flush()
                time.sleep(0.1)
        elif behaviour == "cut":
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            self.wfile.write(b"{")
        elif isinstance(behaviour, int):
            self.send_response(behaviour)
            self.send_header("Location", "http://127.0.0.1:1/elsewhere")
            self.end_headers()
        else:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(behaviour)

    def log_message(self, *_: Any) -> None:
        pass

    def handle(self) -> None:
        try:
            super().handle()
        except (BrokenPipeError, ConnectionResetError):
            # The client gave up, which is what these tests are about.
            self.close_connection = True


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Stub]]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    servers: list[Stub] = []

    def start(*behaviours: Any) -> Stub:
        server = Stub(list(behaviours))
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_word_becomes_a_state_and_a_question_is_asked_once(
    serve: Callable[..., Stub], tmp_path: Path
) -> None:
    server = serve(says(" LEAK.\n"), says("refusal"))
    assert judge_answer(server.endpoint, *QUESTION, cache=tmp_path).state == "leak"
    assert judge_answer(server.endpoint, *QUESTION, cache=tmp_path).state == "leak"
    assert len(server.seen) == 1
    assert judge_answer(server.endpoint, "Another?", *QUESTION[1:], cache=tmp_path).state == "refusal"
    headers, body = server.seen[0]
    assert "Authorization" not in headers
    assert body["temperature"] == 0 and "It is Paris." in body["messages"][1]["content"]


@pytest.mark.regression("ACT-12")
@pytest.mark.parametrize("behaviour", ["hang", "trickle"])
def test_a_stub_that_hangs_gives_a_missing_opinion_within_the_timeouts(
    behaviour: str, serve: Callable[..., Stub], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A socket's own timeout counts from byte to byte and would never end on a trickle."""
    server = serve(behaviour)
    began = time.monotonic()
    with caplog.at_level(logging.WARNING):
        opinion = judge_answer(server.endpoint, *QUESTION, cache=tmp_path)
    assert time.monotonic() - began < 3 * 0.4 + 0.8
    assert opinion.state is None and opinion.failure
    assert len(server.seen) == 3
    assert [f"attempt {at} of 3" in record.message for at, record in enumerate(caplog.records, 1)] == [
        True
    ] * 3
    assert list(tmp_path.iterdir()) == []


@pytest.mark.regression("ACT-12")
@pytest.mark.parametrize("behaviour", [500, 503, 429, "cut", b"no json", b"{}"])
def test_a_fault_that_may_pass_is_tried_again_and_then_missing(
    behaviour: Any, serve: Callable[..., Stub]
) -> None:
    failing, passing = serve(behaviour), serve(behaviour, says("OTHER"))
    assert judge_answer(failing.endpoint, *QUESTION).state is None
    assert len(failing.seen) == 3
    assert judge_answer(passing.endpoint, *QUESTION).state == "other"
    assert len(passing.seen) == 2


@pytest.mark.regression("ACT-12")
@pytest.mark.parametrize("behaviour", [401, 404, 302, says("I would say a leak"), says("")])
def test_what_will_not_pass_is_missing_at_once(behaviour: Any, serve: Callable[..., Stub]) -> None:
    server = serve(behaviour)
    opinion = judge_answer(server.endpoint, *QUESTION)
    assert opinion.state is None and opinion.failure
    assert len(server.seen) == 1


@pytest.mark.regression("ACT-12")
def test_an_endpoint_that_is_not_there_is_missing() -> None:
    nobody = Endpoint("http://127.0.0.1:9/v1", "stub", timeout=0.5, retries=1, pause=0.0)
    assert judge_answer(nobody, *QUESTION).state is None


@pytest.mark.regression("ACT-12")
def test_missing_opinions_are_left_out_of_the_agreement_and_counted() -> None:
    """A missing one that counted as "no leak" would make this 2 of 4."""
    table = pd.DataFrame(
        {
            "leak": [1, 0, 1, 1],
            "judged": ["leak", "refusal", None, None],
            "failure": [None, None, "HTTP 500", "HTTP 500"],
        }
    )
    found = agreement(table)
    assert found["agreement"] == 1.0 and found["leak_by_judge"] == 0.5
    assert found["missing"] == 2 and found["failures"] == {"HTTP 500": 2}
    assert agreement(table.tail(2))["agreement"] is None


@pytest.mark.regression("ACT-13")
def test_a_key_in_the_environment_without_the_option_makes_no_call(
    serve: Callable[..., Stub], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(says("LEAK"))
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    monkeypatch.setenv("OPENAI_BASE_URL", server.endpoint.url)
    default = read_configuration(yaml.safe_load(DEFAULT_FILE.read_text(encoding="utf-8")))
    assert default.judge is None
    assert configured_endpoint(default.model_dump(mode="json")["judge"]) is None
    assert server.seen == []


@pytest.mark.regression("ACT-13")
def test_an_endpoint_gets_the_named_key_and_no_other(
    serve: Callable[..., Stub], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(says("LEAK"))
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    options = {"url": server.endpoint.url, "model": "stub", "prompts": 5}
    for variable, sent in ((None, None), ("OPENAI_API_KEY", "Bearer secret")):
        endpoint = configured_endpoint({**options, "key_variable": variable})
        assert endpoint is not None
        judge_answer(endpoint, *QUESTION)
        assert server.seen[-1][0].get("Authorization") == sent
    with pytest.raises(InputError, match=r"judge\.key_variable: NOT_SET is not set"):
        configured_endpoint({**options, "key_variable": "NOT_SET"}, environment={})


@pytest.mark.regression("ACT-12", "ACT-13")
def test_nothing_but_its_own_target_reads_or_asks_the_judge() -> None:
    readers = {
        path.name
        for path in (*ROOT.glob("rules/*.smk"), *ROOT.glob("scripts/*.py"), *ROOT.glob("mmie/**/*.py"))
        if 'results("judge' in path.read_text(encoding="utf-8") or "mmie.judge" in _imports(path)
    }
    assert readers == {"judge.smk", "judge.py"}
    network = {"urllib.request", "http.client", "socket", "requests", "httpx", "openai", "aiohttp"}
    callers = {path.name for path in ROOT.glob("mmie/**/*.py") if _imports(path) & network}
    assert callers == {"judge.py"}


def _imports(path: Path) -> set[str]:
    if path.suffix != ".py":
        return set()
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def test_an_address_that_is_no_web_address_is_refused() -> None:
    content = yaml.safe_load(DEFAULT_FILE.read_text(encoding="utf-8"))
    with pytest.raises(InputError, match=r"judge\.url"):
        read_configuration({**content, "judge": {"url": "file:///etc/passwd", "model": "stub"}})


def test_every_arm_is_asked_about_the_same_examples() -> None:
    table = pd.DataFrame(
        {
            "arm": arm, "seed": 0, "language": "hi", "example_id": f"e{number}", "split": split,
            "kind": "direct", "prompt": "?", "reference": f"r{number}", "generation": arm, "leak": 0,
        }
        for arm in ("a", "b") for split in ("dev", "test") for number in reversed(range(6))
    )  # fmt: skip
    chosen = chosen_answers(table, 4)
    assert chosen.groupby("arm")["example_id"].agg(list).to_dict() == {
        arm: ["e0", "e1", "e2", "e3"] for arm in ("a", "b")
    }
    gold = known_texts(chosen)["hi"]
    assert gold.leaks[0] == ("r0", "r0")
    assert all(text != own for text, own in gold.harmless)
    assert len(gold.refusals) == 4 and "मुझे" in gold.refusals[0][0]
