"""The compose file's own processes on this machine: its commands, flags, environment and health checks, word for word.

What a container would give them is put in its place, and nothing else: the names of other containers and the ports
become this machine's, a volume's path a directory, and `valkey-server`, `valkey-cli`, `ready` and our own commands are
found on a path made for them. The image's own environment (the Dockerfile's ENV) comes first, as it would.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from server.store.embedded import _binary
from support.compose import compose
from support.serving import wait_for

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docker-compose.yml"
UNITS = {"s": 1.0, "m": 60.0}


def image_environment() -> dict[str, str]:
    """What the Dockerfile's last ENV sets for whatever is started."""
    text = (ROOT / "Dockerfile").read_text()
    block = re.findall(r"^ENV ((?:.*\\\n)*.*)$", text[text.index(" AS bare") :], re.M)[0]
    found = dict(word.split("=", 1) for word in block.replace("\\\n", " ").split())
    # Where it keeps its own packages: this machine's are elsewhere.
    return {name: value for name, value in found.items() if name not in ("PATH", "PYTHONPATH")}


def image_check() -> list[str]:
    """The Dockerfile's HEALTHCHECK: what runs where compose names none."""
    [command] = re.findall(r"^HEALTHCHECK .*CMD (\[.*\])$", (ROOT / "Dockerfile").read_text(), re.M)
    return ["CMD", *(word.strip(' "') for word in command.strip("[]").split(","))]


class Composed:
    """The services that run, under one folder. environment: what the operator has set."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self.services: dict[str, Any] = compose(FILE, environment)["services"]
        self.ports = _free_ports("api", "valkey")
        self._bin = folder / "bin"
        self._bin.mkdir(parents=True)
        python = shlex.quote(sys.executable)
        self._program("valkey-server", f'{_binary()} "$@" --port {self.ports["valkey"]} --bind 127.0.0.1')
        self._program("valkey-cli", f'{_cli()} -p {self.ports["valkey"]} "$@"')
        self._program("ready", f'{python} {ROOT / "deploy/image/ready"} "$@"')
        self._program("perennial", f'{python} -m server.cli "$@"')
        self._program("perennial-loadtest", f'{python} -m loadtest "$@"')

    def _program(self, name: str, line: str) -> None:
        path = self._bin / name
        path.write_text(f"#!/bin/sh\nexec {line}\n")
        path.chmod(0o755)

    def _here(self, text: str) -> str:
        """A value with this machine's names and ports in it."""
        for name, port in (("valkey", 6379), ("api", 8000)):
            text = text.replace(f"//{name}:{port}", f"//127.0.0.1:{self.ports[name]}")
        return text

    def environment(self, service: str, replica: int = 0) -> dict[str, str]:
        """All that a container of this service would see."""
        own = service != "valkey"
        names = (image_environment() if own else {}) | self.services[service].get("environment", {})
        found = {name: self._here(value) for name, value in names.items()}
        for volume in self.services[service].get("volumes", ()):
            source, path = volume.split(":")[:2]
            place = self.folder / "volumes" / source
            place.mkdir(parents=True, exist_ok=True)
            found = {name: str(place) if value == path else value for name, value in found.items()}
        if "PERENNIAL_DATA_DIR" in found:
            found["PERENNIAL_DATA_DIR"] = str(self.folder / "data")
        if "PERENNIAL_HOST" in found:
            found |= {"PERENNIAL_HOST": "127.0.0.1", "PERENNIAL_PORT": str(self.ports["api"])}
        if "PERENNIAL_WORKER_METRICS_PORT" in found:
            name = f"metrics-{replica}"
            self.ports |= {} if name in self.ports else _free_ports(name)
            found["PERENNIAL_WORKER_METRICS_PORT"] = str(self.ports[name])
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PERENNIAL_")}
        return kept | found | {"PATH": f"{self._bin}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}

    def command(self, service: str) -> list[str]:
        """What a container of this service runs."""
        given = self.services[service]
        ours = ["perennial"] if "build" in given else []
        return [*given.get("entrypoint", ours), *map(self._here, given["command"])]

    @contextmanager
    def run(self, service: str, replica: int = 0) -> Iterator[Container]:
        """One container of a service, healthy; ended at the end as compose ends it."""
        place = self.folder / f"{service}-{replica}"
        place.mkdir(exist_ok=True)
        cwd = place
        for volume in self.services[service].get("volumes", ()):
            if volume.endswith(":/data"):  # where Valkey's image works
                cwd = self.folder / "volumes" / volume.split(":")[0]
                cwd.mkdir(parents=True, exist_ok=True)
        environment = self.environment(service, replica)
        with (place / "log").open("a") as log:
            popen = subprocess.Popen(
                self.command(service), env=environment, cwd=cwd, stdout=log, stderr=log, start_new_session=True
            )
        container = Container(popen, self.services[service], environment, place / "log")
        try:
            yield container
        finally:
            if popen.poll() is None:
                popen.kill()
                popen.wait()


class Container:
    """One process, and what its service says of it."""

    def __init__(
        self, popen: subprocess.Popen[bytes], service: Mapping[str, Any], environment: Mapping[str, str], log: Path
    ) -> None:
        self.popen = popen
        self.environment = environment
        self.log = log
        self._service = service

    def healthy(self) -> bool:
        """Its health check, run as it stands."""
        check = self._service.get("healthcheck", {"test": image_check(), "timeout": "5s"})
        kind, *command = check["test"]
        assert kind == "CMD"
        ran = subprocess.run(
            command, env=self.environment, capture_output=True, timeout=seconds(check["timeout"]), check=False
        )
        return ran.returncode == 0

    def until_healthy(self, patience_s: float) -> None:
        """Returns once it is."""
        wait_for(lambda: self.popen.poll() is not None or self.healthy(), patience_s)
        assert self.popen.poll() is None, self.log.read_text()

    def stop(self) -> int:
        """SIGTERM; its exit code. Fails where it takes longer than it is given."""
        self.popen.send_signal(signal.SIGTERM)
        return self.popen.wait(seconds(self._service["stop_grace_period"]))


@contextmanager
def composed(running: Sequence[tuple[Composed, str, int]], patience_s: float) -> Iterator[list[Container]]:
    """These (service, replica) started in order, each once those before it are healthy."""
    with ExitStack() as stack:
        found = []
        for one, service, replica in running:
            container = stack.enter_context(one.run(service, replica))
            container.until_healthy(patience_s)
            found.append(container)
        yield found


def seconds(text: str) -> float:
    """A duration of compose's, of one unit."""
    return float(text[:-1]) * UNITS[text[-1]]


def _free_ports(*names: str) -> dict[str, int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in names]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return {name: int(one.getsockname()[1]) for name, one in zip(names, sockets, strict=True)}


def _cli() -> str:
    found = shutil.which("valkey-cli") or shutil.which("redis-cli")
    if found is None:
        pytest.fail("neither valkey-cli nor redis-cli is there: apt-get install redis-tools")
    return found
