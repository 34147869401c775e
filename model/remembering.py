"""The layers that carry a memory: their own weights, and what they read from and write to a session's state.

`Segments` is Infini-attention (rules linear and delta, `model.infini`): it works on the attention's own queries, keys
and values, and replaces what attention found. `Recall` is the gated delta rule (`model.recall`) with projections of its
own; what it reads is added to the residual stream beside the attention's output:

    x = RMSNorm(h) − mean;  e = x, or RMSNorm(embedding)
    q = l2norm(φ(conv(W_q x))),  k = l2norm(φ(conv(W_k x))),  v = conv(W_v e)
    β = sigmoid(W_b x + b),  α = exp(−softplus(W_a x + dt_bias)·exp(A_log)), or 1 where there is no A_log
    r = W_o (γ ⊙ o),  o read by the rule (or RMSNorm(o)·g of it);  γ = silu(W_g x + b_g) per head, or 1
    h ← h + r  beside the attention, or once all layers are through (`Config.memory_reads`)

φ multiplies channels (`model.gated_delta.feature_map`, `Config.memory_key_degree`), or leaves them as they are.

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
from model.kernels import Block, Ops, Recollection
from model.recall import Fixed, Leaves
from model.senri_config import Config
from model.state import State
from model.weights import Tensors, Weight, WeightsError, vector

# Absent gates in a checkpoint: sigmoid(−∞) = 0, the base model exactly.
CLOSED = float("-inf")


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
    """A layer of the rule gated_delta."""

    layer: int
    block: Block
    memory: Recollection

    def leaves(self, state: State) -> Leaves:
        """Its part of a state."""
        i = self.layer
        return Leaves(
            state[f"M.{i}"],
            state[f"conv_q.{i}"],
            state[f"conv_k.{i}"],
            state[f"conv_v.{i}"],
            state.get(f"waiting.{i}"),
            state[f"writes.{i}"],
            state["frozen"],
        )


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

    hidden, decays = c.memory_value_source == "hidden", prefix + "A_log" in tensors.names()
    value = weight("v_proj.weight", V, E)
    stacked = [weight("q_proj.weight", K, E), weight("k_proj.weight", K, E)]
    stacked += [value] if hidden else []
    stacked += [weight("b_proj.weight", h, E)] + ([weight("a_proj.weight", h, E)] if decays else [])
    stacked += [weight("g_proj.weight", h, E)] if c.memory_read_gate else []
    mean = floats("mean", E)
    bias = torch.cat([-(vector(w) @ mean) for w in stacked])  # W(x − m) = W x − W m
    at = 2 * K + (V if hidden else 0)
    bias[at : at + h] += floats("b_proj.bias", h)
    if c.memory_read_gate:
        bias[-h:] += floats("g_proj.bias", h)
    taps = [floats(f"{n}_conv.weight", d, width) for n, d in (("q", K), ("k", K), ("v", V))]
    fixed = Fixed(
        heads=h,
        key_dim=c.memory_key_dim,
        value_dim=c.memory_value_dim,
        bias=bias,
        taps=torch.cat(taps).T.contiguous(),
        decays=(floats("dt_bias", h), floats("A_log", h).exp()) if decays else None,
        norm=floats("norm.weight", c.memory_value_dim) if c.memory_read_norm else None,
        eps=c.rms_norm_eps,
        gated=c.memory_read_gate,
        own_values=hidden,
        degree=c.memory_key_degree,
    )
    return Recall(
        layer,
        block,
        Recollection(
            project=ops.linear(stacked),
            value=None if hidden else ops.linear([value]),
            unit=torch.ones(E),
            fixed=fixed,
            out=ops.linear([weight("o_proj.weight", E, V)]),
        ),
    )
