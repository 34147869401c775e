"""Mamba-2: layers of state space duality, and the language model on them (Dao and Gu 2024, arXiv 2405.21060).

Each layer, with H heads of width P (d = H·P), G groups and a state of N × P per head (sect. 7.1, the parallel block):

    z, xBC, dt = W_in RMSNorm(h)                    widths d, d + 2·G·N, H
    x, B, C    = silu(conv(xBC))
    y          = ssd(x, dt, B, C)                   (`model.ssd`)
    h          ← h + W_out RMSNormGated(y, z)       over each of the G groups

Invariants: everything a session needs is in its leaves (`conv.{i}`, `ssm.{i}`; `writes` counts); the module never
changes after it is built; the residual stream h is float32. Arithmetic is the `Ops` it was given, chosen once at load.

`Mixer` is the part of a layer between its norm and the residual stream, of use to other architectures; `Mamba2` is the
language model. Names of weights are `transformers`'. It knows nothing of text.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from model.kernels import Linear, Ops
from model.mamba2_config import Config, Sizes
from model.mamba_memory import StateSpaceMemory
from model.ssd import Dual
from model.state import State
from model.weights import Tensors, Weight, vector

__all__ = ["Config", "Mamba2", "Mixer", "Sizes", "load_mixer"]


@dataclass(frozen=True, slots=True)
class Mixer:
    """One layer's weights between its norm and the residual stream.

    taps (K, d + 2·G·N): the convolution's. in_bias, conv_bias, out_bias: None where there are none. norm (d,).
    """

    sizes: Sizes
    project_in: Linear
    in_bias: Tensor | None
    taps: Tensor
    conv_bias: Tensor | None
    fixed: Dual
    norm: Tensor
    project_out: Linear
    out_bias: Tensor | None

    def read(self, ops: Ops, x: Tensor, conv: Tensor, ssm: Tensor, lengths: Tensor) -> Tensor:
        """What is to be added to the residual stream, (B·T, E), of its normalised x (B·T, E); writes the leaves.

        conv (B, K−1, d + 2·G·N), ssm (B, H, N, P), rows of a state; lengths (B,).
        """
        c = self.sizes
        d, H, GN = c.inner, c.num_heads, c.n_groups * c.state_size
        z, xBC, dt = _biased(self.project_in(x), self.in_bias).split((d, d + 2 * GN, H), dim=1)
        xBC = ops.causal_conv(xBC, self.taps, self.conv_bias, state=conv, lengths=lengths)
        u, B, C = xBC.split((d, GN, GN), dim=1)
        y = ops.ssd(u, dt, B, C, self.fixed, state=ssm, lengths=lengths)  # (B·T, d)
        y = ops.gated_norm(y, z, self.norm, c.layer_norm_epsilon, c.n_groups, c.norm_first)
        return _biased(self.project_out(y), self.out_bias)


def load_mixer(sizes: Sizes, tensors: Tensors, prefix: str, ops: Ops) -> Mixer:
    """prefix: of the weights' names, e.g. "backbone.layers.0.mixer". Raises `WeightsError` naming what does not fit."""
    c = sizes
    E, d, H, K, width = c.hidden_size, c.inner, c.num_heads, c.conv_kernel, c.conv_width

    def weight(name: str, *shape: int) -> Weight:
        return tensors.expect(f"{prefix}.{name}", shape)

    def floats(name: str, *shape: int) -> Tensor:
        return vector(weight(name, *shape))

    return Mixer(
        sizes=c,
        project_in=ops.linear([weight("in_proj.weight", d + width + H, E)]),
        in_bias=floats("in_proj.bias", d + width + H) if c.use_bias else None,
        taps=floats("conv1d.weight", width, 1, K).view(width, K).T.contiguous(),
        conv_bias=floats("conv1d.bias", width) if c.use_conv_bias else None,
        fixed=Dual(-torch.exp(floats("A_log", H)), floats("D", H), floats("dt_bias", H), c.time_step_limit),
        norm=floats("norm.weight", d),
        project_out=ops.linear([weight("out_proj.weight", E, d)]),
        out_bias=floats("out_proj.bias", E) if c.use_bias else None,
    )


class Mamba2:
    """A loaded model; see the module's docstring. Implements `model.state.Model`."""

    def __init__(self, config: Config, tensors: Tensors, ops: Ops) -> None:
        self.config = config
        self.ops = ops
        self.device = ops.device
        self.spec = config.state_spec()
        self.vocab_size = config.vocab_size
        E = config.hidden_size
        embedding = tensors.expect("backbone.embeddings.weight", (config.vocab_size, E))
        self._embed = ops.embedding(embedding)
        head = embedding if config.tie_word_embeddings else tensors.expect("lm_head.weight", (config.vocab_size, E))
        self._head = ops.linear([head])
        names = [f"backbone.layers.{i}" for i in range(config.num_hidden_layers)]
        self._norms = [vector(tensors.expect(f"{name}.norm.weight", (E,))) for name in names]
        self._norms.append(vector(tensors.expect("backbone.norm_f.weight", (E,))))
        self._mixers = [load_mixer(config, tensors, f"{name}.mixer", ops) for name in names]

    @property
    def memory(self) -> StateSpaceMemory:
        """The layers' states, and what can be done to them."""
        return StateSpaceMemory(range(self.config.num_hidden_layers))

    @torch.inference_mode()
    def advance(self, tokens: Tensor, lengths: Tensor, state: State) -> tuple[Tensor, State]:
        """See `model.state.Model.advance`."""
        (B, T), ops, eps = tokens.shape, self.ops, self.config.layer_norm_epsilon
        if T == 0:
            return torch.zeros(B, self.vocab_size, device=tokens.device), state
        h = self._embed(tokens.reshape(-1))  # (B·T, E)
        delta: Tensor | None = None  # what the last layer has still to add to h
        for i, mixer in enumerate(self._mixers):
            x = ops.add_norm(h, delta, self._norms[i], eps)
            delta = mixer.read(ops, x, state[f"conv.{i}"], state[f"ssm.{i}"], lengths)
        x = ops.add_norm(h, delta, self._norms[-1], eps)
        last = torch.arange(B, device=lengths.device) * T + (lengths - 1).clamp(min=0)  # each row's last real token
        logits = self._head(x[last])
        state["position"].add_(lengths)
        state["writes"].add_(lengths[:, None])
        state["pending"].masked_fill_(lengths > 0, 0)
        return logits, state


def _biased(x: Tensor, bias: Tensor | None) -> Tensor:
    return x if bias is None else x.add_(bias)
