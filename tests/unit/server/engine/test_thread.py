"""The real thread: requests from several threads, answers from one; sleep, drain, stop."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch

from model.sampling import SamplingParams
from model.state import as_rows
from server.engine.loop import Engine
from server.engine.request import EngineStoppedError, Finish, Finished, Output, Request, Token

Make = Callable[..., Any]
PATIENCE = 30


class Room:
    """An engine with its thread, and a condition to wait on for what it says."""

    def __init__(self, model: Any) -> None:
        self.heard = threading.Condition()
        self.tokens: dict[str, list[int]] = defaultdict(list)
        self.finished: dict[str, Finished] = {}
        self.speakers: set[str] = set()
        self.engine = Engine(model, 3, 4, 8, self._hear)
        self.engine.start()

    def _hear(self, outputs: Sequence[Output]) -> None:
        with self.heard:
            self.speakers.add(threading.current_thread().name)
            for output in outputs:
                if isinstance(output, Token):
                    self.tokens[output.id].append(output.token)
                elif isinstance(output, Finished):
                    self.finished[output.id] = output
            self.heard.notify_all()

    def wait(self, true: Callable[[], bool]) -> None:
        with self.heard:
            assert self.heard.wait_for(true, PATIENCE), "the engine did not say it"


@pytest.fixture
def room(toy: Any) -> Iterator[Room]:
    opened = Room(toy)
    yield opened
    opened.engine.stop()
    assert not opened.engine.alive


def request(name: str, n: int, max_tokens: int = 6) -> Request:
    return Request(name, "s", tuple(range(n)), SamplingParams(temperature=1, seed=n), max_tokens, group=name[0])


def test_requests_from_many_threads(room: Room, toy: Any, alone: Make) -> None:
    """Each thread has three turns; those that are over are dropped, so that everybody gets a slot."""
    requests = {f"{who}{turn}": request(f"{who}{turn}", 1 + turn * 7) for who in "abcde" for turn in range(3)}

    def visit(who: str) -> None:
        for turn in range(3):
            name = f"{who}{turn}"
            room.engine.submit(requests[name])
            room.wait(lambda name=name: name in room.finished)
            room.engine.drop(name)

    visitors = [threading.Thread(target=visit, args=(who,)) for who in "abcde"]
    for visitor in visitors:
        visitor.start()
    for visitor in visitors:
        visitor.join(PATIENCE)
    for name, asked in requests.items():
        assert room.tokens[name] == [s.token for s in alone(toy, asked)[0]]
    assert room.speakers == {"engine"}


def test_an_idle_engine_sleeps_and_wakes(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = 0
    plain = room.engine._ticker.tick

    def counted() -> bool:
        nonlocal ticks
        ticks += 1
        return plain()

    monkeypatch.setattr(room.engine._ticker, "tick", counted)
    room.engine.submit(request("a", 3, max_tokens=4))
    room.wait(lambda: "a" in room.finished)
    with pytest.raises(KeyError):
        room.engine.copy("nothing").result(PATIENCE)  # by now it sleeps, or is about to
    assert ticks <= 4 + 3, "a tick per token, one to fall asleep, one per command"


def test_cancel_stops_a_stream_that_would_not_end(room: Room) -> None:
    room.engine.submit(request("a", 3, max_tokens=10**9))
    room.wait(lambda: len(room.tokens["a"]) > 3)
    room.engine.cancel("a")
    room.wait(lambda: "a" in room.finished)
    assert room.finished["a"].reason is Finish.cancelled
    assert room.finished["a"].generated == tuple(room.tokens["a"])


def test_drain_then_keep_copy_and_stop(room: Room) -> None:
    room.engine.submit(request("a", 3, max_tokens=10**9))
    room.wait(lambda: len(room.tokens["a"]) > 3)
    room.engine.drain(0.05).result(PATIENCE)
    assert room.finished["a"].reason is Finish.interrupted
    room.engine.keep("a", "k")
    state = room.engine.copy("k").result(PATIENCE)
    assert int(state["pending"]) == 1 + room.tokens["a"][-1]
    assert int(state["position"]) == 3 + len(room.tokens["a"]) - 1
    assert room.engine.alive


def test_a_probe_reads_one_token_into_a_state_of_its_own(room: Room, toy: Any) -> None:
    room.engine.submit(request("a", 3, max_tokens=2))
    room.wait(lambda: "a" in room.finished)
    room.engine.keep("a", "k")
    state = room.engine.copy("k").result(PATIENCE)
    expected, _ = toy.advance(*as_rows([[5]]), state.clone())
    assert torch.equal(room.engine.probe(state, 5).result(PATIENCE), expected[0])
    assert int(room.engine.copy("k").result(PATIENCE)["position"]) == int(state["position"]) - 1


def test_stop_interrupts_and_refuses(room: Room) -> None:
    room.engine.submit(request("a", 3, max_tokens=10**9))
    room.wait(lambda: len(room.tokens["a"]) > 3)
    room.engine.stop()
    assert room.finished["a"].reason is Finish.interrupted
    assert not room.engine.alive
    with pytest.raises(EngineStoppedError):
        room.engine.submit(request("b", 1))
