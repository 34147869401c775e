"""The reference backend: plain torch float32, one token at a time, reads like the definitions in `interface.py`.

It is what the fast backends are compared with. It makes no promise of speed, nor of bit-identity between batches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from model.kernels.interface import Block, Ops, Recollection, Rope, Window, WindowSpec
from model.kernels.ref_ssm import RefStateSpaces
from model.recall import Fixed, Leaves, recall_ref

if TYPE_CHECKING:
    from model.weights import Weight


CPU = torch.device("cpu")
NO_EMBEDDINGS = "layers with a memory need the tokens' embeddings"


def dequantise(weight: Weight) -> Tensor:
    """Any weight as a float32 matrix."""
    return weight.float() if isinstance(weight, Tensor) else weight.dequantise()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """RoPE in the half-split layout: (x1, x2) → (x1·cos − x2·sin, x2·cos + x1·sin). x (…, D); cos, sin (D/2,)."""
    x1, x2 = x.chunk(2, dim=-1)
    return torch.cat((x1 * cos - x2 * sin, x2 * cos + x1 * sin), dim=-1)


def make_rope(spec: WindowSpec, position: Tensor, lengths: Tensor, T: int) -> Rope:
    """See `Ops.rope`. Angles in float64: at position 10^9 float32 would be off by whole turns."""
    inv_freq = torch.tensor(spec.inv_freq, dtype=torch.float64)  # (D/2,)
    p = position[:, None] + torch.arange(T)  # (B, T)
    angle = p[..., None].double() * inv_freq  # (B, T, D/2)
    query = float(spec.window) * inv_freq  # (D/2,)
    sink = torch.arange(spec.num_sinks, dtype=torch.float64)[:, None] * inv_freq  # (num_sinks, D/2)
    return Rope(
        spec,
        T,
        position.clone(),
        lengths.clone(),
        angle.cos().float(),
        angle.sin().float(),
        query.cos().float(),
        query.sin().float(),
        sink.cos().float(),
        sink.sin().float(),
    )


class RefLinear:
    """x·Wᵀ with the weights as float32."""

    def __init__(self, weights: Sequence[Weight]) -> None:
        if len({weight.shape[1] for weight in weights}) != 1:
            raise ValueError(f"stacked weights must share their inputs, not {[tuple(w.shape) for w in weights]}")
        self.weight = torch.cat([dequantise(weight) for weight in weights])  # (out, in)
        self.out_features, self.in_features = self.weight.shape

    def __call__(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight)


class RefEmbedding:
    """Rows of a float32 matrix."""

    def __init__(self, weight: Weight) -> None:
        self.weight = dequantise(weight)  # (V, E)

    def __call__(self, ids: Tensor) -> Tensor:
        return nn.functional.embedding(ids, self.weight)


@dataclass(frozen=True, slots=True)
class RefStack:
    """Layers as the single operations of any backend."""

    ops: Ops
    blocks: Sequence[Block]
    eps: float
    memories: Mapping[int, Recollection]

    def __call__(
        self,
        h: Tensor,
        delta: Tensor | None,
        rope: Rope,
        windows: Sequence[Window],
        e: Tensor | None = None,
        memories: Sequence[Leaves] = (),
    ) -> Tensor:
        ops, found = self.ops, dict(zip(self.memories, memories, strict=True))
        if found and e is None:
            raise ValueError(NO_EMBEDDINGS)
        reads = []
        for i, (block, window) in enumerate(zip(self.blocks, windows, strict=True)):
            x = ops.add_norm(h, delta, block.input_norm, self.eps)
            if i in found and e is not None:
                reads.append(self.memories[i].read(ops, x, e, found[i], rope))
            delta = block.out(ops.window_attention(block.qkv(x), rope, **window._asdict()))
            x = ops.swiglu(block.gate_up(ops.add_norm(h, delta, block.post_norm, self.eps)))
            delta = block.down(x)
        delta = torch.zeros_like(h) if delta is None else delta
        for read in reads:
            delta += read
        return delta


@dataclass(frozen=True, slots=True)
class RefOps(RefStateSpaces):
    """`Ops`, plainly."""

    state_dtype: torch.dtype = torch.float32
    name: str = "ref"
    batch_invariant: bool = False
    device: torch.device = CPU

    def linear(self, weights: Sequence[Weight]) -> RefLinear:
        return RefLinear(weights)

    def embedding(self, weight: Weight) -> RefEmbedding:
        return RefEmbedding(weight)

    def add_norm(self, h: Tensor, delta: Tensor | None, weight: Tensor, eps: float) -> Tensor:
        if delta is not None:
            h += delta
        return h * torch.rsqrt(h.square().mean(dim=-1, keepdim=True) + eps) * weight

    def swiglu(self, gate_up: Tensor) -> Tensor:
        gate, up = gate_up.chunk(2, dim=-1)
        return nn.functional.silu(gate) * up

    def rope(self, spec: WindowSpec, position: Tensor, lengths: Tensor, T: int) -> Rope:
        return make_rope(spec, position, lengths, T)

    def window_attention(
        self, qkv: Tensor, rope: Rope, *, ring_k: Tensor, ring_v: Tensor, sink_k: Tensor, sink_v: Tensor
    ) -> Tensor:
        spec, T = rope.spec, rope.T
        H, G, D = spec.heads, spec.kv_heads, spec.head_dim
        B = len(rope.lengths)
        heads = qkv.view(B, T, H + 2 * G, D)
        out = torch.zeros(B, T, H, D)
        for b in range(B):
            for t in range(int(rope.lengths[b])):
                q, k, v = heads[b, t].tensor_split((H, H + G))  # (H, D), (G, D), (G, D)
                p = int(rope.position[b]) + t
                cos, sin = rope.cos[b, t], rope.sin[b, t]
                ring_k[b, :, p % spec.window] = rotate(k, cos, sin).to(ring_k.dtype)
                ring_v[b, :, p % spec.window] = v.to(ring_v.dtype)
                if p < spec.num_sinks:
                    sink_k[b, :, p] = k.to(sink_k.dtype)
                    sink_v[b, :, p] = v.to(sink_v.dtype)
                out[b, t] = _attend(q, rope, b, t, (ring_k[b], ring_v[b], sink_k[b], sink_v[b]))
        return out.view(B * T, H * D)

    def recall(
        self, x: Tensor, values: Tensor | None, fixed: Fixed, *, leaves: Leaves, place: Tensor, lengths: Tensor
    ) -> Tensor:
        return recall_ref(x, values, fixed, leaves=leaves, place=place, lengths=lengths)

    def stack(
        self, blocks: Sequence[Block], eps: float, memories: Mapping[int, Recollection] | None = None
    ) -> RefStack:  # fmt: skip
        return RefStack(self, blocks, eps, memories or {})

    def warm_up(self) -> None:
        """Nothing is compiled."""


def _attend(q: Tensor, rope: Rope, b: int, t: int, state: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
    """One token's attention, its own key and value already written. q (H, D) before RoPE → (H, D)."""
    spec = rope.spec
    W, per_group = spec.window, spec.heads // spec.kv_heads
    p = int(rope.position[b]) + t
    ring_k, ring_v, sink_k, sink_v = (leaf.float() for leaf in state)

    slots = torch.arange(max(0, p - W + 1), p + 1) % W  # the window, oldest first
    gone = max(0, min(spec.num_sinks, p - W + 1))  # sinks that have left it: j ≤ p − W

    in_window = rotate(q, rope.cos[b, t], rope.sin[b, t])  # (H, D)
    rebased = rotate(q, rope.query_cos, rope.query_sin)  # (H, D)
    sinks = rotate(sink_k[:, :gone], rope.sink_cos[:gone], rope.sink_sin[:gone])  # (G, gone, D)

    keys = ring_k[:, slots].repeat_interleave(per_group, dim=0)  # (H, n, D)
    sinks = sinks.repeat_interleave(per_group, dim=0)  # (H, gone, D)
    values = torch.cat((sink_v[:, :gone], ring_v[:, slots]), dim=1).repeat_interleave(per_group, dim=0)

    scores = torch.cat(
        (torch.einsum("hd,hsd->hs", rebased, sinks), torch.einsum("hd,hnd->hn", in_window, keys)), dim=1
    )  # (H, gone + n)
    return torch.einsum("hn,hnd->hd", (scores * spec.scale).softmax(dim=-1), values)
