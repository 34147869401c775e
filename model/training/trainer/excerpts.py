"""Texts put together from recorded excerpts: facts among filler, questions at the end.

A text is a list of places in a recording (`recording.Recorded`): what the base model's layers were given there is what
the memory reads. It knows nothing of tokens or layers.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.training.trainer.recording import Recorded, Told

BEHIND = 0.7  # of the filler, all that may lie before the last facts
RIVALS = 0.5  # of the excerpts in a text, those that are easily taken for the first one's facts
LEAST = 32  # tokens of filler that are taken from one excerpt, at least


@dataclass(frozen=True, slots=True)
class Text:
    """places: where its tokens were recorded; answers: places within the text whose next token is of a value that is
    asked for; sizes: how many tokens each has; leads: the same of how the answers begin before it, one tuple for each
    that the model is to begin; filler: places within the text, of which the next is recorded behind it."""

    places: tuple[int, ...]
    answers: tuple[int, ...]
    sizes: tuple[int, ...]
    leads: tuple[tuple[int, ...], ...]
    filler: tuple[int, ...]


def compose(rng: random.Random, recorded: Recorded, length: int, stories: int, lag: int = 0) -> Text:
    """A text of about `length` tokens, with so many stories; longer where what they tell is longer. lag: the least
    filler before the first question."""
    some = [recorded.told[n] for n in _chosen(rng, recorded, min(stories, len(recorded.told)))]
    asked = [one for told in some for one in told.asked]
    rng.shuffle(asked)
    while len(asked) > 1 and sum(one.end - one.start for one in asked) > length // 2:
        asked.pop()
    used = sum(one.end - one.start for one in some) + sum(one.end - one.start for one in asked)
    spare = max(LEAST, length - used - lag)
    cuts = sorted(rng.randint(0, int(spare * BEHIND)) for _ in some)
    places: list[int] = []
    filler: list[int] = []
    for told, size in zip(_and_none(some), _steps(cuts, spare), strict=True):
        for start, end in _filler(rng, recorded, size if told is not None else size + lag):
            filler += range(len(places), len(places) + end - start - 1)
            places += range(start, end)
        if told is not None:
            places += range(told.start, told.end)
    answers: list[int] = []
    leads: list[tuple[int, ...]] = []
    for one in asked:
        first = len(places) + one.answer - one.start
        answers += range(first, first + one.size)
        leads += [tuple(range(first - one.lead, first))] if one.lead else []
        places += range(one.start, one.end)
    return Text(tuple(places), tuple(answers), tuple(one.size for one in asked), tuple(leads), tuple(filler))


def _chosen(rng: random.Random, recorded: Recorded, count: int) -> list[int]:
    """So many of the excerpts with facts; half of them such as are taken for the first one's."""
    chosen = [rng.randrange(len(recorded.told))]
    rivals = recorded.rivals[chosen[0]]
    while len(chosen) < count:
        near = rivals and rng.random() < RIVALS
        n = rng.choice(rivals) if near else rng.randrange(len(recorded.told))
        if n not in chosen:
            chosen.append(n)
        elif near:
            rivals = tuple(m for m in rivals if m not in chosen)
    rng.shuffle(chosen)
    return chosen


def _and_none(some: Sequence[Told]) -> list[Told | None]:
    return [*some, None]


def _steps(cuts: Sequence[int], end: int) -> list[int]:
    """How much filler there is before each cut, and after the last."""
    return [b - a for a, b in zip((0, *cuts), (*cuts, end), strict=True)]


def _filler(rng: random.Random, recorded: Recorded, size: int) -> list[tuple[int, int]]:
    """Pieces of recorded filler, of `size` tokens together."""
    pieces = []
    while size > 0:
        [(start, end)] = rng.choices(recorded.flows, cum_weights=recorded.reach)
        first = rng.randrange(start, max(start + 1, end - LEAST))
        last = min(first + size, end)
        pieces.append((first, last))
        size -= last - first
    return pieces


def side_by_side(texts: Sequence[Text]) -> tuple[Tensor, Tensor]:
    """places (B, T) int64, right-padded with a text's last, and lengths (B,) int64."""
    longest = max(len(text.places) for text in texts)
    rows = [[*text.places, *[text.places[-1]] * (longest - len(text.places))] for text in texts]
    return torch.tensor(rows), torch.tensor([len(text.places) for text in texts])
