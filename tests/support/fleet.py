"""Workers and apis as processes of their own on one store, and what a test does to them: kill, stop, go on.

`perennial serve` starts its children again; here nothing comes back by itself, so a test decides what is there.
"""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
from httpx_sse import connect_sse

from server.store.embedded import EmbeddedValkey
from support.conversation import START_S, Answer
from support.serving import Process, wait_for

# Long enough for whatever a fault test waits for, short enough to notice what never comes.
PATIENCE_S = 60.0


class Fleet:
    """A Valkey and any number of workers and apis on it. settings: of all of them."""

    def __init__(self, folder: Path, *, fsync: str = "everysec", **settings: str) -> None:
        self.folder = folder
        self.valkey = EmbeddedValkey(folder / "valkey", fsync=fsync)
        asyncio.run(self.valkey.start())
        self.settings = {
            "redis_url": self.valkey.url,
            "cache_dir": str(folder / "cache"),
            "log_format": "json",
            "threads": "1",
            "drain_s": "1",
        } | settings
        self._processes: list[Process] = []

    def worker(self, **settings: str) -> Process:
        """A new worker, once it takes turns."""
        process = self._start("worker", **settings)
        wait_for(lambda: "worker ready" in process.errors() or process.popen.poll() is not None, START_S)
        assert process.popen.poll() is None, process.errors()
        return process

    def api(self, **settings: str) -> tuple[str, Process]:
        """A new api's address, once it is ready, and its process."""
        process = self._start("api", port="0", **settings)
        url = process.url()
        wait_for(lambda: _ready(url), PATIENCE_S)
        return url, process

    def _start(self, command: str, **settings: str) -> Process:
        process = Process(command, cwd=self.folder, **self.settings | settings)
        self._processes.append(process)
        return process

    def kill(self, process: Process) -> None:
        """kill -9."""
        process.popen.send_signal(signal.SIGKILL)
        process.popen.wait(PATIENCE_S)

    def kill_valkey(self) -> None:
        """kill -9, and no one is left of it."""
        pid = self.valkey.pid
        assert pid is not None
        victim = psutil.Process(pid)
        victim.kill()
        psutil.wait_procs([victim], timeout=PATIENCE_S)

    def revive_valkey(self) -> None:
        """Start it again on its data."""
        asyncio.run(self.valkey.stop())
        asyncio.run(self.valkey.start())

    def close(self) -> None:
        """End all of it."""
        for process in self._processes:
            process.popen.send_signal(signal.SIGCONT) if process.popen.poll() is None else None
        for process in reversed(self._processes):
            process.stop(signal.SIGTERM if process.popen.poll() is None else signal.SIGKILL)
        asyncio.run(self.valkey.stop())


@contextmanager
def fleet(folder: Path, **settings: Any) -> Iterator[Fleet]:
    """A fleet, ended whatever happened."""
    made = Fleet(folder, **settings)
    try:
        yield made
    finally:
        made.close()


def _ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health/ready").status_code == 200
    except httpx.TransportError:
        return False


class Listener(threading.Thread):
    """A client in a thread of its own: posts a request, or reads a generation's events, and keeps what it hears.

    at: seconds on the monotonic clock at which each token event came. broken: how the connection ended, if not well.
    """

    def __init__(self, url: str, *, generation: str | None = None, after: str | None = None, **body: Any) -> None:
        super().__init__(daemon=True)
        self.answer = Answer()
        self.at: list[float] = []
        self.broken: Exception | None = None
        self._url = url
        self._generation = generation
        self._after = after
        self._body = body
        self.start()

    def run(self) -> None:
        try:
            self._listen()
        except (httpx.HTTPError, AssertionError) as error:
            self.broken = error

    def _listen(self) -> None:
        path, how = "/v1/generate", {"method": "POST", "json": self._body}
        if self._generation is not None:
            headers = {"Last-Event-ID": self._after} if self._after else {}
            path, how = f"/v1/generations/{self._generation}/events", {"method": "GET", "headers": headers}
        with httpx.Client(timeout=PATIENCE_S) as client, connect_sse(client, url=self._url + path, **how) as source:
            if source.response.status_code != 200:
                raise AssertionError(source.response.read().decode())
            for event in source.iter_sse():
                if not event.data:  # a ping
                    continue
                now = time.monotonic()
                self.answer.event_ids.append(event.id)
                self.answer.take(event.event, event.json(), now)
                if event.event == "token":
                    self.at.append(now)

    def heard(self, tokens: int) -> None:
        """Returns once it has heard so many tokens."""
        wait_for(lambda: len(self.answer.token_ids) >= tokens or not self.is_alive(), PATIENCE_S)
        assert len(self.answer.token_ids) >= tokens, self.broken or self.answer.error

    def whole(self) -> Answer:
        """The answer, once it has ended well."""
        self.join(PATIENCE_S)
        assert not self.is_alive(), "the stream does not end"
        assert self.broken is None, self.broken
        assert self.answer.error is None, self.answer.error
        assert self.answer.done, "the stream ended without done"
        return self.answer


def unbroken(event_ids: list[str], first: int = 1) -> bool:
    """Whether these are the ids first, first + 1, … each once."""
    return event_ids == [f"{n}-0" for n in range(first, first + len(event_ids))]
