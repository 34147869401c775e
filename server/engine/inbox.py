"""What other threads tell the engine: commands in, in order, never blocking either side.

Invariants: commands are taken in the order they were put; a request is refused once the inbox was closed, every other
command is taken until the engine stops. It knows nothing of what a command does.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Condition

from torch import Tensor

from model.state import State
from server.engine.request import EngineStoppedError, Request


@dataclass(frozen=True, slots=True, eq=False)
class Submit:
    """at: the clock when it was submitted."""

    request: Request
    at: float


@dataclass(frozen=True, slots=True)
class Cancel:
    """End that generation now."""

    id: str


@dataclass(frozen=True, slots=True)
class Keep:
    """The held row of that request becomes warm under `key`; `pending`: what it has still to read, if not its own."""

    id: str
    key: str
    pending: int | None


@dataclass(frozen=True, slots=True)
class Drop:
    """Free the held row of that request."""

    id: str


@dataclass(frozen=True, slots=True)
class Forget:
    """Free the warm row of that key."""

    key: str


@dataclass(frozen=True, slots=True, eq=False)
class Copy:
    """A CPU copy of the warm row of that key."""

    key: str
    result: Future[State]


@dataclass(frozen=True, slots=True, eq=False)
class Probe:
    """The logits after one more token, of a state that nobody else has."""

    state: State
    token: int
    result: Future[Tensor]


@dataclass(frozen=True, slots=True)
class Park:
    """Stop (parked) or go on (not parked) reading for that request."""

    id: str
    parked: bool


@dataclass(frozen=True, slots=True, eq=False)
class Drain:
    """Finish what runs, and interrupt what is left at `deadline`, by the clock."""

    deadline: float
    done: Future[None]


Command = Submit | Cancel | Keep | Drop | Forget | Copy | Probe | Park | Drain


class Inbox:
    """A thread-safe queue of commands that one thread sleeps on."""

    def __init__(self) -> None:
        self._ready = Condition()
        self._commands: deque[Command] = deque()
        self._live: set[str] = set()  # ids of requests that are not over
        self._closed = False
        self._stopped = False

    def submit(self, command: Submit) -> None:
        """Put a request. Raises `EngineStoppedError`, or `ValueError` where its id is live."""
        with self._ready:
            if self._closed:
                raise EngineStoppedError("the engine takes no more requests")
            if command.request.id in self._live:
                raise ValueError(f"request {command.request.id} is running already")
            self._live.add(command.request.id)
            self._commands.append(command)
            self._ready.notify()

    def put(self, command: Command) -> None:
        """Put any other command. Raises `EngineStoppedError` after `stop`."""
        with self._ready:
            if self._stopped:
                raise EngineStoppedError("the engine has stopped")
            self._closed = self._closed or isinstance(command, Drain)
            self._commands.append(command)
            self._ready.notify()

    def over(self, request_id: str) -> None:
        """That request's id may be used again."""
        with self._ready:
            self._live.discard(request_id)

    def take(self) -> Command | None:
        """The oldest command, or None."""
        with self._ready:
            return self._commands.popleft() if self._commands else None

    def wait(self, timeout: float | None) -> None:
        """Sleep until there is a command, the inbox has stopped, or `timeout` seconds have passed."""
        with self._ready:
            self._ready.wait_for(lambda: self._commands or self._stopped, timeout)

    @property
    def stopped(self) -> bool:
        """True after `stop`."""
        return self._stopped

    def stop(self) -> None:
        """Refuse every further command and wake the engine."""
        with self._ready:
            self._closed = self._stopped = True
            self._ready.notify()
