"""A failure ends the requests it concerns, and nothing else; the slot it leaves is clean."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from model.sampling import SamplingParams
from model.state import State
from server.engine import slots as slots_module
from server.engine.loop import Engine
from server.engine.request import Finish, Output, Request, Token

Make = Callable[..., Any]


@pytest.fixture(autouse=True)
def _log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)


def ids(sampled: list[Any]) -> list[int]:
    return [s.token for s in sampled]


def test_a_row_of_nan_fails_alone(desk: Make, alone: Make, toy: Any) -> None:
    d = desk(slots=3)
    good = [d.submit(f"g{i}", range(i, 9), max_tokens=8) for i in range(2)]
    d.engine.tick()
    d.submit("bad", [1, toy.NAN, 2], max_tokens=8)
    d.run()
    end = d.finished["bad"]
    assert (end.reason, end.held, end.generated) == (Finish.error, False, ())
    assert "NaN" in end.error
    for request in good:
        assert d.tokens[request.id] == ids(alone(toy, request)[0])
    assert d.engine.stats().failures == 1
    after = d.submit("after", [4, 5])
    d.run()
    assert d.tokens["after"] == ids(alone(toy, after)[0]), "nothing of the NaN is left in the row"


def test_a_chunk_that_raises_fails_its_row_and_the_streams_go_on(desk: Make, alone: Make, toy: Any) -> None:
    d = desk(slots=3)
    stream = d.submit("stream", [1], max_tokens=20)
    d.engine.tick()
    d.submit("bad", [toy.BANG, *range(12)])
    toy.calls.clear()
    d.engine.tick()
    assert toy.calls == [(1, 1), (1, 4)], "its second chunk is not read any more"
    d.run()
    assert d.finished["bad"].reason is Finish.error
    assert d.finished["bad"].error == "RuntimeError: the model went bang"
    assert d.tokens["stream"] == ids(alone(toy, stream)[0])


def test_a_decode_call_that_raises_fails_its_rows_only(desk: Make, alone: Make, toy: Any) -> None:
    """Which row it was can't be told, and the others' states are half advanced: they fail too. Another call's don't."""
    d = desk(slots=4)
    d.submit("a", [1], max_tokens=20)
    d.submit("b", [2], max_tokens=20)
    d.engine.tick()
    d.submit("bad", [toy.BANG])
    prompt = d.submit("prompt", range(9))
    d.run()
    assert {name for name, end in d.finished.items() if end.reason is Finish.error} == {"a", "b", "bad"}
    assert d.tokens["prompt"] == ids(alone(toy, prompt)[0])
    requests = [d.submit(f"after{i}", [i]) for i in range(3)]
    d.run()
    for request in requests:
        assert d.tokens[request.id] == ids(alone(toy, request)[0])


def test_parameters_that_cannot_be_sampled_fail_their_row(desk: Make, alone: Make, toy: Any) -> None:
    d = desk()
    good = d.submit("good", [1, 2])
    d.submit("bad", [1, 2], sampling=SamplingParams(logit_bias={999: 1.0}))
    d.run()
    assert d.finished["bad"].reason is Finish.error
    assert "999" in d.finished["bad"].error
    assert d.tokens["good"] == ids(alone(toy, good)[0])


def test_a_watch_that_raises_fails_its_row(desk: Make, alone: Make, toy: Any) -> None:
    class Broken:
        def push(self, token: int) -> bool:
            raise LookupError("no such text")

    d = desk()
    good = d.submit("good", [1, 2])
    d.submit("bad", [1, 2], watch=Broken())
    d.run()
    assert d.finished["bad"].error == "LookupError: no such text"
    assert not d.finished["bad"].held
    assert d.tokens["good"] == ids(alone(toy, good)[0])


def test_a_mistake_of_our_own_answers_those_who_run_and_goes_on(
    desk: Make, alone: Make, toy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    d = desk(slots=2)
    d.submit("a", [1], max_tokens=9)
    d.engine.tick()
    state = State.zeros(toy.spec, 1)
    with monkeypatch.context() as patched:
        patched.setattr(slots_module.State, "copy_", lambda self, other: 1 // 0)
        d.submit("b", [1], state=state)
        d.engine.tick()
    for name in "ab":
        assert (d.finished[name].reason, d.finished[name].error) == (Finish.error, "internal error in the engine")
    after = d.submit("b", [1], state=state)
    d.finished.clear()
    d.run()
    assert d.tokens["b"] == ids(alone(toy, after)[0])


def test_a_consumer_that_raises_loses_what_it_was_given_and_no_more(toy: Any, alone: Make) -> None:
    said: list[Output] = []
    failures = [RuntimeError("the loop is closed")]

    def publish(outputs: Sequence[Output]) -> None:
        if failures:
            raise failures.pop()
        said.extend(outputs)

    engine = Engine(toy, 2, 4, 8, publish)
    request = Request("r", "s", (1, 2), SamplingParams(temperature=0), 5)
    engine.submit(request)
    while engine.tick():
        pass
    assert [o.token for o in said if isinstance(o, Token)] == ids(alone(toy, request)[0])[1:]
