"""What a session's text should be: the plain loop over one sequence of tokens, in this process, from its beginning."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from model.generate import generate
from model.kernels import choose_ops
from model.registry import load_model
from model.sampling import SamplingParams


class Oracle:
    """The model of a checkpoint as a server in batch-invariant mode runs it."""

    def __init__(self, checkpoint: Path, sliding_window: int) -> None:
        ops = choose_ops("auto", batch_invariant=True)
        self._model = load_model(str(checkpoint), ops, sliding_window_size=sliding_window).model

    def next(self, tokens: Sequence[int], seed: int, count: int, temperature: float = 0.8) -> list[int]:
        """The `count` tokens that follow; no token ends the text."""
        params = SamplingParams(temperature=temperature, seed=seed, banned=frozenset({257}))
        return [drawn.token for drawn in generate(self._model, tokens, params, count)]
