"""Strands' real OpenAI provider, against a server that streams as the real service does, killed between tools."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

TOOLS = ("charge", "reserve", "ship")


class Service(BaseHTTPRequestHandler):
    """Asks for three tools at once, then answers; each piece of an argument is an event of its own."""

    requests: list[dict[str, Any]]

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.requests.append(request)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        done = request["messages"][-1]["role"] == "tool"
        deltas = [{"role": "assistant", "content": ""}]
        deltas += [{"content": word} for word in ("All ", "done.")] if done else list(self.calls())
        for delta in deltas:
            self.event(choices=[{"index": 0, "delta": delta, "finish_reason": None}])
        self.event(choices=[{"index": 0, "delta": {}, "finish_reason": "stop" if done else "tool_calls"}])
        self.event(choices=[], usage={"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25})
        self.wfile.write(b"data: [DONE]\n\n")

    @staticmethod
    def calls() -> Iterator[dict[str, Any]]:
        for index, name in enumerate(TOOLS):
            function = {"name": name, "arguments": ""}
            yield {"tool_calls": [{"index": index, "id": f"call_{name}", "type": "function", "function": function}]}
            for piece in ('{"order"', ": 4711}"):
                yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}

    def event(self, **fields: Any) -> None:
        chunk = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-test", **fields}
        self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def service() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    requests: list[dict[str, Any]] = []
    handler = type("Handler", (Service,), {"requests": requests})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1", requests
        finally:
            server.shutdown()
            thread.join()


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.integration.agents.openai_program", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_killed_between_parallel_tools(service: tuple[str, list[dict[str, Any]]], tmp_path: Path) -> None:
    server, requests = service
    undisturbed = run(f"sqlite:///{tmp_path}/alone.db", server, str(tmp_path / "alone"))
    assert undisturbed.returncode == 0, undisturbed.stderr
    expected = requests[-1]["messages"]
    requests.clear()

    arguments = (f"sqlite:///{tmp_path}/killed.db", server, str(tmp_path / "killed"))
    assert run(*arguments, "--die").returncode == -signal.SIGKILL
    assert len(requests) == 1
    resumed = run(*arguments)

    assert resumed.returncode == 0, resumed.stderr
    assert json.loads(resumed.stdout) == json.loads(undisturbed.stdout) == {"answer": "All done.", "usage": 50}
    assert len(requests) == 2, "the recorded model call was not repeated"
    assert requests[-1]["messages"] == expected
    ran = (tmp_path / "killed").read_text().split()
    assert sorted(ran) == ["charge", "reserve", "ship", "ship"], "only the tool that was killed ran again"
