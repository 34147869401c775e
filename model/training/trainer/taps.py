"""What a model's layers are given to read, and what it ends with: the base model as far as it is needed, and no memory.

A memory whose reads are added at the end changes nothing of what the layers compute. So what it would read can be
recorded once, and the memory trained on the recording alone. It computes as the server does, with the same kernels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from model.kernels import Ops, Stack
from model.senri import leaves, load_block, window
from model.senri_config import Config
from model.state import State
from model.weights import Tensors, vector


@dataclass(frozen=True, slots=True)
class Part:
    """Layers that follow each other. norm (E,): of the input of the first, where that is wanted."""

    layers: range
    norm: Tensor | None
    stack: Stack


class Taps:
    """A Senri without its memories, tapped before some layers."""

    def __init__(self, config: Config, tensors: Tensors, ops: Ops, layers: Sequence[int]) -> None:
        """Raises `WeightsError` naming the weight that is missing or does not fit."""
        self.config, self.ops, self.layers = config, ops, tuple(sorted(layers))
        self.spec = config.state_spec(ops.state_dtype)
        self._embed = ops.embedding(
            tensors.expect("model.embed_tokens.weight", (config.vocab_size, config.hidden_size))
        )
        self._norm = vector(tensors.expect("model.norm.weight", (config.hidden_size,)))
        self._window = window(config)
        self._parts = []
        ends = [0, *(i for i in self.layers if i), config.num_hidden_layers]
        for first, end in pairwise(ends):
            blocks = [load_block(config, i, tensors, ops) for i in range(first, end)]
            norm = blocks[0].input_norm if first in self.layers else None
            self._parts.append(Part(range(first, end), norm, ops.stack(blocks, config.rms_norm_eps)))

    @torch.inference_mode()
    def read(
        self, tokens: Tensor, lengths: Tensor, state: State, *, whole: bool
    ) -> tuple[dict[int, Tensor], Tensor | None]:
        """Read tokens (B, T), right-padded to lengths (B,), into the state's windows, in place.

        Returns of each tapped layer its normalised input (B, T, E), and the residual stream before the last norm
        (B, T, E), float32; None without `whole`, which saves the layers after the last tap.
        """
        (B, T), ops, eps = tokens.shape, self.ops, self.config.rms_norm_eps
        rope = ops.rope(self._window, state["position"] - state["origin"], lengths, T)
        h, delta = self._embed(tokens.reshape(-1)), None  # (B·T, E)
        seen: dict[int, Tensor] = {}
        for part in self._parts:
            if part.norm is not None:
                seen[part.layers.start] = ops.add_norm(h, delta, part.norm, eps).view(B, T, -1)
                delta = None
            if not whole and len(seen) == len(self.layers):
                break
            delta = part.stack(h, delta, rope, [leaves(state, i) for i in part.layers])
        else:
            ops.add_norm(h, delta, self._norm, eps)
        state["position"].add_(lengths)
        return seen, h.view(B, T, -1) if whole else None
