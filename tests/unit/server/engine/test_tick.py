"""What a tick does to one request or a few: ends, states, tiers, cancels, parking, draining."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from model.sampling import SamplingParams
from model.state import State
from server.engine.request import Admitted, Cold, Evicted, Finish, Tier, Token
from support.desk import Desk, Toy

Make = Callable[..., Any]
SEEDED = SamplingParams(temperature=1.3, seed=7)


class StopAt:
    """A watch that matches at its n-th token."""

    def __init__(self, n: int) -> None:
        self.left = n
        self.seen: list[int] = []

    def push(self, token: int) -> bool:
        self.seen.append(token)
        self.left -= 1
        return self.left == 0


def ids(sampled: list[Any]) -> list[int]:
    return [s.token for s in sampled]


def test_a_request_from_first_to_last(desk: Make, alone: Make, toy: Any) -> None:
    d = desk()
    request = d.submit("r", range(10), max_tokens=6, sampling=SamplingParams(temperature=1, seed=3, logprobs=2))
    d.run()
    expected, state = alone(toy, request)
    assert d.said[0] == Admitted("r", Tier.new)
    assert [t for t in d.said if isinstance(t, Token)] == [
        Token("r", 10 + i, s.token, s.logprob, s.top) for i, s in enumerate(expected)
    ]
    assert all(len(s.top) == 2 for s in expected)
    end = d.finished["r"]
    assert (end.reason, end.held, end.error, end.read) == (Finish.length, True, None, 10)
    assert list(end.generated) == ids(expected)
    d.engine.keep("r", "k")
    assert d.read("k").equal(state), "everything read but the last token, which is pending"
    assert int(state["pending"]) == 1 + end.generated[-1]


def test_an_end_token_ends_the_generation_and_is_part_of_it(desk: Make, alone: Make, toy: Any) -> None:
    d = desk()
    free = d.submit("free", [5, 6], max_tokens=12, sampling=SEEDED)
    d.run()
    end = d.tokens["free"][4]
    watch = StopAt(99)
    d.submit("r", free.tokens, max_tokens=12, sampling=SEEDED, stop_ids=frozenset({end}), watch=watch)
    d.run()
    first = d.tokens["free"].index(end)
    assert d.tokens["r"] == d.tokens["free"][: first + 1]
    assert d.finished["r"].reason is Finish.eos
    assert watch.seen == d.tokens["r"][:-1], "an end token is no text"


def test_a_watch_stops_the_generation(desk: Make) -> None:
    d = desk()
    d.submit("r", [1, 2, 3], max_tokens=9, watch=StopAt(4))
    d.run()
    assert d.finished["r"].reason is Finish.stop
    assert len(d.tokens["r"]) == 4
    assert d.finished["r"].held
    d.engine.drop("r")
    d.run()
    assert d.engine.stats().free == 4


def test_turn_after_turn_on_a_warm_row_equals_one_undisturbed_run(desk: Make, alone: Make, toy: Any) -> None:
    d = desk()
    state = None
    pending: tuple[int, ...] = ()
    for turn in range(4):
        said = (*pending, *range(turn, turn + 7))
        request = d.submit(f"t{turn}", said, warm=f"k{turn - 1}" if turn else None, sampling=SEEDED)
        d.run()
        expected, state = alone(toy, request, state)
        assert d.tokens[f"t{turn}"] == ids(expected)
        assert Admitted(f"t{turn}", Tier.slot if turn else Tier.new) in d.said
        d.engine.keep(f"t{turn}", f"k{turn}")
        assert d.read(f"k{turn}").equal(state)
        assert d.engine.stats().warm == 1, "the row was taken, not copied"
        pending = (d.tokens[f"t{turn}"][-1],)


def test_going_on_from_a_state_equals_going_on_warm(desk: Make, alone: Make, toy: Any) -> None:
    d = desk()
    first = d.submit("a", range(9))
    d.run()
    _, state = alone(toy, first)
    d.engine.drop("a")
    before = state.clone()
    second = d.submit("b", [d.tokens["a"][-1], 3, 4], state=state, sampling=SEEDED)
    d.run()
    assert Admitted("b", Tier.state) in d.said
    assert d.tokens["b"] == ids(alone(toy, second, state)[0])
    assert state.equal(before), "the state that was given is copied"


@pytest.mark.parametrize("emitted", range(7))
def test_forced_tokens_go_on_like_the_undisturbed_run(desk: Make, toy: Any, emitted: int) -> None:
    """A takeover after any token: nothing lost, nothing repeated, and the same row at the end."""
    # Three tokens far above the rest: which of them comes next is decided by how often each has been.
    penalties = SamplingParams(temperature=0, logit_bias={5: 9.0, 9: 9.0, 20: 9.0}, frequency_penalty=2)
    d = desk()
    fields = {"max_tokens": 6, "sampling": penalties, "penalised": (1, 2, 3)}
    d.submit("r", range(11), **fields)
    d.run()
    whole = d.tokens["r"]
    watch = StopAt(99)
    d.submit("again", range(11), forced=tuple(whole[:emitted]), watch=watch, **fields)
    d.run()
    assert d.tokens["again"] == whole[emitted:] == watch.seen
    assert d.positions["again"] == d.positions["r"][emitted:]
    assert d.finished["again"].generated == tuple(whole)
    assert d.finished["again"].reason is Finish.length
    d.engine.keep("r", "one")
    d.engine.keep("again", "two")
    assert d.read("two").equal(d.read("one"))


def test_forced_tokens_that_had_ended_the_generation_end_it_again(desk: Make) -> None:
    d = desk()
    d.submit("r", [1, 2], forced=(7, 8, 9), stop_ids=frozenset({9}), max_tokens=20)
    d.run()
    end = d.finished["r"]
    assert (end.reason, end.generated, end.held) == (Finish.eos, (7, 8, 9), True)
    assert d.tokens["r"] == []
    assert end.read == 4, "the last one stays pending"
    d.engine.keep("r", "k")
    assert int(d.read("k")["pending"]) == 1 + 9
    assert int(d.read("k")["position"]) == 4


def test_a_row_that_only_reads_in_the_decode_batch_takes_nobodys_token(desk: Make, alone: Make, toy: Any) -> None:
    """The first row reads its last token and wants none; the second's token comes from its own logits."""
    d = desk(slots=9)
    d.submit("reads", [3], max_tokens=0)
    streams = [d.submit(f"s{i}", [4 * i]) for i in range(8)]
    d.run()
    for stream in streams:
        assert d.tokens[stream.id] == ids(alone(toy, stream)[0])
    assert len({d.tokens[stream.id][0] for stream in streams}) > 2
    assert d.tokens["reads"] == []


def test_a_model_may_reuse_the_memory_of_its_logits(alone: Make, toy: Any) -> None:
    """As a captured graph does: what one call returned is gone with the next."""

    class Reusing(Toy):
        def __init__(self) -> None:
            super().__init__()
            self.out = torch.zeros(4, self.vocab_size)

        def advance(self, tokens: torch.Tensor, lengths: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
            logits, state = super().advance(tokens, lengths, state)
            return self.out[: len(logits)].copy_(logits), state

    d = Desk(Reusing(), slots=4, chunk=4, beside=16, alone=16)
    requests = [d.submit("s", [1], sampling=SEEDED)]
    d.engine.tick()
    requests += [d.submit(f"p{i}", range(i, i + 4), sampling=SEEDED) for i in range(3)]
    d.run()
    for request in requests:
        assert d.tokens[request.id] == ids(alone(toy, request)[0])


def test_max_tokens_0_reads_and_ends(desk: Make, alone: Make, toy: Any) -> None:
    d = desk()
    d.submit("r", range(9), max_tokens=0)
    d.run()
    assert (d.finished["r"].reason, d.finished["r"].generated, d.finished["r"].held) == (Finish.length, (), True)
    d.engine.keep("r", "k")
    state = d.read("k")
    assert (int(state["position"]), int(state["pending"])) == (9, 0)
    d.submit("on", [3], warm="k")
    whole = d.submit("whole", [*range(9), 3])
    d.run()
    assert d.tokens["on"] == d.tokens["whole"] == ids(alone(toy, whole)[0])


def test_tokens_must_begin_with_the_pending_one(desk: Make) -> None:
    d = desk()
    d.submit("a", [1, 2])
    d.run()
    d.engine.keep("a", "k")
    wrong = (d.tokens["a"][-1] + 1) % 37
    d.submit("b", [wrong, 1], warm="k")
    d.run()
    assert d.finished["b"].reason is Finish.error
    assert "pending" in d.finished["b"].error
    assert d.engine.stats().free == 4


def test_a_warm_row_that_is_gone_is_cold_and_says_so_after_its_eviction(desk: Make, alone: Make, toy: Any) -> None:
    d = desk(slots=1)
    first = d.submit("a", range(5))
    d.run()
    d.engine.keep("a", "k")
    d.submit("b", [3])
    d.run()
    d.engine.drop("b")
    d.submit("c", [d.tokens["a"][-1], 8], warm="k")
    d.run()
    evicted = d.evicted["k"]
    assert evicted.session == "session of a"
    assert evicted.state.equal(alone(toy, first)[1])
    assert d.said.index(evicted) < d.said.index(Admitted("b", Tier.new)) < d.said.index(Cold("c", "k"))
    again = d.submit("c", [d.tokens["a"][-1], 8], state=evicted.state)  # the id is free
    d.run()
    assert d.tokens["c"] == ids(alone(toy, again, evicted.state)[0])


def test_warm_rows_go_oldest_first_and_only_when_they_must(desk: Make) -> None:
    d = desk(slots=3)
    for name in "abc":
        d.submit(name, [1])
        d.run()
        d.engine.keep(name, f"key {name}")
    d.submit("again", [d.tokens["a"][-1]], warm="key a")  # used: now the youngest
    d.run()
    d.engine.keep("again", "key again")
    assert not d.evicted
    d.submit("d", [1])
    d.submit("e", [1])
    d.run()
    assert list(d.evicted) == ["key b", "key c"]


def test_a_warm_request_needs_no_slot(desk: Make) -> None:
    """A full pool with others waiting: the session that is warm goes on at once."""
    d = desk(slots=2)
    d.submit("a", [1])
    d.run()
    d.engine.keep("a", "k")
    d.submit("long", [1], max_tokens=50)
    d.engine.tick()
    d.submit("b", [d.tokens["a"][-1]], warm="k")
    d.submit("other", [1])
    d.engine.tick()
    assert d.tokens["b"]
    assert not d.tokens["other"]
    assert d.engine.stats().waiting == 1
    assert not d.evicted


def test_forget_frees_and_tells_nobody(desk: Make) -> None:
    d = desk()
    d.submit("a", [1])
    d.run()
    d.engine.keep("a", "k")
    d.engine.forget("k")
    d.engine.forget("never there")
    missing = d.engine.copy("k")
    d.run()
    assert d.engine.stats().free == 4
    assert not d.evicted
    with pytest.raises(KeyError):
        missing.result(timeout=0)


def test_a_copy_that_nobody_waits_for_is_not_made(desk: Make) -> None:
    d = desk()
    copied = d.engine.copy("k")
    assert copied.cancel()
    d.run()
    assert copied.cancelled()


def test_cancel_takes_one_tick_wherever_the_request_is(desk: Make) -> None:
    d = desk(slots=2, chunk=4, beside=4, alone=4)
    d.submit("stream", [1], max_tokens=100)
    d.engine.tick()
    d.submit("prompt", [1] * 50)
    d.submit("waits", [1])
    d.engine.tick()
    assert d.engine.stats().waiting == 1
    for name in ("stream", "prompt", "waits"):
        d.engine.cancel(name)
    published = len(d.ticks)
    streamed = len(d.tokens["stream"])
    assert not d.engine.tick()
    assert len(d.ticks) == published + 1
    assert all(d.finished[name].reason is Finish.cancelled for name in ("stream", "prompt", "waits"))
    assert len(d.tokens["stream"]) == streamed
    assert d.finished["stream"].held, "what was streamed can be committed"
    assert d.finished["stream"].generated == tuple(d.tokens["stream"])
    assert not d.finished["prompt"].held
    assert not d.finished["waits"].held
    assert d.finished["prompt"].read == 4
    assert d.finished["waits"].timings.admitted_s is None
    d.engine.cancel("stream")  # over: nothing more is said
    d.engine.cancel("unknown")
    d.run()
    assert len(d.ticks) == published + 1


def test_cancelled_while_a_takeover_catches_up(desk: Make) -> None:
    """The row has not read what was emitted: it is not held; once it has, all but the last, it is."""
    d = desk(chunk=4, beside=4, alone=4)
    d.submit("early", range(6), forced=(7, 8, 9), max_tokens=50)
    d.engine.tick()
    d.engine.cancel("early")
    d.submit("late", range(6), forced=(7, 8, 9), max_tokens=50)
    d.engine.tick()
    d.engine.tick()
    d.engine.cancel("late")
    d.run()
    assert (d.finished["early"].held, d.finished["early"].generated) == (False, (7, 8, 9))
    assert (d.finished["late"].held, d.finished["late"].generated) == (True, (7, 8, 9))
    d.engine.keep("late", "k")
    assert int(d.read("k")["pending"]) == 1 + 9
    assert int(d.read("k")["position"]) == 8


def test_keep_and_drop_of_what_is_not_held_do_nothing(desk: Make) -> None:
    d = desk()
    d.submit("r", [1], max_tokens=9)
    d.engine.tick()
    d.engine.keep("r", "k")
    d.engine.drop("r")
    d.engine.drop("unknown")
    d.run()
    assert len(d.tokens["r"]) == 9
    assert d.engine.stats().held == 1
    assert d.engine.stats().warm == 0


def test_a_parked_request_stands_still_and_then_goes_on_as_if_nothing_had_been(
    desk: Make, alone: Make, toy: Any
) -> None:
    d = desk()
    parked = d.submit("p", [1, 2], max_tokens=9, sampling=SEEDED)
    d.submit("o", [2], max_tokens=12)
    d.engine.tick()
    d.engine.park("p")
    for n in range(2, 6):
        d.engine.tick()
        assert (len(d.tokens["p"]), len(d.tokens["o"])) == (1, n)
    assert d.engine.stats().parked == 1
    d.engine.resume("p")
    d.run()
    assert d.tokens["p"] == ids(alone(toy, parked)[0])


def test_only_parked_requests_let_the_engine_sleep(desk: Make) -> None:
    d = desk()
    d.submit("p", [1], max_tokens=9)
    d.engine.tick()
    d.engine.park("p")
    assert not d.engine.tick()
    d.engine.cancel("p")
    d.engine.tick()
    assert d.finished["p"].reason is Finish.cancelled


def test_a_long_prompt_beside_streams_costs_them_no_token(desk: Make, alone: Make, toy: Any) -> None:
    d = desk(slots=4, chunk=4, beside=8, alone=16)
    streams = [d.submit(f"s{i}", [i], max_tokens=400, sampling=SEEDED) for i in range(3)]
    d.engine.tick()
    long = d.submit("long", [i % 37 for i in range(800)], max_tokens=2)
    toy.calls.clear()
    ticks = 0
    while not d.tokens["long"]:
        before = [len(d.tokens[s.id]) for s in streams]
        d.engine.tick()
        ticks += 1
        assert [len(d.tokens[s.id]) for s in streams] == [n + 1 for n in before]
    assert ticks == 800 // 8
    assert set(toy.calls) == {(3, 1), (1, 4)}, "decoding is one call, and every chunk its own"
    d.run()
    for request in (*streams, long):
        assert d.tokens[request.id] == ids(alone(toy, request)[0])


def test_a_short_prompt_does_not_wait_for_a_long_one(desk: Make) -> None:
    d = desk(chunk=4, beside=4, alone=4)
    d.submit("long", [1] * 400)
    for _ in range(10):
        d.engine.tick()
    d.submit("short", [1, 2, 3])
    d.engine.tick()
    assert d.tokens["short"]


def test_groups_take_turns_for_a_slot(desk: Make) -> None:
    d = desk(slots=1)
    for name in ("a1", "a2", "a3", "b1", "b2"):
        d.submit(name, [1], group=name[0], max_tokens=2)
    for _ in range(40):
        d.engine.tick()
        for name, end in d.finished.items():
            if end.held:
                d.engine.drop(name)
    order = [output.id for output in d.said if isinstance(output, Admitted)]
    assert order == ["a1", "b1", "a2", "b2", "a3"]


def test_drain_lets_run_what_runs_and_interrupts_the_rest(desk: Make) -> None:
    d = desk(slots=2)
    d.submit("quick", [1], max_tokens=3)
    d.submit("slow", [1], max_tokens=999)
    d.submit("waits", [1])
    d.engine.tick()
    done = d.engine.drain(5.0)
    d.engine.tick()
    assert d.finished["waits"].reason is Finish.interrupted
    for _ in range(5):
        d.engine.tick()
    assert d.finished["quick"].reason is Finish.length
    assert "slow" not in d.finished
    assert not done.done()
    d.clock.now += 5.0
    assert not d.engine.tick()
    assert d.finished["slow"].reason is Finish.interrupted
    assert d.finished["slow"].held
    assert done.done()
    d.engine.keep("slow", "k")  # committing and snapshots go on
    assert int(d.read("k")["pending"]) == 1 + d.tokens["slow"][-1]


def test_an_idle_engine_is_drained_at_once(desk: Make) -> None:
    d = desk()
    one, two = d.engine.drain(5.0), d.engine.drain(1.0)
    assert not d.engine.tick()
    assert one.done()
    assert two.done()


def test_stop_answers_everybody(desk: Make) -> None:
    d = desk(slots=1)
    d.submit("runs", [1], max_tokens=99)
    d.engine.tick()
    d.submit("waits", [1])
    copied = d.engine.copy("nothing")
    d.engine.stop()
    assert {name: end.reason for name, end in d.finished.items()} == dict.fromkeys(
        ["runs", "waits"], Finish.interrupted
    )
    assert copied.done()


def test_figures(desk: Make) -> None:
    d = desk(slots=4, chunk=4, beside=4, alone=4)
    assert d.engine.stats().free == 4
    d.submit("s", [1], max_tokens=30)
    d.submit("p", [1] * 40)
    d.submit("f", [2], max_tokens=1)
    d.engine.tick()
    stats = d.engine.stats()
    assert (stats.decoding, stats.reading, stats.held, stats.free, stats.waiting) == (1, 1, 1, 1, 0)
    assert (stats.ticks, stats.read_tokens, stats.sampled_tokens, stats.failures) == (1, 6, 2, 0)
    d.engine.keep("f", "k")
    d.engine.park("p")
    d.engine.tick()
    stats = d.engine.stats()
    assert (stats.decoding, stats.parked, stats.warm, stats.ticks) == (1, 1, 1, 2)


def test_timings_are_by_the_given_clock(desk: Make) -> None:
    d = desk(slots=1)
    d.submit("r", [1], max_tokens=2)
    d.clock.now += 2
    d.engine.tick()
    d.clock.now += 3
    d.run()
    timings = d.finished["r"].timings
    assert (timings.admitted_s, timings.first_token_s, timings.finished_s) == (2, 2, 5)


def test_a_slot_is_clean_for_the_next_one(desk: Make, alone: Make, toy: Any) -> None:
    d = desk(slots=1)
    d.submit("a", range(20))
    d.run()
    d.engine.drop("a")
    second = d.submit("b", [4])
    d.run()
    expected, state = alone(toy, second)
    assert d.tokens["b"] == ids(expected)
    d.engine.keep("b", "k")
    assert d.read("k").equal(state)


def test_nothing_said_means_no_publication(desk: Make) -> None:
    d = desk()
    assert not d.engine.tick()
    d.submit("p", [1] * 40, max_tokens=1)
    d.engine.tick()
    assert len(d.ticks) == 1
    d.engine.tick()
    assert len(d.ticks) == 1, "a tick that only read has nothing to say"


def test_evicted_comes_before_the_token_of_its_tick(desk: Make) -> None:
    d = desk(slots=1)
    d.submit("a", [1])
    d.run()
    d.engine.keep("a", "k")
    d.submit("b", [1], max_tokens=1)
    d.engine.tick()
    kinds = [type(output).__name__ for output in d.ticks[-1]]
    assert kinds == ["Evicted", "Admitted", "Token", "Finished"]
    assert isinstance(d.ticks[-1][0], Evicted)
    assert isinstance(d.ticks[-1][0].state, State)
