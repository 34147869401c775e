"""Part (c): perplexity by position, from the first thousand tokens to the millionth.

Positions fall into buckets that double: 0 to 1,024, to 2,048, to 4,096 and so on. `advance` gives the logits after the
last of the tokens it reads, so text that is judged is read a token at a time, and slowly; in each bucket a sample is
judged, `STRETCHES` stretches evenly spread, and what lies between is read in chunks. The same places of the same texts
are judged for every subject, so differences between subjects are of the subjects.

Memory: one text's state, whatever the position.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice, pairwise

import torch
from torch import Tensor

from model.state import State, as_rows
from model.training.draws import draws
from model.training.filler import passage
from model.training.reading import Tick, judge
from model.training.stream import Done, Record
from model.training.subject import Bench, Subject, batches

FIRST = 1024  # positions of the first bucket
STRETCHES = 8  # in each bucket


def buckets(positions: int) -> list[tuple[int, int]]:
    """From and to (exclusive) of each, up to a position."""
    edges = [0]
    while edges[-1] < positions:
        edges.append(min(positions, max(FIRST, 2 * edges[-1])))
    return list(pairwise(edges))


def stretches(start: int, stop: int, judged: int) -> list[tuple[int, int]]:
    """From and to of each stretch of one bucket, `judged` tokens in all, or the bucket."""
    if judged >= stop - start:
        return [(start, stop)]
    n = min(STRETCHES, judged)
    return [(at := start + i * (stop - start) // n, at + judged // n) for i in range(n)]


class Reader:
    """Texts of one subject, read side by side, a token or a chunk at a time."""

    def __init__(self, subject: Subject, state: State, texts: list[Iterator[int]], bench: Bench, tick: Tick) -> None:
        self._model, self._state, self._texts, self._chunk, self._tick = subject.model, state, texts, bench.chunk, tick
        self._logits: Tensor | None = None
        self.position = 0

    def _next(self, tokens: int) -> Tensor | None:
        pieces = [list(islice(text, tokens)) for text in self._texts]
        return as_rows(pieces)[0] if all(len(piece) == tokens for piece in pieces) else None

    def _advance(self, tokens: Tensor) -> None:
        lengths, device = torch.full((tokens.shape[0],), tokens.shape[1]), self._state.device
        logits, _ = self._model.advance(tokens.to(device), lengths.to(device), self._state)
        self._logits = logits.cpu()
        self.position += tokens.shape[1]
        self._tick(tokens.numel())

    def skip_to(self, position: int) -> bool:
        """Read on without judging; False where a text ends before."""
        while self.position < position:
            if (tokens := self._next(min(self._chunk, position - self.position))) is None:
                return False
            self._advance(tokens)
        return True

    def judge_to(self, position: int) -> Iterator[Tensor]:
        """Read on a token at a time: −ln p (B,) of each, in nats; ends early where a text does. The very first token
        is expected by nothing, and not judged."""
        while self.position < position and (tokens := self._next(1)) is not None:
            if self._logits is not None:
                yield judge(self._logits, tokens[:, 0])[1]
            self._advance(tokens)


@dataclass(frozen=True, slots=True)
class Perplexity:
    """Up to so many positions of some texts; judged: tokens of each bucket."""

    positions: int
    judged: int
    texts: tuple[int, ...]

    @property
    def title(self) -> str:
        """For the progress bar."""
        return "perplexity"

    def key(self, bench: Bench, condition: str, bucket: tuple[int, int], text: int) -> Record:
        """What a record is of."""
        return {
            "part": "perplexity",
            "condition": condition,
            "corpus": bench.corpus.name if bench.corpus else "made",
            "window": bench.window,
            "from": bucket[0],
            "to": bucket[1],
            "judged": self.judged,
            "seed": bench.seed,
            "text": text,
        }

    def within(self, positions: int) -> Perplexity:
        """The same up to the last bucket that ends within so many positions; none of it where not even the first."""
        return replace(self, positions=max((end for _, end in buckets(self.positions) if end <= positions), default=0))

    def _missing(self, bench: Bench, condition: str, done: Done) -> list[int]:
        ends = buckets(self.positions)
        return [i for i in self.texts if any(self.key(bench, condition, bucket, i) not in done for bucket in ends)]

    def cost(self, conditions: Iterable[str], bench: Bench, done: Done) -> int:
        """Tokens that `measure` will read."""
        return len(self._missing(bench, next(iter(conditions)), done)) * self.positions

    def measure(self, subject: Subject, bench: Bench, done: Done, tick: Tick) -> Iterator[list[Record]]:
        """Records of several texts, bucket by bucket, under the subject's first condition. A text that is at its end
        is not measured further."""
        condition = next(iter(subject.conditions))
        left = self._missing(bench, condition, done)
        if not left:
            return
        state, _ = subject.states(bench, min(len(left), bench.rows), 1)
        for numbers in batches(left, state.rows):
            rows = state.slice(0, len(numbers))
            rows.clear()
            texts = [passage(bench.tokenizer, bench.corpus, draws(bench.seed, i, "text")) for i in numbers]
            reader = Reader(subject, rows, texts, bench, tick)
            for bucket in buckets(self.positions):
                if all(self.key(bench, condition, bucket, number) in done for number in numbers):
                    reader.skip_to(bucket[1])
                    continue
                costs = []
                for start, stop in stretches(*bucket, self.judged):
                    if not reader.skip_to(start):
                        break
                    costs += list(reader.judge_to(stop))
                if not reader.skip_to(bucket[1]) or not costs:
                    break
                yield [
                    self.key(bench, condition, bucket, number) | _sums(torch.stack(costs)[:, row])
                    for row, number in enumerate(numbers)
                ]


def _sums(nll: Tensor) -> Record:
    return {"tokens": len(nll), "nll": float(nll.sum()), "squares": float(nll.square().sum())}


def perplexity(nll: float, tokens: float) -> float:
    """exp of the mean."""
    return math.exp(nll / tokens)
