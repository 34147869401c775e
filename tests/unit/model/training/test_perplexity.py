"""Perplexity by position, on a tiny model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from model.state import State, as_rows
from model.tokenizer import load_tokenizer
from model.training.corpus import open_corpus
from model.training.draws import draws
from model.training.filler import passage
from model.training.perplexity import Perplexity, stretches
from model.training.subject import Bench, Subject
from support.checkpoint import TINY
from support.serving import tiny_tokenizer
from support.tiny import Senri, make_ops, senri_tensors


@pytest.fixture(scope="module")
def subject() -> Subject:
    """A tiny model that knows bytes."""
    return Subject(Senri(TINY, senri_tensors(TINY, gates=True), make_ops("cpu-f32")), {"memory": None})


def bench(folder: Path, corpus: str) -> Bench:
    return Bench(load_tokenizer(tiny_tokenizer(folder / "tokens"), None), open_corpus(corpus), 16, 0, 128, 4, 1 << 28)


def test_it_is_the_mean_over_the_tokens_judged(subject: Subject, tmp_path: Path) -> None:
    """Against the same text, a token at a time and all of it."""
    here = bench(tmp_path, "made")
    ((record,),) = Perplexity(60, 24, (3,)).measure(subject, here, (), lambda _: None)
    tokens = passage(here.tokenizer, None, draws(0, 3, "text"))
    text = [next(tokens) for _ in range(60)]
    state, cost, last = State.zeros(subject.model.spec, 1), [0.0], None
    for token in text:
        if last is not None:
            cost.append(-float(torch.log_softmax(last[0].double(), 0)[token]))
        last, _ = subject.model.advance(*as_rows([[token]]), state)
    places = [p for start, stop in stretches(0, 60, 24) for p in range(start, stop) if p > 0]
    assert record["tokens"] == len(places) == 23  # nothing expects the first token
    assert record["nll"] == pytest.approx(sum(cost[p] for p in places), rel=1e-4)
    assert record["squares"] == pytest.approx(sum(cost[p] ** 2 for p in places), rel=1e-4)


def test_a_longer_run_judges_only_what_is_new(subject: Subject, tmp_path: Path) -> None:
    here, read = bench(tmp_path, "made"), []
    (first,), (second,) = Perplexity(1200, 8, (0,)).measure(subject, here, (), lambda _: None)
    done = [{name: value for name, value in first.items() if name not in ("tokens", "nll", "squares")}]
    ((again,),) = Perplexity(1200, 8, (0,)).measure(subject, here, done, read.append)
    assert (again["from"], again["to"]) == (1024, 1200)
    assert again["nll"] == pytest.approx(second["nll"], rel=1e-3)
    assert read.count(1) == 8
    assert sum(read) == 1200


def test_a_text_that_ends_is_measured_as_far_as_it_goes(subject: Subject, tmp_path: Path) -> None:
    file = tmp_path / "short.txt"
    file.write_text("It is short. " * 158)
    records = list(Perplexity(8192, 4, (0,)).measure(subject, bench(tmp_path, str(file)), (), lambda _: None))
    assert [record["to"] for (record,) in records] == [1024]
