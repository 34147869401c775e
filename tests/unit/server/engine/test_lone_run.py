"""Whatever happens around it, a request's output is that of its lone run: tokens, log probabilities, state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from model.sampling import SamplingParams
from server.engine.request import Admitted, Finish, Request

Make = Callable[..., Any]
TOKENS = st.integers(0, 36)
SAMPLING = st.builds(
    SamplingParams,
    temperature=st.sampled_from([0.0, 0.7, 2.0]),
    top_k=st.sampled_from([0, 5]),
    top_p=st.sampled_from([1.0, 0.8]),
    repetition_penalty=st.sampled_from([1.0, 1.4]),
    frequency_penalty=st.sampled_from([0.0, 1.0]),
    seed=st.integers(0, 3),
    logprobs=st.none() | st.just(1),
)


@dataclass(frozen=True)
class Visitor:
    """A request, the tick it comes in, and what happens to it how many ticks later."""

    at: int
    tokens: tuple[int, ...]
    sampling: SamplingParams
    max_tokens: int
    stop_ids: frozenset[int]
    group: str
    cancel: int | None
    park: tuple[int, int] | None
    keep: bool


VISITORS = st.lists(
    st.builds(
        Visitor,
        at=st.integers(0, 15),
        tokens=st.lists(TOKENS, min_size=1, max_size=30).map(tuple),
        sampling=SAMPLING,
        max_tokens=st.integers(0, 12),
        stop_ids=st.frozensets(TOKENS, max_size=2),
        group=st.sampled_from("ab"),
        cancel=st.none() | st.integers(0, 12),
        park=st.none() | st.tuples(st.integers(0, 8), st.integers(1, 8)),
        keep=st.booleans(),
    ),
    min_size=1,
    max_size=7,
)


@settings(max_examples=60)
@given(
    visitors=VISITORS, slots=st.integers(1, 4), chunk=st.integers(1, 9), more=st.integers(0, 9), most=st.integers(0, 9)
)
def test_every_request_equals_its_lone_run(
    desk: Make, alone: Make, toy: Any, visitors: list[Visitor], slots: int, chunk: int, more: int, most: int
) -> None:
    d = desk(slots=slots, chunk=chunk, beside=1 + more, alone=1 + more + most)
    requests, states = {}, {}
    parked: set[str] = set()
    tick = 0
    while tick < 40 or len(d.finished) < len(visitors):
        assert tick < 2000, "a request was forgotten"
        cancelled: set[str] = set()
        for number, visitor in enumerate(visitors):
            name = f"v{number}"
            if visitor.at == tick:
                requests[name] = d.submit(
                    name,
                    visitor.tokens,
                    sampling=visitor.sampling,
                    max_tokens=visitor.max_tokens,
                    stop_ids=visitor.stop_ids,
                    group=visitor.group,
                    penalised=visitor.tokens,
                )
            if visitor.cancel is not None and visitor.at + visitor.cancel == tick:
                d.engine.cancel(name)
                cancelled.add(name)
            if visitor.park and visitor.at + visitor.park[0] == tick:
                d.engine.park(name)
                parked.add(name)
            if visitor.park and visitor.at + sum(visitor.park) == tick:
                d.engine.resume(name)
                parked.discard(name)
        streaming = {n: len(t) for n, t in d.tokens.items() if t and n not in d.finished and n not in parked}
        over = set(d.finished)
        d.engine.tick()
        for name, count in streaming.items():
            assert len(d.tokens[name]) == count + (name not in cancelled), "a running stream missed a tick"
        for name in cancelled:
            assert name in d.finished, "a cancel takes one tick"
        for name in set(d.finished) - over:
            if d.finished[name].held:
                if visitors[int(name[1:])].keep:
                    d.engine.keep(name, f"key {name}")
                    states[name] = d.engine.copy(f"key {name}")
                else:
                    d.engine.drop(name)
        tick += 1
    d.engine.tick()  # hears the last commands

    for number, visitor in enumerate(visitors):
        name = f"v{number}"
        end, request = d.finished[name], requests[name]
        expected, state = alone(toy, request)
        tokens = [s.token for s in expected]
        assert d.tokens[name] == list(end.generated)
        if end.reason is Finish.cancelled:
            assert visitor.cancel is not None
            assert list(end.generated) == tokens[: len(end.generated)]
            assert end.held == bool(end.generated)
        else:
            assert list(end.generated) == tokens
            assert end.held
            assert end.reason is (Finish.eos if tokens and tokens[-1] in visitor.stop_ids else Finish.length)
            if visitor.keep and visitor.max_tokens:
                assert states[name].result(timeout=0).equal(state)
        assert d.positions[name] == [len(visitor.tokens) + i for i in range(len(end.generated))]
        if end.timings.admitted_s is not None:
            assert sum(isinstance(o, Admitted) and o.id == name for o in d.said) == 1
    stats = d.engine.stats()
    assert (stats.waiting, stats.decoding, stats.reading, stats.parked) == (0, 0, 0, 0)
    assert stats.sampled_tokens == sum(len(t) for t in d.tokens.values())


@settings(max_examples=40)
@given(turns=st.lists(st.lists(TOKENS, min_size=1, max_size=12), min_size=2, max_size=5), data=st.data())
def test_a_session_may_lose_its_slot_at_any_turn(
    desk: Make, alone: Make, toy: Any, turns: list[list[int]], data: st.DataObject
) -> None:
    """Warm, evicted and brought back, or read anew from the log: the conversation is the same."""
    d = desk(slots=2, chunk=4, beside=4, alone=8)
    log: list[int] = []
    state = None
    for turn, words in enumerate(turns):
        fields: dict[str, Any] = {"max_tokens": 4, "sampling": SamplingParams(temperature=1, seed=turn)}
        how = data.draw(st.sampled_from(["warm", "evicted", "log"])) if turn else "new"
        tokens = [*log[-1:], *words]
        _, state = alone(toy, Request("lone", "s", tuple(tokens), fields["sampling"], fields["max_tokens"]), state)
        key = f"k{turn - 1}"
        if how == "warm":
            fields["warm"] = key
        elif how == "evicted":
            for other in ("x", "y"):
                d.submit(f"{other}{turn}", [1, 2], max_tokens=1)
            d.run()
            fields["state"] = d.evicted[key].state
            for other in ("x", "y"):
                d.engine.drop(f"{other}{turn}")
        elif how == "log":
            d.engine.forget(key)
            tokens = log + words
        d.submit(f"t{turn}", tokens, **fields)
        d.run()
        d.engine.keep(f"t{turn}", f"k{turn}")
        assert d.read(f"k{turn}").equal(state), how
        log += [*words, *d.tokens[f"t{turn}"]]
