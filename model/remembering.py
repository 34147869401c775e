"""The layers that carry a memory: their own weights, and what they read from and write to a session's state.

`Segments` is Infini-attention (rules linear and delta, `model.infini`): it works on the attention's own queries, keys
and values, and replaces what attention found. `Recall` is the gated delta rule (`model.gated_delta`) with projections
of its own; what it reads is added to the residual stream beside the attention's output:

    x = RMSNorm(h) − mean;  e = x, or RMSNorm(embedding)
    q = l2norm(conv(W_q x)),  k = l2norm(conv(W_k x)),  v = conv(W_v e)
    β = sigmoid(W_b x + b),  α = exp(−softplus(W_a x + dt_bias)·exp(A_log)), or 1 where there is no A_log
    r = W_o (γ ⊙ o),  o read by the rule (or RMSNorm(o)·g of it);  γ = silu(W_g x + b_g) per head, or 1
    h ← h + r  beside the attention, or once all layers are through (`Config.memory_reads`)

Without a norm a read is as long as its match is good: where nothing that is stored fits, it is nearly nothing.

Where a token is written as it leaves the window (`Config.memory_writes`), k, v, β and α are those of the token that was
read a window before, and until there is one nothing is written. A token that is padding, or would be written while the
memory is frozen, writes nothing; the convolutions go on over frozen tokens, for they are a window of what was read. A
layer without such weights is the base model's, reading and writing nothing.

It knows nothing of windows or of the layers around.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from model import infini, routing
from model.gated_delta import L2_EPS, conv, tail_after
from model.kernels import Block, Linear, Ops
from model.senri_config import Config
from model.state import State
from model.weights import Tensors, Weight, WeightsError, vector

# Absent gates in a checkpoint: sigmoid(−∞) = 0, the base model exactly.
CLOSED = float("-inf")
NOTHING = -1e4  # the logit of a β that is 0 and an α that is 1


@dataclass(frozen=True, slots=True)
class Segments:
    """A layer of the rules linear and delta.

    gate: (H,) read gate's logits; None where every head's is closed. owner: the layer whose leaves M, z and writes it
    uses. router: (N, D) directions of N memories, None where there is one.
    """

    layer: int
    block: Block
    gate: Tensor | None
    owner: int
    router: Tensor | None
    shared: bool

    def memory(self, state: State) -> infini.Memory:
        """Its leaves."""
        i, owner = self.layer, self.owner
        return infini.Memory(
            M=state[f"M.{owner}"],
            z=state[f"z.{owner}"],
            seg_k=state[f"seg_k.{i}"],
            seg_v=state[f"seg_v.{i}"],
            seg_mask=state[f"seg_mask.{i}"],
            frozen=state["frozen"],
            writes=state[f"writes.{owner}"],
            router=self.router,
            shared=self.shared,
        )

    def attend(
        self, config: Config, qkv: Tensor, local: Tensor, state: State, lengths: Tensor, *, singly: bool
    ) -> Tensor:
        """qkv (B·T, (H+2G)·D), local (B·T, H·D) → combined (B·T, H·D); the memory is read and written."""
        H, G, D, B = config.num_attention_heads, config.num_key_value_heads, config.head_dim, state.rows
        heads = qkv.view(B, -1, H + 2 * G, D)
        q, k, v = heads[:, :, :H], heads[:, :, H : H + G], heads[:, :, H + G :]
        out = infini.attend(
            self.memory(state),
            q,
            k,
            v,
            local.view(B, -1, H, D),
            self.gate,
            config.memory_rule,
            state["position"].tolist(),
            lengths.tolist(),
            singly=singly,
        )
        return out.view(-1, H * D)


@dataclass(frozen=True, slots=True)
class Recall:
    """A layer of the rule gated_delta with h = `heads` memory heads, K = h·d_k, V = h·d_v.

    project: W_q, W_k, W_v where the values come from x, W_b, W_a where it decays, stacked. value: W_v where they come
    from the embedding, else None. taps (2K+V, width): the three convolutions side by side. bias (h,): b. decays:
    dt_bias and exp(A_log) (h,), or None. unit (d_k,): makes an RMSNorm an l2norm. norm (d_v,): g, or None. eps: of
    RMSNorm(o). gate (h,): b_g, where W_g is the last of `project`, else None. late: r is for the end.
    """

    layer: int
    block: Block
    heads: int
    key_dim: int
    value_dim: int
    eps: float
    mean: Tensor
    project: Linear
    value: Linear | None
    taps: Tensor
    bias: Tensor
    decays: tuple[Tensor, Tensor] | None
    unit: Tensor
    norm: Tensor | None
    gate: Tensor | None
    out: Linear
    late: bool

    def read(self, ops: Ops, x: Tensor, e: Tensor, state: State, lengths: Tensor) -> Tensor:
        """r, what is to be added to the residual stream, (B·T, E); the memory is written.

        x (B·T, E): the attention's normalised input; e (B·T, E): the tokens' normalised embeddings.
        """
        B, h, d_k, d_v = state.rows, self.heads, self.key_dim, self.value_dim
        K, V = h * d_k, h * d_v
        x = x - self.mean
        widths = [K, K, *([V] if self.value is None else []), h, *([h] if self.decays else [])]
        widths += [] if self.gate is None else [h]
        q, k, *rest = self.project(x).split(widths, dim=1)
        v = rest.pop(0) if self.value is None else self.value(e)
        b = rest.pop(0) + self.bias
        a = rest.pop(0) if self.decays is not None else None
        writes = 1 - state["frozen"].long()  # (B,)
        written = lengths * writes
        if f"waiting.{self.layer}" in state:
            k, v, b, a, there = self._leaving(k, v, b, a, state, lengths)
            written = there.sum(dim=1) * writes
        inputs = torch.cat((q, k, v), dim=1).view(B, -1, 2 * K + V)
        tails = [state[f"conv_{name}.{self.layer}"] for name in "qkv"]
        tail = torch.cat(tails, dim=-1)  # (B, width−1, 2K+V)
        q, k, v = conv(inputs, self.taps, tail).split((K, K, V), dim=-1)
        for old, new in zip(tails, tail_after(inputs, tail, lengths).split((K, K, V), dim=-1), strict=True):
            old.copy_(new)
        # x/√(mean x² + ε/d)·d^−½ = x/√(Σx² + ε): the backend's own norm, whose bits don't depend on the batch
        flat = (u.reshape(-1, d_k).contiguous() for u in (q, k))  # of a single head, reshape gives a view
        q, k = (ops.add_norm(u, None, self.unit, L2_EPS / d_k).view(B, -1, h, d_k) for u in flat)
        v = v.reshape(B, -1, h, d_v).contiguous()

        b = b.reshape(B, -1, h).contiguous()
        decay = None if self.decays is None or a is None else ((a + self.decays[0]).view(B, -1, h), self.decays[1])
        M = state[f"M.{self.layer}"]
        read = ops.gated_delta(q, k, v, b, decay, M=M, lengths=lengths, writes=writes)
        state[f"writes.{self.layer}"].add_(written)
        if self.norm is not None:
            read = ops.add_norm(read.reshape(-1, d_v), None, self.norm, self.eps)
        if self.gate is not None:
            gate = (rest[-1] + self.gate).view(-1, h, 1).expand(-1, -1, d_v)
            read = ops.swiglu(torch.cat((gate.reshape(-1, V), read.reshape(-1, V)), dim=1))
        return self.out(read.reshape(-1, V))

    def _leaving(
        self, k: Tensor, v: Tensor, b: Tensor, a: Tensor | None, state: State, lengths: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor]:
        """What is written as tokens are read: the same of the tokens that leave the window, and where there are such,
        (B, T) of 0 and 1. k (B·T, K) and v (B·T, V) before their convolutions, b and a (B·T, h): logits."""
        B, h, ring = state.rows, self.heads, state[f"waiting.{self.layer}"]
        each = (k, v, b, torch.zeros_like(b) if a is None else a, torch.ones_like(b))
        x = torch.cat([part.view(B, -1, h, part.shape[1] // h) for part in each], dim=-1)  # (B, T, h, d_k + d_v + 3)
        left = exchange(ring, x.transpose(1, 2), state["position"] - state["origin"], lengths).transpose(1, 2)
        k, v, b, a_, there = (
            part.reshape(len(k), -1) for part in left.split((self.key_dim, self.value_dim, 1, 1, 1), dim=-1)
        )
        none = there == 0
        b = b.masked_fill(none, NOTHING)  # β = 0, α = 1
        return k, v, b, None if a is None else a_.masked_fill(none, NOTHING), there.view(B, -1, h)[..., 0].long()


def exchange(ring: Tensor, x: Tensor, place: Tensor, lengths: Tensor) -> Tensor:
    """x (B, h, T, C), read from position place[b] on, takes the place of what was read W tokens before, which is
    returned, as float32 (B, h, T, C), 0 after lengths[b] tokens. ring (B, h, W, C): position p is at index p mod W."""
    W, left = ring.shape[2], torch.zeros_like(x)
    for b, (at, n) in enumerate(zip(place.tolist(), lengths.tolist(), strict=True)):
        row = torch.cat((ring[b].roll(-(at % W), 1), x[b, :, :n].to(ring.dtype)), dim=1)  # oldest first
        left[b, :, :n] = row[:, :n]
        ring[b] = row[:, n:].roll((at + n) % W, 1)
    return left


def load_segments(config: Config, layer: int, block: Block, tensors: Tensors) -> Segments:
    """A layer of the rules linear and delta. Raises `WeightsError` for a router that is not orthonormal."""
    c, names = config, tensors.names()
    gate = None
    if (name := f"model.layers.{layer}.self_attn.gate") in names:
        gate = vector(tensors.expect(name, (c.num_attention_heads,)))
        gate = None if bool((gate == CLOSED).all()) else gate
    router = None
    if c.num_memories > 1:
        router = routing.basis(c.num_memories, c.head_dim)
        if (name := f"model.layers.{layer}.memory.router") in names:
            router = vector(tensors.expect(name, (c.num_memories, c.head_dim)))
            if not routing.is_orthonormal(router):
                raise WeightsError(f"tensor {name!r}: its rows must be orthonormal, one for each memory")
    return Segments(layer, block, gate, c.memory_owner(layer), router, c.share_memory)


def has_recall(layer: int, tensors: Tensors) -> bool:
    """Whether the checkpoint has any weights of the rule gated_delta for this layer."""
    return any(name.startswith(f"model.layers.{layer}.memory.") for name in tensors.names())


def load_recall(config: Config, layer: int, block: Block, tensors: Tensors, ops: Ops) -> Recall:
    """A layer of the rule gated_delta. Raises `WeightsError` naming the weight that is missing or does not fit."""
    prefix = f"model.layers.{layer}.memory."
    c, E, h = config, config.hidden_size, config.memory_heads
    K, V, width = h * c.memory_key_dim, h * c.memory_value_dim, c.memory_conv_width

    def weight(name: str, *shape: int) -> Weight:
        return tensors.expect(prefix + name, shape)

    def floats(name: str, *shape: int) -> Tensor:
        return vector(weight(name, *shape))

    value, decays = weight("v_proj.weight", V, E), prefix + "A_log" in tensors.names()
    from_x = [weight("q_proj.weight", K, E), weight("k_proj.weight", K, E)]
    from_x += [value] if c.memory_value_source == "hidden" else []
    from_x += [weight("b_proj.weight", h, E)] + ([weight("a_proj.weight", h, E)] if decays else [])
    from_x += [weight("g_proj.weight", h, E)] if c.memory_read_gate else []
    return Recall(
        layer=layer,
        block=block,
        heads=h,
        key_dim=c.memory_key_dim,
        value_dim=c.memory_value_dim,
        eps=c.rms_norm_eps,
        mean=floats("mean", E),
        project=ops.linear(from_x),
        value=None if c.memory_value_source == "hidden" else ops.linear([value]),
        taps=torch.cat([floats(f"{n}_conv.weight", d, width) for n, d in (("q", K), ("k", K), ("v", V))]),
        bias=floats("b_proj.bias", h),
        decays=(floats("dt_bias", h), floats("A_log", h).exp()) if decays else None,
        unit=torch.full((c.memory_key_dim,), c.memory_key_dim**-0.5),
        norm=floats("norm.weight", c.memory_value_dim) if c.memory_read_norm else None,
        gate=floats("g_proj.bias", h) if c.memory_read_gate else None,
        out=ops.linear([weight("o_proj.weight", E, V)]),
        late=c.memory_reads == "end",
    )
