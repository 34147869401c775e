"""The engine on Senri (tiny, random, past its window many times): equal to the plain loop, row by row.

Bit for bit in batch-invariant mode; within a stated tolerance in the default mode, where other kernels run at other
row counts.
"""

from __future__ import annotations

import random

import pytest

from model.generate import generate
from model.infini import Rule
from model.sampling import SamplingParams
from model.senri import Senri
from model.state import State
from server.engine.request import Admitted, Finish, Tier, Token
from support.desk import Desk, lone
from support.tiny import make_ops, senri

V = 97
# Absolute, on log probabilities; logits have a standard deviation of about 8. Window keys in bfloat16 have 8 bits.
TOLERANCE = {"cpu-f32": 1e-3, "cpu-bf16": 0.25}


@pytest.fixture(scope="module")
def invariant() -> Senri:
    """The batch-invariant mode, which promises equal bits for the base model: memories are written, gates closed."""
    return senri(make_ops("invariant"), rule=Rule.LINEAR, gates=False)


def words(n: int, seed: int) -> list[int]:
    return random.Random(seed).choices(range(V), k=n)


def test_8_sessions_at_once_each_equal_to_its_lone_run(invariant: Senri) -> None:
    """They come one after another, with prompts from 1 token to 5 windows, so that every batch size occurs and chunks
    are read beside all of them; 40 tokens each pass the window and several segments."""
    d = Desk(invariant, slots=8, chunk=16, beside=32, alone=64)
    requests = []
    sizes = set()
    for i, n in enumerate((80, 1, 23, 7, 64, 16, 41, 3)):
        sampling = SamplingParams(temperature=0.0 if i % 4 == 0 else 1.0, seed=i, logprobs=1, repetition_penalty=1.1)
        asked = words(n, i)
        requests.append(d.submit(f"r{i}", asked, sampling=sampling, max_tokens=40, penalised=tuple(asked)))
        for _ in range(3):
            d.engine.tick()
            sizes.add(d.engine.stats().decoding)
    d.run()
    assert 8 in sizes
    for request in requests:
        expected, state = lone(invariant, request)
        said = [t for t in d.said if isinstance(t, Token) and t.id == request.id]
        assert [t.token for t in said] == [s.token for s in expected]
        assert [t.logprob for t in said] == [s.logprob for s in expected], "the same bits"
        d.engine.keep(request.id, f"k {request.id}")
        assert d.read(f"k {request.id}").equal(state)


@pytest.mark.parametrize("ops", list(TOLERANCE))
def test_in_the_default_mode_log_probabilities_agree_within_tolerance(ops: str) -> None:
    """As far as the tokens agree; and where they part, the two best were within the tolerance of each other."""
    model = senri(make_ops(ops), rule=Rule.DELTA, gates=True)
    d = Desk(model, slots=6, chunk=16, beside=32, alone=64)
    sampling = SamplingParams(temperature=0, logprobs=5)
    requests = [d.submit(f"r{i}", words(5 + 9 * i, i), sampling=sampling, max_tokens=16) for i in range(6)]
    d.run()
    compared = 0
    for request in requests:
        said = [t for t in d.said if isinstance(t, Token) and t.id == request.id]
        for token, expected in zip(said, lone(model, request)[0], strict=True):
            if token.token != expected.token:
                assert expected.top[0][1] - dict(expected.top)[token.token] < 2 * TOLERANCE[ops]
                break
            assert token.logprob == pytest.approx(expected.logprob, abs=TOLERANCE[ops])
            compared += 1
    assert compared >= 6 * 16 // 2, "too few were alike to say anything"


def test_turns_on_a_warm_row_beside_others_equal_one_undisturbed_conversation(invariant: Senri) -> None:
    d = Desk(invariant, slots=3, chunk=8, beside=8, alone=16)
    d.submit("noise", words(9, 99), max_tokens=10**6, sampling=SamplingParams(seed=5))
    state = State.zeros(invariant.spec, 1)
    pending: list[int] = []
    for turn in range(6):
        sampling = SamplingParams(temperature=1, seed=turn)
        asked = pending + words(3 + 5 * turn, turn)
        expected = [s.token for s in generate(invariant, asked, sampling, 9, state=state, chunk=5)]
        d.submit(f"t{turn}", asked, sampling=sampling, max_tokens=9, warm=f"k{turn - 1}" if turn else None)
        while f"t{turn}" not in d.finished:
            d.engine.tick()
        assert d.tokens[f"t{turn}"] == expected
        d.engine.keep(f"t{turn}", f"k{turn}")
        assert d.read(f"k{turn}").equal(state)
        pending = expected[-1:]
    assert [o.tier for o in d.said if isinstance(o, Admitted) and o.id != "noise"] == [Tier.new] + [Tier.slot] * 5


@pytest.mark.parametrize("emitted", [0, 1, 17, 39])
def test_a_takeover_in_mid_stream_goes_on_with_the_same_tokens(invariant: Senri, emitted: int) -> None:
    d = Desk(invariant, slots=2, chunk=16, beside=16, alone=32)
    fields = {"max_tokens": 40, "sampling": SamplingParams(temperature=1, seed=3, frequency_penalty=0.5)}
    d.submit("first", words(50, 1), **fields)
    d.run()
    whole = d.tokens["first"]
    d.submit("second", words(50, 1), forced=tuple(whole[:emitted]), **fields)
    d.run()
    assert d.tokens["second"] == whole[emitted:]
    assert d.finished["second"].generated == tuple(whole)


def test_a_prompt_of_4000_tokens_costs_running_streams_no_token(invariant: Senri) -> None:
    d = Desk(invariant, slots=4, chunk=256, beside=256, alone=1024)
    for i in range(3):
        d.submit(f"s{i}", [i], max_tokens=10**6, sampling=SamplingParams(seed=i))
    d.engine.tick()
    d.submit("long", words(4_000, 0), max_tokens=1)
    ticks = 0
    while "long" not in d.finished:
        d.engine.tick()
        ticks += 1
        assert [len(d.tokens[f"s{i}"]) for i in range(3)] == [ticks + 1] * 3
    assert ticks == 16
    assert d.finished["long"].read == 4_000
    for i in range(3):
        d.engine.cancel(f"s{i}")
    d.run()
    assert all(d.finished[f"s{i}"].reason is Finish.cancelled for i in range(3))
