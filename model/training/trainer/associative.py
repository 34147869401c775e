"""Multi-query associative recall from nothing: can this family keep pairs beyond its window at all?

A text is n pairs (key, value) in a row, noise of so many windows, and then every key again, in another order, with its
value: what is judged is the value after a key. Keys, values and noise are tokens of their own kinds, a third of the
vocabulary each, so that nothing but the pairs tells the value: chance is 1/n among the values shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from model.state import State, as_rows
from model.training.draws import draws
from model.training.trainer import checkpoint
from model.training.trainer.families import trainable
from model.training.trainer.optimise import Group
from model.training.trainer.settings import Associative, TrainingError
from model.training.trainer.task import Figures, all_of, device_of, products_in


@dataclass(frozen=True, slots=True)
class Pairs:
    """One text. judged: places whose next token is a value that is asked for."""

    tokens: tuple[int, ...]
    judged: tuple[int, ...]


def draw_pairs(purpose: tuple[object, ...], vocab_size: int, count: int, noise: int) -> Pairs:
    """A text of `count` pairs with `noise` tokens between the last of them and the first query."""
    rng = draws(*purpose)
    third = vocab_size // 3
    keys = rng.sample(range(third), count)
    values = [third + rng.randrange(third) for _ in keys]
    told = [token for pair in zip(keys, values, strict=True) for token in pair]
    between = [2 * third + rng.randrange(vocab_size - 2 * third) for _ in range(noise)]
    asked: list[int] = []
    judged = []
    for i in rng.sample(range(count), count):
        judged.append(len(told) + len(between) + len(asked))
        asked += [keys[i], values[i]]
    return Pairs((*told, *between, *asked), tuple(judged))


class AssociativeTask:
    """Implements `task.Task`."""

    def __init__(self, settings: Associative) -> None:
        """Raises `TrainingError`, `WeightsError`."""
        s = self.settings = settings
        vocab = int(s.model.get("vocab_size", 192))
        if s.pairs[1] > vocab // 3:
            raise TrainingError(f"pairs: {s.pairs[1]} keys need a vocab_size of at least {3 * s.pairs[1]}")
        self.config = {"dtype": "float32", **s.model, "vocab_size": vocab}
        self.device = device_of(s.device)
        self.model = trainable(self.config, s.seed)
        self.model.to(self.device)
        self._window = int(self.config.get("sliding_window_size") or self.config.get("chunk_size") or 0)
        if not self._window:
            raise TrainingError("model: name sliding_window_size or chunk_size; distances are counted in it")

    @property
    def groups(self) -> Sequence[Group]:
        """All of them."""
        return all_of(self.model)

    def loss(self, step: int, micro: int) -> tuple[Tensor, Figures, int]:
        """See `Task.loss`."""
        s = self.settings
        rng = draws(s.seed, step, micro, "shape")
        count = rng.randint(*s.pairs)
        noise = int(rng.uniform(*s.distance) * self._window)
        texts = [draw_pairs((s.seed, step, micro, b), self.model.vocab_size, count, noise) for b in range(s.rows)]
        with products_in(s.dtype, self.device):
            loss, right = self._judge(texts)
        return loss, {"accuracy": right}, sum(len(text.tokens) for text in texts)

    def _judge(self, texts: Sequence[Pairs]) -> tuple[Tensor, float]:
        """The loss on the values asked for, and the share that is the likeliest token."""
        tokens, lengths = (t.to(self.device) for t in as_rows([text.tokens for text in texts]))
        state = State.zeros(self.model.spec, len(texts), self.device)
        logits, _ = self.model.unroll(tokens, lengths, state, checkpoint=self.settings.checkpoint)
        rows = torch.tensor([b for b, text in enumerate(texts) for _ in text.judged], device=self.device)
        places = torch.tensor([t for text in texts for t in text.judged], device=self.device)
        found, wanted = logits[rows, places].float(), tokens[rows, places + 1]
        return cross_entropy(found, wanted), float((found.argmax(-1) == wanted).float().mean())

    @torch.no_grad()
    def evaluate(self) -> Figures:
        """Texts never trained on, of the most pairs, at the distances of training and at ten times the farthest."""
        s = self.settings
        figures: Figures = {}
        for name, windows in (("", s.distance[1]), ("_far", 10 * s.distance[1])):
            noise = int(windows * self._window)
            texts = [
                draw_pairs(("held out", s.seed, name, b), self.model.vocab_size, s.pairs[1], noise)
                for b in range(s.judged)
            ]
            loss, right = self._judge(texts)
            figures |= {f"loss{name}": float(loss), f"accuracy{name}": right}
        return figures

    def carried(self) -> dict[str, Tensor]:
        """Nothing: every text is whole."""
        return {}

    def resume(self, carried: Mapping[str, Tensor]) -> None:
        """See `Task.resume`."""

    def export(self, folder: Path, card: Mapping[str, Any]) -> None:
        """Weights and configuration; there is no text, so no tokeniser."""
        checkpoint.write_model(folder, self.config, checkpoint.tensors_of(self.model), None, card)
