"""`perennial serve` as a process with a real Valkey; worker and api are small programs that behave as a test says.

What a real worker and api do under it is the acceptance tests' business; here it is who is started, ended and revived.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from support.serving import Process, clean_environment, wait_for

# Argument 1: the folder for pids and for the test's wishes; then what `serve` passes: the name, and flags.
CHILD = """
import pathlib, signal, socket, sys, threading, time
from server.cli import _watch_lifeline
folder, name, flags = pathlib.Path(sys.argv[1]), sys.argv[2], dict(zip(sys.argv[3::2], sys.argv[4::2]))
_watch_lifeline(int(flags["--lifeline-fd"]), 0)
if (folder / f"{name}.fails").exists():
    sys.exit(f"perennial {name}: the reason")
if (folder / f"{name}.stubborn").exists():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
else:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
with (folder / f"{name}.pids").open("a") as file:
    file.write(f"{__import__('os').getpid()}\\n")
if name == "worker":
    while True:
        signal.pause()
listener = socket.socket(fileno=int(flags["--listen-fd"]))
listener.listen()
while True:
    client, _ = listener.accept()
    client.recv(1000)
    status = b"503" if (folder / "worker.fails").exists() else b"200"
    client.sendall(b"HTTP/1.1 " + status + b" X\\r\\nContent-Length: 0\\r\\nConnection: close\\r\\n\\r\\n")
    client.close()
"""
SERVE = """
import asyncio, sys
from server.errors import StartupError
from server.logs import configure_logging
from server.settings import load_settings
from server import supervisor
from server.supervisor import Supervisor
supervisor.AFTER_DRAIN_S = supervisor.HURRY_S = 0.3  # for children that do nothing
settings = load_settings(env_file=None)
configure_logging(settings, "serve")
command = (sys.executable, "child.py", sys.argv[1])
try:
    sys.exit(asyncio.run(Supervisor(settings, say=lambda line: print(line, flush=True), command=command).run()))
except StartupError as e:
    sys.exit(f"perennial serve: {e}")
"""


class Serve(Process):
    """A supervisor with scripted children."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        (folder / "child.py").write_text(CHILD)
        (folder / "serve.py").write_text(SERVE)
        super().__init__("serve.py", str(folder), cwd=folder, script=True, **settings)

    def pids(self, name: str) -> list[int]:
        """The processes that have run under a name, oldest first."""
        path = self.folder / f"{name}.pids"
        return [int(line) for line in path.read_text().split()] if path.exists() else []

    def running(self) -> list[psutil.Process]:
        """Everything it has started that lives."""
        return [child for child in psutil.Process(self.popen.pid).children(recursive=True) if child.is_running()]


@contextmanager
def serve(folder: Path, **settings: str) -> Iterator[tuple[Serve, str, list[str]]]:
    """A supervisor that has said it is ready: its process, its address, the rest of what it said."""
    usual = {"port": "0", "data_dir": str(folder / "data"), "drain_s": "0.2", "log_format": "json"}
    with Serve(folder, **usual | settings) as process:
        first = process.line()
        said = [first, *(process.line() for _ in range(3))]
        # Its api is scripted to be ready at once, so its worker may not have come to its first line yet.
        wait_for(lambda: all(process.pids(name) for name in ("worker", "api")))
        yield process, next(word for word in first.split() if word.startswith("http://")), said


def gone(processes: list[psutil.Process]) -> bool:
    return not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in processes)


def test_it_says_where_it_is_what_to_type_and_who_may_use_it(tmp_path: Path):
    with serve(tmp_path) as (process, url, said):
        text = "\n".join(said)
        assert f"{url}/v1/generate" in text
        assert "curl -N" in text
        assert str(tmp_path / "data") in text
        assert "loopback only" in text
        children = process.running()
        assert len(children) == 3
        assert all(os.getpgid(child.pid) != os.getpgid(process.popen.pid) for child in children)
        assert process.stop() == 0
        assert gone(children)


def test_the_line_it_says_can_be_run(tmp_path: Path):
    with serve(tmp_path) as (_, _, said):
        command = next(line for line in said if "curl" in line).partition("try")[2].strip()
        done = subprocess.run(
            ["sh", "-c", f"{command} -s -w '%{{http_code}}'"], capture_output=True, text=True, check=True
        )
        assert done.stdout == "200"


@pytest.mark.parametrize("name", ["worker", "api"])
def test_a_child_that_dies_is_started_again(tmp_path: Path, name: str):
    with serve(tmp_path) as (process, _, _):
        (first,) = process.pids(name)
        os.kill(first, signal.SIGKILL)
        wait_for(lambda: len(process.pids(name)) == 2)
        assert process.stop() == 0
        assert '"event": "child_died"' in process.errors()


def test_a_valkey_that_dies_is_started_again_with_its_data(tmp_path: Path):
    with serve(tmp_path) as (process, _, _):

        def valkey() -> list[psutil.Process]:
            return [child for child in process.running() if "valkey" in child.name()]

        (first,) = valkey()
        first.kill()
        wait_for(lambda: [child.pid for child in valkey()] not in ([], [first.pid]))
        assert process.stop() == 0


@pytest.mark.parametrize("name", ["worker", "api"])
def test_a_child_that_cannot_start_ends_everything(tmp_path: Path, name: str):
    (tmp_path / f"{name}.fails").touch()
    with Serve(tmp_path, port="0", data_dir=str(tmp_path / "data"), drain_s="0.2") as process:
        assert process.wait() == 1
        assert f"perennial {name}: the reason" in process.errors()
        assert "Traceback" not in process.errors()


def test_killed_it_leaves_nobody_behind(tmp_path: Path):
    with serve(tmp_path) as (process, _, _):
        children = process.running()
        assert len(children) == 3
        process.popen.kill()
        process.wait()
        wait_for(lambda: gone(children))
    with serve(tmp_path) as (process, _, _):  # and the data directory is free
        assert process.stop() == 0


def test_a_stop_is_bounded(tmp_path: Path):
    (tmp_path / "worker.stubborn").touch()
    with serve(tmp_path) as (process, _, _):
        children = process.running()
        assert process.stop() == 0
        assert gone(children)


def test_a_second_signal_hurries(tmp_path: Path):
    (tmp_path / "worker.stubborn").touch()
    with serve(tmp_path, drain_s="600") as (process, _, _):
        children = process.running()
        process.popen.send_signal(signal.SIGTERM)
        api = process.pids("api")[0]
        wait_for(lambda: not psutil.pid_exists(api))
        assert process.stop(signal.SIGINT) == 128 + signal.SIGINT
        assert gone(children)


def test_a_port_in_use_is_one_line(tmp_path: Path):
    with serve(tmp_path) as (_, url, _):
        other = tmp_path / "other"
        other.mkdir()
        with Serve(other, port=url.rpartition(":")[2], data_dir=str(other / "data")) as second:
            assert second.wait() == 1
            assert len(second.errors().splitlines()) == 1
            assert "cannot listen on 127.0.0.1" in second.errors()


def test_a_data_directory_in_use_is_one_line(tmp_path: Path):
    with serve(tmp_path):
        other = tmp_path / "other"
        other.mkdir()
        with Serve(other, port="0", data_dir=str(tmp_path / "data")) as second:
            assert second.wait() == 1
            assert len(second.errors().splitlines()) == 1
            assert "in use" in second.errors()


def test_an_outer_redis_needs_no_valkey(tmp_path: Path):
    with serve(tmp_path, redis_url="redis://127.0.0.1:1") as (process, _, said):
        assert len(process.running()) == 2
        assert "PERENNIAL_REDIS_URL" in "\n".join(said)
        assert not (tmp_path / "data").exists()


def test_interpreter_and_environment_reach_the_children(tmp_path: Path):
    with serve(tmp_path, slots="3") as (process, _, _):
        child = psutil.Process(process.pids("worker")[0])
        assert child.exe() == psutil.Process(os.getpid()).exe() or child.cmdline()[0] == sys.executable
        environment = child.environ()
        assert environment["PERENNIAL_SLOTS"] == "3"
        assert environment["PERENNIAL_REDIS_URL"].startswith("unix://")
    assert "PERENNIAL_SLOTS" not in clean_environment()
