"""GPT-2 over windows of embeddings: what the last position of each makes of it.

    x ← x + wpe;   per layer   h ← h + W_o attention(LN(h)),   h ← h + W_2 gelu(W_1 LN(h));   then LN

(Radford et al. 2019; gelu by its tanh form.) Every position of a window has its own learned vector wpe, attends to
itself and to what is valid on its left. There is no cache: a window moves by one at each token, and with it everything
in it has another position, so that each is encoded as a whole.

Deliberate differences: weights are (out, in) here, where `transformers`' GPT-2 has (in, out); of the last layer only
what the last position needs is computed. A window is one shape whatever is valid in it, and what is left to torch is
computed a window at a time, so that its bits do not depend on what else is encoded beside it. It knows nothing of what
stands in a window.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import gelu, layer_norm

from model.kernels import Linear, Ops
from model.weights import Tensors, vector


@dataclass(frozen=True, slots=True)
class Shape:
    """P positions, E, F the MLP's width, H heads."""

    positions: int
    width: int
    inner: int
    heads: int
    layers: int
    epsilon: float


@dataclass(frozen=True, slots=True)
class Norm:
    """LayerNorm's weight and bias, (E,)."""

    weight: Tensor
    bias: Tensor
    epsilon: float

    def __call__(self, x: Tensor) -> Tensor:
        return layer_norm(x, (x.shape[-1],), self.weight, self.bias, self.epsilon)


@dataclass(frozen=True, slots=True)
class Affine:
    """W x + b."""

    product: Linear
    bias: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return self.product(x).add_(self.bias)


@dataclass(frozen=True, slots=True)
class Block:
    """One layer's weights."""

    ln_1: Norm
    qkv: Affine
    out: Affine
    ln_2: Norm
    up: Affine
    down: Affine


class Gpt2:
    """The body of a GPT-2, without its embedding and head."""

    def __init__(self, shape: Shape, tensors: Tensors, prefix: str, ops: Ops) -> None:
        """prefix: of the weights' names, e.g. "transformer": `{prefix}.wpe.weight`, `{prefix}.h.0.ln_1.weight`, …"""
        self.shape = shape
        s, E, F = shape, shape.width, shape.inner

        def norm(name: str) -> Norm:
            weight, bias = (vector(tensors.expect(f"{prefix}.{name}.{part}", (E,))) for part in ("weight", "bias"))
            return Norm(weight, bias, s.epsilon)

        def affine(name: str, out: int, into: int) -> Affine:
            weight = tensors.expect(f"{prefix}.{name}.weight", (out, into))
            return Affine(ops.linear([weight]), vector(tensors.expect(f"{prefix}.{name}.bias", (out,))))

        self._places = vector(tensors.expect(f"{prefix}.wpe.weight", (s.positions, E)))
        self._blocks = [
            Block(
                ln_1=norm(f"h.{i}.ln_1"),
                qkv=affine(f"h.{i}.attn.c_attn", 3 * E, E),
                out=affine(f"h.{i}.attn.c_proj", E, E),
                ln_2=norm(f"h.{i}.ln_2"),
                up=affine(f"h.{i}.mlp.c_fc", F, E),
                down=affine(f"h.{i}.mlp.c_proj", E, F),
            )
            for i in range(s.layers)
        ]
        self._norm = norm("ln_f")

    def last(self, x: Tensor, valid: Tensor) -> Tensor:
        """x (R, P, E) float32, R windows; valid (R, P) bool, the last position always. (R, E), ready for the head."""
        P, E = self.shape.positions, self.shape.width
        R = len(x)
        h = (x + self._places).view(R * P, E)
        seen = visible(valid)  # (R, P, P)
        for i, block in enumerate(self._blocks):
            qkv = block.qkv(block.ln_1(h)).view(R, P, 3 * E)
            if i == len(self._blocks) - 1:
                h, queries = h.view(R, P, E)[:, -1].contiguous(), 1
            else:
                queries = P
            found = torch.cat([self._attend(qkv[r], seen[r, P - queries :]) for r in range(R)])  # (R·queries, E)
            h = h + block.out(found)
            # A window at a time too: what torch shares out among threads is rounded by where a share ends.
            bent = [gelu(up, approximate="tanh") for up in block.up(block.ln_2(h)).split(queries)]
            h = h + block.down(torch.cat(bent))
        return self._norm(h)

    def _attend(self, qkv: Tensor, seen: Tensor) -> Tensor:
        """One window's attention: qkv (P, 3E); the last Q positions ask, seen (Q, P). (Q, E)."""
        P, H = len(qkv), self.shape.heads
        q, k, v = qkv.view(P, 3, H, -1).permute(1, 2, 0, 3).contiguous()  # (H, P, D) each
        scores = (q[:, P - len(seen) :] @ k.transpose(-1, -2)) * q.shape[-1] ** -0.5  # (H, Q, P)
        found = scores.masked_fill(~seen, -torch.inf).softmax(dim=-1) @ v
        joined: Tensor = found.transpose(0, 1).reshape(len(seen), -1)
        return joined


def visible(valid: Tensor) -> Tensor:
    """valid (…, P) bool → (…, P, P): position i attends to a valid j ≤ i, and to itself, valid or not: what an empty
    position makes of itself is seen by none, and is to be a number."""
    P = valid.shape[-1]
    causal = torch.ones(P, P, dtype=torch.bool, device=valid.device).tril()
    return (causal & valid.unsqueeze(-2)) | torch.eye(P, dtype=torch.bool, device=valid.device)
