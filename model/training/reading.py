"""Reading text into states through `advance`, as the server does, and judging what the model then expects.

Rows are texts that are read side by side, in chunks; a question is put to a copy of a text's state, so that the text
can be read on as if nothing had been asked. Nothing grows with the length of a text: of the logits only those
after a chunk are ever made, and only those that are judged are looked at.

Teacher forcing: a token is judged by what is expected after the tokens before it, whatever was expected of those. All
of an answer's tokens are then right exactly where greedy decoding would have said the answer.

It knows nothing of needles, files or reports.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from model.memory import Kind, Operation, Scope, operate
from model.state import Model, State, as_rows
from model.svd_clean import Cut
from model.training.needles import Question

# What is done to a copy of a state before a question: nothing, its memory emptied, its memory cleaned.
Treatment = None | Scope | Cut
Tick = Callable[[int], object]  # told how many tokens were read


@dataclass(frozen=True, slots=True)
class Answered:
    """How the scored tokens of one answer came out.

    hits: those that were the likeliest; among: the likeliest of those that could be meant (`Question.among`); nll:
    −Σ ln p, in nats.
    """

    tokens: int
    hits: int
    among: int
    nll: float

    @property
    def exact(self) -> bool:
        """Whether greedy decoding says the answer."""
        return self.hits == self.tokens


def judge(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """logits (B, V), targets (B,) int64 → whether each is the likeliest (B,) bool, and −ln p of it (B,) float64."""
    wanted = logits.gather(1, targets.unsqueeze(1)).squeeze(1)
    return logits.argmax(dim=1) == targets, (logits.double().logsumexp(dim=1) - wanted.double())


def rows_for(model: Model, wanted: int, state_bytes: int) -> int:
    """How many states of this model fit in so many bytes, at least one and no more than wanted."""
    return max(1, min(wanted, state_bytes // model.spec.nbytes))


def read(model: Model, state: State, texts: Sequence[Iterable[int]], chunk: int, tick: Tick) -> None:
    """Read one text into each row, in place, `chunk` tokens at a time; texts may end at different places."""
    left: list[Iterator[int]] = [iter(text) for text in texts]
    while any(pieces := [list(islice(text, chunk)) for text in left]):
        tokens, lengths = as_rows(pieces, state.device)
        model.advance(tokens, lengths, state)
        tick(int(lengths.sum()))


def treat(model: Model, state: State, treatment: Treatment) -> None:
    """Do to the memory of a state of one row what a treatment says, in place."""
    if isinstance(treatment, Scope):
        operate(model.memory, state, Operation(Kind.RESET, treatment))
    elif isinstance(treatment, Cut):
        operate(model.memory, state, Operation(Kind.CLEAN, cut=treatment))


def ask(
    model: Model,
    state: State,
    questions: Sequence[Sequence[Question]],
    treatment: Treatment,
    scratch: State,
    tick: Tick,
) -> list[list[Answered]]:
    """Put every question to its row as it stands, each to a copy of its own. state (B rows) is left as it is.

    questions: of each row. scratch: states to be used up, at least one; as many questions are read side by side.
    """
    places = [(b, i) for b, asked in enumerate(questions) for i in range(len(asked))]
    answered: dict[tuple[int, int], Answered] = {}
    treated = State.zeros(model.spec, 1, state.device)
    ready = -1
    for first in range(0, len(places), scratch.rows):
        some = places[first : first + scratch.rows]
        copies = scratch.slice(0, len(some))
        for row, (b, _) in enumerate(some):
            if b != ready:
                treated.copy_(state.slice(b, b + 1))
                treat(model, treated, treatment)
                ready = b
            copies.slice(row, row + 1).copy_(treated)
        together = [questions[b][i] for b, i in some]
        answered |= dict(zip(some, _answer(model, copies, together, tick), strict=True))
    return [[answered[b, i] for i in range(len(asked))] for b, asked in enumerate(questions)]


def _answer(model: Model, state: State, questions: Sequence[Question], tick: Tick) -> list[Answered]:
    """One question in each row, its answer a token at a time."""
    tokens, lengths = as_rows([question.prompt for question in questions], state.device)
    logits, _ = model.advance(tokens, lengths, state)
    tick(int(lengths.sum()))
    counts, hits, among = ([0] * len(questions) for _ in range(3))
    nll = [0.0] * len(questions)
    longest = max(len(question.answer) for question in questions)
    for t in range(longest):
        now = [question.answer[t : t + 1] for question in questions]
        right, cost = judge(logits.cpu(), torch.tensor([one[0] if one else 0 for one in now]))
        for row, question in enumerate(questions):
            if now[row] and question.scored[t]:
                counts[row] += 1
                hits[row] += int(right[row])
                nll[row] += float(cost[row])
                among[row] += _first_among(logits[row], question) == question.answer[t]
        if t + 1 < longest:
            tokens, lengths = as_rows(now, state.device)
            logits, _ = model.advance(tokens, lengths, state)  # a row whose answer is at its end reads nothing
            tick(int(lengths.sum()))
    return [Answered(n, h, a, c) for n, h, a, c in zip(counts, hits, among, nll, strict=True)]


def _first_among(logits: Tensor, question: Question) -> int:
    """The likeliest of the tokens that could be meant; logits (V,)."""
    if not question.among:
        return int(logits.argmax())
    return question.among[int(logits[list(question.among)].argmax())]
