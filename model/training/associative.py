"""Part (b): multi-query associative recall (MQAR; Arora et al. 2023, arXiv 2312.04927), beyond the window.

Pairs of random tokens, key and value, then random noise of exactly so many tokens, then each key, alone: what must
follow is its value. Keys, values and noise are drawn from three parts of the vocabulary that share no token, so nothing
but the pairs says which value a key has. `among`: whether the right value is the likeliest of the values that were
shown (chance is one in as many); `exact`: of all tokens.

A deliberate difference from the paper: queries do not follow each other but are each put to a copy of the state, so
that every one of them stands at the same distance.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from model.tokenizer import Tokenizer
from model.training.draws import draws
from model.training.needles import LEAST, NeedleError, Question
from model.training.stream import Record
from model.training.subject import Bench

VOCABULARY = 6144  # tokens that keys, values and noise are drawn from, at most


def pools(tokenizer: Tokenizer) -> tuple[list[int], list[int], list[int]]:
    """Tokens for keys, for values and for noise: the same for every text, sharing none."""
    ids = [i for i in range(tokenizer.vocab_size) if tokenizer.is_valid(i) and i not in tokenizer.special_ids]
    some = draws("pools").sample(ids, min(VOCABULARY, len(ids)))
    return some[0::3], some[1::3], some[2::3]


class Pairs:
    """One text. Implements `stream.Told`."""

    def __init__(self, tokenizer: Tokenizer, pairs: int, seed: int, number: int) -> None:
        """Raises `NeedleError` for more pairs than there are tokens for."""
        keys, values, self._noise = pools(tokenizer)
        if not 1 <= pairs <= len(values):
            raise NeedleError(f"this vocabulary gives 1 to {len(values)} pairs, not {pairs}")
        rng = draws(seed, number, "pairs")
        told = list(zip(rng.sample(keys, pairs), rng.sample(values, pairs), strict=True))
        shown = tuple(value for _, value in told)
        self._rng = draws(seed, number, "noise")
        self.beginning = (*self.between(LEAST), *(token for pair in told for token in pair))
        self.questions = tuple(Question("pair", (key,), (value,), (True,), shown) for key, value in told)

    def between(self, tokens: int) -> Iterator[int]:
        """See `stream.Told`."""
        return islice(iter(lambda: self._rng.choice(self._noise), None), tokens)


@dataclass(frozen=True, slots=True)
class Associative:
    """So many pairs, at several distances. Implements `stream.Cell`."""

    pairs: int
    distances: tuple[int, ...]
    stories: tuple[int, ...]

    @property
    def title(self) -> str:
        """See `stream.Cell`."""
        return f"mqar, {self.pairs} pairs"

    def key(self, bench: Bench, condition: str, distance: int, story: int) -> Record:
        """See `stream.Cell`."""
        return {
            "part": "mqar",
            "condition": condition,
            "pairs": self.pairs,
            "window": bench.window,
            "distance": distance,
            "seed": bench.seed,
            "story": story,
        }

    def told(self, bench: Bench, number: int) -> Pairs:
        """One text. Raises `NeedleError`."""
        return Pairs(bench.tokenizer, self.pairs, bench.seed, number)

    def asked(self) -> int:
        """See `stream.Cell`."""
        return self.pairs
