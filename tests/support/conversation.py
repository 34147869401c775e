"""A server started and stopped as a user would, and what its streams say."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
from httpx_sse import connect_sse

from support.serving import Process, wait_for

# A start that has to compile kernels takes this long on a slow machine.
START_S = 300.0


@dataclass
class Answer:
    """One streamed answer. arrivals: seconds from the request to each token event."""

    start: dict[str, Any] = field(default_factory=dict)
    done: dict[str, Any] = field(default_factory=dict)
    error: dict[str, Any] | None = None
    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    arrivals: list[float] = field(default_factory=list)
    event_ids: list[str] = field(default_factory=list)

    def take(self, kind: str, data: dict[str, Any], at: float) -> None:
        if kind == "start":
            self.start = data
        elif kind == "done":
            self.done = data
        elif kind == "error":
            self.error = data["error"]
        else:
            self.text += data["text"]
            self.token_ids += data["token_ids"]
            self.logprobs += [entry["logprob"] for entry in data.get("logprobs", [])]
            self.arrivals.append(at)


def stream(url: str, **body: Any) -> Iterator[tuple[str, dict[str, Any], Answer]]:
    """POST /v1/generate; yields event by event, with the answer so far."""
    answer, began = Answer(), time.perf_counter()
    with (
        httpx.Client(timeout=START_S) as client,
        connect_sse(client, "POST", f"{url}/v1/generate", json=body) as source,
    ):
        if source.response.status_code != 200:
            raise AssertionError(source.response.read().decode())
        for event in source.iter_sse():
            if not event.data:  # a ping
                continue
            data = json.loads(event.data)
            answer.event_ids.append(event.id)
            answer.take(event.event, data, time.perf_counter() - began)
            yield event.event, data, answer


def generate(url: str, **body: Any) -> Answer:
    """The whole answer."""
    *_, (_, _, answer) = stream(url, **body)
    assert answer.done or answer.error, "the stream ended without done or error"
    return answer


def say(url: str, text: str, **body: Any) -> Answer:
    """One user message, answered greedily unless `body` says otherwise."""
    return generate(url, messages=[{"role": "user", "content": text}], **({"temperature": 0} | body))


class Serve:
    """`perennial serve` on a free port."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        self.settings = {"port": "0", "data_dir": str(folder / "data"), "cache_dir": str(folder / "cache")} | settings
        self.url = ""
        self.ready_s = 0.0
        self._process: Process | None = None

    @property
    def process(self) -> Process:
        assert self._process is not None
        return self._process

    def start(self) -> None:
        """Until it says that it is ready."""
        began = time.perf_counter()
        self._process = Process("serve", cwd=self.folder, **self.settings)
        line = self._process.line(START_S)
        self.ready_s = time.perf_counter() - began
        assert "ready" in line, line
        self.url = next(word for word in line.split() if word.startswith("http://"))

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        return self.process.stop(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL to every process of it at once, as when a machine dies."""
        parent = psutil.Process(self.process.popen.pid)
        family = [*parent.children(recursive=True), parent]
        for one in family:
            one.suspend()  # so that none can react to another's death
        for one in family:
            one.kill()
        self.process.stop()
        psutil.wait_procs(family, timeout=20)

    @contextmanager
    def another_worker(self) -> Iterator[Process]:
        """One more worker on its store, which must be one of its own (`redis_url`); ready to take turns."""
        before = self.workers()
        with Process("worker", cwd=self.folder, **self.settings) as worker:
            wait_for(lambda: self.workers() > before, START_S)
            yield worker

    def workers(self) -> int:
        """How many live."""
        said: dict[str, Any] = httpx.get(f"{self.url}/health/ready").json()
        return int(said.get("workers", 0))

    def session(self, session_id: str) -> dict[str, Any]:
        """What the api says of a session."""
        answer = httpx.get(f"{self.url}/v1/sessions/{session_id}")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def children(self) -> dict[str, psutil.Process]:
        """Its processes by what they are: api, worker, valkey."""
        found = {}
        for child in psutil.Process(self.process.popen.pid).children(recursive=True):
            line = " ".join(child.cmdline())
            kind = next((k for k in ("server.cli api", "server.cli worker", "valkey-server") if k in line), None)
            if kind:
                found[kind.removeprefix("server.cli ")] = child
        return found


@contextmanager
def serving(folder: Path, **settings: str) -> Iterator[Serve]:
    """A running server; stopped at the end, whatever happened."""
    server = Serve(folder, **settings)
    server.start()
    try:
        yield server
    finally:
        if server.process.popen.poll() is None:
            server.stop()
