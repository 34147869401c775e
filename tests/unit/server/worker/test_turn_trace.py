"""What a turn's fate becomes as spans."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from server.store.records import Begun, End, Fence, Generation, Session, Status, TurnRequest
from server.tracing import Kind, Span
from server.worker.trace import TurnTrace

CALLER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@dataclass
class Kept:
    """A span as it was told."""

    name: str
    parent: str | None
    began: float | None
    attributes: dict[str, Any]
    ended: float | None = None
    error: str | None = None
    notes: list[tuple[str, float | None]] = field(default_factory=list)

    @property
    def within(self) -> str | None:
        return f"within {self.name}"

    def note(self, event: str, at: float | None = None) -> None:
        self.notes.append((event, at))

    def end(
        self, at: float | None = None, *, name: str | None = None, error: str | None = None, **attributes: Any
    ) -> None:
        if self.ended is None:
            self.ended, self.error = at, error
            self.attributes |= attributes


class Recorder:
    """Tracing that keeps what it is told."""

    on = True

    def __init__(self) -> None:
        self.spans: list[Kept] = []

    def begin(
        self, name: str, kind: Kind, within: str | None = None, at: float | None = None, **attributes: Any
    ) -> Span:
        self.spans.append(Kept(name, within, at, attributes))
        return self.spans[-1]

    def close(self) -> None: ...

    def named(self) -> dict[str, Kept]:
        return {one.name: one for one in self.spans}


class Clock:
    """One second later each time it is asked."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


def begun(created: float = 99.0) -> Begun:
    request = TurnRequest((1, 2), 8, {"seed": 1}, trace=CALLER)
    generation = Generation(
        *("gen_1", "ses_1", "alice", Status.RUNNING, request, False, None),
        created=created,
        updated=created,
    )
    session = Session(
        *("ses_1", "alice", "tiny", "f", None, 0, End.RAW),
        created=1.0,
        updated=1.0,
        expires=2.0,
        running="gen_1",
        state_bytes=1,
        stored_bytes=1,
        turns=0,
        kept=0,
        stored=True,
    )
    return Begun(generation, request, session, Fence("1.n"), ())


def test_a_whole_turn() -> None:
    told = Recorder()
    trace = TurnTrace(told, begun(), "w1", Clock())
    trace.restored("slot", 3)
    trace.first_token()
    trace.committing()
    trace.ended("length", tokens=8, read=2)
    assert [(one.name, one.began, one.ended) for one in told.spans] == [
        ("queue", 99.0, 101.0),
        ("turn", 101.0, 105.0),
        ("restore", 101.0, 102.0),
        ("prefill", 102.0, 103.0),
        ("decode", 103.0, 104.0),
        ("commit", 104.0, 105.0),
    ]
    found = told.named()
    assert found["queue"].parent == found["turn"].parent == CALLER
    assert {found[name].parent for name in ("restore", "prefill", "decode", "commit")} == {"within turn"}
    assert found["turn"].notes == [("first token", 103.0)]
    assert found["turn"].attributes["worker"] == "w1"
    assert not any(one.error for one in told.spans)


def test_a_turn_that_breaks_ends_what_it_was_at() -> None:
    told = Recorder()
    trace = TurnTrace(told, begun(), "w1", Clock())
    trace.broken("corrupt_state")
    found = told.named()
    assert set(found) == {"queue", "turn", "restore"}
    assert found["restore"].error == found["turn"].error == "corrupt_state"
    assert found["queue"].error is None


def test_an_api_whose_clock_is_ahead_makes_no_negative_wait() -> None:
    told = Recorder()
    TurnTrace(told, begun(created=5000.0), "w1", Clock())
    assert told.named()["queue"].began == told.named()["queue"].ended == 101.0


def test_a_request_that_nobody_traced_begins_a_trace() -> None:
    told, one = Recorder(), begun()
    TurnTrace(told, replace(one, request=replace(one.request, trace=None)), "w1", Clock())
    assert told.named()["turn"].parent is None
