"""Mamba: a stack of selective state spaces, and the language model on it (Gu and Dao 2023, arXiv 2312.00752).

Each layer, with x and z of width d = intermediate_size, Δ's rank R and a state of N numbers per channel:

    x, z = W_in RMSNorm(h)
    x    = silu(conv(x))
    δ, B, C = W_x x;   dt = W_dt δ
    y    = selective_scan(x, dt, B, C) · silu(z)          (`model.selective_scan`)
    h    ← h + W_out y

Invariants: everything a session needs is in its leaves (`conv.{i}`, `ssm.{i}`; `writes` counts); the module never
changes after it is built; the residual stream h is float32. Arithmetic is the `Ops` it was given, chosen once at load.

`MambaLayers` reads embeddings and is of use to other architectures; `Mamba` is the language model. Names of weights are
`transformers`' (`backbone.embeddings.weight`, `backbone.layers.0.mixer.in_proj.weight`, …). It knows nothing of text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from model.kernels import Linear, Ops
from model.mamba_config import Config, Sizes
from model.mamba_memory import StateSpaceMemory
from model.selective_scan import Selective
from model.state import State
from model.weights import Tensors, Weight, vector

__all__ = ["Config", "Mamba", "MambaLayers", "Sizes"]


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer's weights. taps (K, d): the convolution's; in_bias (2d,), out_bias (E,): None where there are none."""

    norm: Tensor
    project_in: Linear
    in_bias: Tensor | None
    taps: Tensor
    conv_bias: Tensor | None
    project_x: Linear
    project_dt: Linear
    fixed: Selective
    project_out: Linear
    out_bias: Tensor | None


class MambaLayers:
    """A stack of Mamba layers and the norm behind it, over embeddings."""

    def __init__(self, sizes: Sizes, tensors: Tensors, prefix: str, ops: Ops) -> None:
        """prefix: of the weights' names, e.g. "backbone": `{prefix}.layers.0.norm.weight`, `{prefix}.norm_f.weight`."""
        self.sizes = sizes
        self._ops = ops
        self._layers = [_load(sizes, tensors, f"{prefix}.layers.{i}", ops) for i in range(sizes.num_hidden_layers)]
        self._norm = vector(tensors.expect(f"{prefix}.norm_f.weight", (sizes.hidden_size,)))

    def advance(self, x: Tensor, lengths: Tensor, leaves: Mapping[str, Tensor]) -> Tensor:
        """Read embeddings x (B, T, E) float32, right-padded to `lengths` (B,), 0 to T; writes the leaves in place.

        leaves: `conv.{i}` (B, K−1, d) and `ssm.{i}` (B, N, d), see `Sizes.leaf_specs`, e.g. a `State`. Returns the last
        layer's output after its norm, (B, T, E); of padding unspecified. x is left as it is.
        """
        c, ops = self.sizes, self._ops
        d, N, R, eps = c.intermediate_size, c.state_size, c.time_step_rank, c.layer_norm_epsilon
        h = x.reshape(-1, c.hidden_size).clone()  # (B·T, E)
        delta: Tensor | None = None  # what the last layer has still to add to h
        for i, layer in enumerate(self._layers):
            xz = _biased(layer.project_in(ops.add_norm(h, delta, layer.norm, eps)), layer.in_bias)  # (B·T, 2d)
            u = ops.causal_conv(xz[:, :d], layer.taps, layer.conv_bias, state=leaves[f"conv.{i}"], lengths=lengths)
            low, B, C = layer.project_x(u).split((R, N, N), dim=1)
            dt = layer.project_dt(low.contiguous())  # (B·T, d)
            y = ops.selective_scan(
                u, dt, B, C, xz[:, d:], layer.fixed, state=leaves[f"ssm.{i}"], lengths=lengths
            )  # (B·T, d)
            delta = _biased(layer.project_out(y), layer.out_bias)
        return ops.add_norm(h, delta, self._norm, eps).view(x.shape)


class Mamba:
    """A loaded model; see the module's docstring. Implements `model.state.Model`."""

    def __init__(self, config: Config, tensors: Tensors, ops: Ops) -> None:
        self.config = config
        self.ops = ops
        self.device = ops.device
        self.spec = config.state_spec()
        self.vocab_size = config.vocab_size
        shape = (config.vocab_size, config.hidden_size)
        embedding = tensors.expect("backbone.embeddings.weight", shape)
        self._embed = ops.embedding(embedding)
        self._layers = MambaLayers(config, tensors, "backbone", ops)
        self._head = ops.linear([embedding if config.tie_word_embeddings else tensors.expect("lm_head.weight", shape)])

    @property
    def memory(self) -> StateSpaceMemory:
        """The layers' states, and what can be done to them."""
        return StateSpaceMemory(range(self.config.num_hidden_layers))

    @torch.inference_mode()
    def advance(self, tokens: Tensor, lengths: Tensor, state: State) -> tuple[Tensor, State]:
        """See `model.state.Model.advance`."""
        B, T = tokens.shape
        if T == 0:
            return torch.zeros(B, self.vocab_size, device=tokens.device), state
        x = self._layers.advance(self._embed(tokens.reshape(-1)).view(B, T, -1), lengths, state)
        logits = self._head(
            x[torch.arange(B, device=x.device), (lengths - 1).clamp(min=0)]
        )  # each row's last real token
        state["position"].add_(lengths)
        state["writes"].add_(lengths[:, None])
        state["pending"].masked_fill_(lengths > 0, 0)
        return logits, state


def _biased(x: Tensor, bias: Tensor | None) -> Tensor:
    return x if bias is None else x.add_(bias)


def _load(sizes: Sizes, tensors: Tensors, prefix: str, ops: Ops) -> Layer:
    c, mixer = sizes, f"{prefix}.mixer"
    E, d, N, R, K = c.hidden_size, c.intermediate_size, c.state_size, c.time_step_rank, c.conv_kernel

    def weight(name: str, *shape: int) -> Weight:
        return tensors.expect(f"{mixer}.{name}", shape)

    def floats(name: str, *shape: int) -> Tensor:
        return vector(weight(name, *shape))

    A = -torch.exp(floats("A_log", d, N))
    return Layer(
        norm=vector(tensors.expect(f"{prefix}.norm.weight", (E,))),
        project_in=ops.linear([weight("in_proj.weight", 2 * d, E)]),
        in_bias=floats("in_proj.bias", 2 * d) if c.use_bias else None,
        taps=floats("conv1d.weight", d, 1, K).view(d, K).T.contiguous(),
        conv_bias=floats("conv1d.bias", d) if c.use_conv_bias else None,
        project_x=ops.linear([weight("x_proj.weight", R + 2 * N, d)]),
        project_dt=ops.linear([weight("dt_proj.weight", d, R)]),
        fixed=Selective(A.T.contiguous(), floats("D", d), floats("dt_proj.bias", d)),
        project_out=ops.linear([weight("out_proj.weight", E, d)]),
        out_bias=floats("out_proj.bias", E) if c.use_bias else None,
    )
