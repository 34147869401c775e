"""The hybrid for training: all logits of a text and the state after it, differentiable through the state.

    HybridUnroll(config).unroll(tokens (B, T), lengths (B,), state) -> (logits (B, T, V), state)

The state has the leaves of `Hybrid.advance`'s with float32 window keys and values, so that a state of one goes on in
the other. A text is read in pieces: within one, Mamba-2's states go from block to block (`model.ssd`) and the windows
lie on a timeline (`model.unroll.window`). Gradients flow through states, convolution tails and windows from piece to
piece and from call to call. With `checkpoint` a piece keeps only what it hands on and is computed again in the backward
pass.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from torch.utils.checkpoint import checkpoint as recomputed

from model.hybrid_config import MAMBA, Config
from model.hybrid_layers import RANGE, Carried, Layer, States
from model.state import State, StateSpec
from model.unroll import fill, window
from model.unroll.layers import RMSNorm, accurate
from model.weights import Tensors

__all__ = ["Body", "HybridUnroll"]

PIECE = 128  # tokens of a row read at a time


class Body(nn.Module):
    """Everything but the head: parameters `embed_tokens`, `layers`, `norm`."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config, kind) for kind in config.layer_types)
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(
        self, tokens: Tensor, lengths: Tensor, state: State, *, checkpoint: bool = False
    ) -> tuple[Tensor, State]:
        """Hidden states (B, T, E) after the final norm, 0 at padding, and the state after them."""
        T = tokens.shape[1]
        start = state["position"] - state.get("origin", 0)  # the window counts from where it was last emptied
        counts, where = lengths.tolist(), start.tolist()
        carried = self._begin(state, start)
        hidden = [self.embed_tokens(tokens[:, :0])]
        for a in range(0, T, PIECE):
            b = min(a + PIECE, T)
            real = torch.arange(a, b, device=tokens.device) < lengths.unsqueeze(1)
            piece = None
            if "origin" in state:
                piece = window.make_piece(self.config, start, lengths, where, a, b - a, hidden[0].dtype)
            read = self._read
            if checkpoint:
                read = partial(recomputed, read, use_reentrant=False, preserve_rng_state=False)
            h, carried = read(tokens[:, a:b], carried, real, piece)
            hidden.append(h)
            # What the next piece sees, and where the rings of rows that have ended begin.
            needed = min(b + 1, *counts)
            carried = tuple(one if isinstance(one, States) else window.forget(one, needed) for one in carried)
        return torch.cat(hidden, dim=1), self._end(state, start, carried, lengths)

    def _read(
        self, tokens: Tensor, carried: tuple[Carried, ...], real: Tensor, piece: window.Piece | None
    ) -> tuple[Tensor, tuple[Carried, ...]]:
        """One piece through all layers: hidden (B, P, E), and what the layers carry on."""
        h = self.embed_tokens(tokens)  # (B, P, E)
        after = []
        for layer, before in zip(self.layers, carried, strict=True):
            h, one = layer(h, before, real, piece)
            after.append(one)
        return self.norm(h).masked_fill(~real.unsqueeze(-1), 0.0), tuple(after)

    def _begin(self, state: State, start: Tensor) -> tuple[Carried, ...]:
        """What the layers carry, from the leaves of a state whose window began `start` tokens ago."""
        weight = self.embed_tokens.weight
        dtype, exact = window.products_dtype(weight), torch.promote_types(weight.dtype, torch.float32)
        carried: list[Carried] = []
        for i, kind in enumerate(self.config.layer_types):
            if kind == MAMBA:
                carried.append(States(state[f"conv.{i}"].to(exact), state[f"ssm.{i}"].to(exact)))
                continue
            k, v = state[f"k.{i}"], state[f"v.{i}"]
            none = k[:, :, :0]  # (B, G, 0, D): no sinks, no leaves
            sinks = state.get(f"sink_k.{i}", none), state.get(f"sink_v.{i}", none)
            carried.append(window.begin(k, v, *sinks, start, dtype))
        return tuple(carried)

    def _end(self, state: State, start: Tensor, carried: tuple[Carried, ...], lengths: Tensor) -> State:
        """The state after a text."""
        read = lengths > 0
        new = {"position": state["position"] + lengths, "pending": torch.where(read, 0, state["pending"])}
        if "writes" in state:
            new["writes"] = state["writes"] + lengths.unsqueeze(1)
        for i, one in enumerate(carried):
            if isinstance(one, States):
                new |= {f"conv.{i}": one.conv, f"ssm.{i}": one.ssm}
                continue
            k, v, sink_k, sink_v = window.end(one, start, lengths, self.config.sliding_window_size)
            new |= {f"k.{i}": k, f"v.{i}": v}
            if self.config.num_sink_tokens:
                new |= {f"sink_k.{i}": sink_k, f"sink_v.{i}": sink_v}
        return state.followed_by(new, read)


class HybridUnroll(nn.Module):
    """The hybrid for training; see the module's docstring. Implements `model.state.Trainable`.

    Parameters are named as a checkpoint's tensors; `lm_head` is absent where it is the embedding.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.spec: StateSpec = config.state_spec(torch.float32)
        self.vocab_size = config.vocab_size
        self.model = Body(config)
        self.lm_head: nn.Linear | None = None
        if not config.tie_word_embeddings:
            self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=RANGE)

    @classmethod
    def load(cls, config: Config, tensors: Tensors) -> HybridUnroll:
        """With a checkpoint's weights, as float32. Raises `WeightsError` naming the tensor that does not fit."""
        model = cls(config)
        fill(model, tensors)
        return model

    def head(self, hidden: Tensor) -> Tensor:
        """Logits (…, V), float32 at least, of hidden states (…, E) that went through the final norm."""
        weight = self.model.embed_tokens.weight if self.lm_head is None else self.lm_head.weight
        return accurate(linear(hidden, weight))

    def hidden(
        self, tokens: Tensor, lengths: Tensor, state: State, *, checkpoint: bool = False
    ) -> tuple[Tensor, State]:
        """`unroll` up to the head: (B, T, E), 0 at padding, and the state after."""
        found: tuple[Tensor, State] = self.model(tokens, lengths, state, checkpoint=checkpoint)
        return found

    def unroll(
        self, tokens: Tensor, lengths: Tensor, state: State, *, checkpoint: bool = False
    ) -> tuple[Tensor, State]:
        """See `model.state.Trainable.unroll`. checkpoint: compute again in the backward pass instead of keeping."""
        hidden, after = self.hidden(tokens, lengths, state, checkpoint=checkpoint)
        return self.head(hidden), after
