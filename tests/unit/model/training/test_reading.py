"""Scoring, against hand-made logits and against a plain greedy run."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import pytest
import torch

from model.generate import generate
from model.memory import Scope
from model.sampling import SamplingParams
from model.state import State, as_rows
from model.svd_clean import Cut
from model.training.needles import Question
from model.training.perplexity import buckets, stretches
from model.training.reading import ask, judge, read, rows_for, treat
from support.tiny import make_ops, senri

TEXT = torch.randint(0, 97, (90,), generator=torch.Generator().manual_seed(5)).tolist()


def ignore(_: int) -> None:
    """A tick that nobody counts."""


class Scripted:
    """A model whose logits are the test's: after token t, `after[t]`."""

    def __init__(self, after: dict[int, list[float]]) -> None:
        self.after = after
        real = senri(make_ops("cpu-f32"))
        self.spec, self.memory, self.vocab_size, self.device = real.spec, real.memory, 3, real.device

    def advance(self, tokens: torch.Tensor, lengths: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        last = tokens.gather(1, (lengths - 1).clamp(min=0).unsqueeze(1)).squeeze(1)
        return torch.tensor([self.after[int(t)] for t in last]), state


def test_judge() -> None:
    logits = torch.tensor([[0.0, math.log(3.0), 0.0], [2.0, 1.0, 0.0]])
    hits, nll = judge(logits, torch.tensor([1, 1]))
    assert hits.tolist() == [True, False]
    assert nll.tolist() == pytest.approx([-math.log(3 / 5), math.log(math.e + 1 + 1 / math.e)], rel=1e-6)


def test_answers_are_scored_token_by_token_under_teacher_forcing() -> None:
    """After 0 comes 1, after 1 comes 2, after 2 comes 0, each twice as likely as the others."""
    two = math.log(2.0)
    model = Scripted({0: [0, two, 0], 1: [0, 0, two], 2: [two, 0, 0]})
    questions = [
        Question("right", (2, 0), (1, 2, 0), (True, True, True)),
        Question("wrong in the middle", (0,), (1, 0, 1), (True, True, True)),
        Question("space first", (0,), (2, 0), (False, True)),
        Question("among", (0,), (2,), (True,), among=(0, 2)),
    ]
    state = State.zeros(model.spec, 1)
    (answers,) = ask(model, state, [questions], None, State.zeros(model.spec, 3), ignore)
    assert [(a.tokens, a.hits, a.exact) for a in answers] == [(3, 3, True), (3, 2, False), (1, 1, True), (1, 0, False)]
    assert [a.nll for a in answers] == pytest.approx([3 * two, 2 * two + math.log(4), two, math.log(4)], rel=1e-6)
    assert answers[3].among == 0  # of 0 and 2, equally likely, the first is taken


def test_an_answer_is_exact_where_greedy_decoding_says_it() -> None:
    """Every row's state, lengths that differ, and more questions than there is scratch."""
    model = senri(make_ops("cpu-f32"))
    said = [
        [drawn.token for drawn in generate(model, TEXT[: n + 5], SamplingParams(temperature=0), 4)] for n in (40, 60)
    ]
    other = [[*tokens[:3], (tokens[3] + 1) % 97] for tokens in said]
    state = State.zeros(model.spec, 2)
    read(model, state, [TEXT[:40], TEXT[:60]], 16, ignore)
    before = state.clone()
    questions = [
        [Question("", tuple(TEXT[n : n + 5]), tuple(answer), (True,) * 4) for answer in (*said, *other)]
        for n in (40, 60)
    ]
    answers = ask(model, state, questions, None, State.zeros(model.spec, 3), ignore)
    assert [[a.exact for a in row] for row in answers] == [[True, False, False, False], [False, True, False, False]]
    assert answers[0][2].hits == answers[1][3].hits == 3
    assert state.equal(before)  # the text reads on as if nothing had been asked


def test_reading_is_advance_whatever_the_chunks() -> None:
    model, told = senri(make_ops("cpu-f32")), []
    state, other = State.zeros(model.spec, 2), State.zeros(model.spec, 2)
    read(model, state, [iter(TEXT), iter(TEXT[:77])], 64, told.append)
    for t in range(0, len(TEXT), 7):
        model.advance(*as_rows([TEXT[t : t + 7], TEXT[:77][t : t + 7]]), other)
    assert sum(told) == 167
    assert max(told) <= 128
    assert state["position"].tolist() == [90, 77]
    for name, leaf in state.items():
        torch.testing.assert_close(leaf, other[name], atol=1e-4, rtol=1e-4)


def test_a_text_is_taken_as_it_is_read_and_no_further() -> None:
    """However long it is, a chunk of each row is all that is ever held; `test_evaluate` measures the whole process."""
    taken: list[int] = []
    held: list[int] = []

    def endless() -> Iterator[int]:
        for _ in range(50_000):
            taken.append(1)
            yield 0

    class Watching(Scripted):
        def advance(self, tokens: torch.Tensor, lengths: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
            held.append(len(taken) - sum(passed))
            passed.append(int(lengths.sum()))
            return super().advance(tokens, lengths, state)

    passed: list[int] = []
    model = Watching({0: [0.0, 0.0, 0.0]})
    read(model, State.zeros(model.spec, 1), [endless()], 128, ignore)
    assert sum(passed) == 50_000
    assert max(held) == 128


def test_treatments() -> None:
    model = senri(make_ops("cpu-f32"))
    state = State.zeros(model.spec, 1)
    read(model, state, [TEXT], 64, ignore)
    untouched, emptied, cleaned = state.clone(), state.clone(), state.clone()
    treat(model, untouched, None)
    treat(model, emptied, Scope.MEMORY)
    treat(model, cleaned, Cut(1.0, None, 1))
    assert untouched.equal(state)
    for matrix, old in zip(model.memory.matrices(emptied), model.memory.matrices(state), strict=True):
        assert not matrix.M.any()
        assert old.M.any()
    for matrix, old in zip(model.memory.matrices(cleaned), model.memory.matrices(state), strict=True):
        before = torch.linalg.svdvals(old.M.double())
        after = torch.linalg.svdvals(matrix.M.double())
        torch.testing.assert_close(after[:-1], before[1:], atol=1e-4, rtol=1e-4)
    assert torch.equal(emptied["k.0"], state["k.0"])  # the window stays


def test_rows_fit_in_the_memory_given() -> None:
    model = senri(make_ops("cpu-f32"))
    assert [rows_for(model, 8, n * model.spec.nbytes) for n in (0, 1, 3, 100)] == [1, 1, 3, 8]


def test_buckets_double_and_stretches_lie_in_them() -> None:
    assert buckets(5000) == [(0, 1024), (1024, 2048), (2048, 4096), (4096, 5000)]
    assert buckets(1 << 20)[-1] == (1 << 19, 1 << 20)
    assert len(buckets(1 << 20)) == 11
    for start, stop in buckets(1 << 20):
        places = stretches(start, stop, 256)
        assert sum(b - a for a, b in places) == 256
        assert all(start <= a < b <= stop for a, b in places)
        assert all(b <= c for (_, b), (c, _) in itertools.pairwise(places))
    assert stretches(0, 100, 256) == [(0, 100)]
