"""Senri's layers as torch modules, with parameters under the names checkpoints have them.

    h ← h + W_o · combine(A_mem, A_local)(W_q x, W_k x, W_v x)   [+ the read of a gated_delta memory],  x = RMSNorm(h)
    h ← h + W_down · (silu(W_gate x) ⊙ W_up x),                                                    x = RMSNorm(h)

Each forward takes what its layer carries and returns what it carries on: nothing mutable hangs on a module. Norms,
softmax and memories are computed in float32 at least, whatever the parameters' dtype and under autocast too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from model.gated_delta import chunkwise, conv, decay, feature_map, l2norm, tail_after
from model.remembering import CLOSED
from model.senri_config import Config
from model.unroll.memory import Segments, attend
from model.unroll.window import Kept, Piece, Windowed
from model.unroll.window import attend as attend_window


@dataclass(frozen=True, slots=True)
class Delta:
    """A gated_delta memory of B rows: M (B, h, d_k, d_v), the convolutions' tails (B, width−1, ·), writes (B,).

    waiting (B, h, D, d_k + d_v + 3): what the last D tokens will write, oldest first, where a token is written D tokens
    after it was read (`model.remembering`).
    """

    M: Tensor
    conv_q: Tensor
    conv_k: Tensor
    conv_v: Tensor
    writes: Tensor
    waiting: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Carried:
    """What one layer carries from piece to piece. memory: None in a layer without one."""

    kept: Kept
    memory: Segments | Delta | None


@dataclass(frozen=True, slots=True)
class Rows:
    """Where a piece's rows stand: positions of the first token and numbers of real tokens, here as lists, so that
    nothing waits for a device; frozen (B,) bool; real (B, P) bool: not padding."""

    position: list[int]
    lengths: list[int]
    frozen: Tensor
    real: Tensor


@dataclass(frozen=True, slots=True)
class Seen:
    """What a memory layer's memory did with a piece: what its read alone adds to the residual stream, (B, P, E), and
    the write strengths of a gated_delta memory, (B, P, h), 0 where a token is padding or the memory frozen."""

    read: Tensor
    beta: Tensor | None


class RMSNorm(nn.Module):
    """x / √(mean x² + ε) · weight over the last axis."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return normalised(x, self.eps).to(x.dtype) * self.weight.to(x.dtype)


def normalised(x: Tensor, eps: float) -> Tensor:
    """x / √(mean x² + ε) over the last axis, float32 at least."""
    x = accurate(x)
    return x * torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + eps)


def accurate(x: Tensor) -> Tensor:
    """x in float32, or in float64 where it is."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


class Taps(nn.Module):
    """A causal depthwise convolution's weights, (channels, width): the last tap is the token itself."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(channels, width))


class DeltaMemory(nn.Module):
    """The `gated_delta` memory of one layer (`model.gated_delta`). A new one reads nothing: its W_o is zero."""

    def __init__(self, config: Config, *, decays: bool) -> None:
        super().__init__()
        c, E, h = config, config.hidden_size, config.memory_heads
        keys, values = h * c.memory_key_dim, h * c.memory_value_dim
        self.config = config
        self.mean = nn.Parameter(torch.zeros(E))
        self.q_proj = nn.Linear(E, keys, bias=False)
        self.k_proj = nn.Linear(E, keys, bias=False)
        self.v_proj = nn.Linear(E, values, bias=False)
        self.q_conv = Taps(keys, c.memory_conv_width)
        self.k_conv = Taps(keys, c.memory_conv_width)
        self.v_conv = Taps(values, c.memory_conv_width)
        self.b_proj = nn.Linear(E, h)
        self.a_proj = nn.Linear(E, h, bias=False) if decays else None
        self.dt_bias = nn.Parameter(torch.zeros(h)) if decays else None
        self.A_log = nn.Parameter(torch.zeros(h)) if decays else None
        self.g_proj = nn.Linear(E, h) if c.memory_read_gate else None
        self.norm = RMSNorm(c.memory_value_dim, c.rms_norm_eps) if c.memory_read_norm else None
        self.o_proj = nn.Linear(values, E, bias=False)
        with torch.no_grad():
            for parameter, value in self.beginning():
                parameter.copy_(value)

    def beginning(self) -> Iterator[tuple[Tensor, Tensor]]:
        """What a new memory's parameters are where it matters: it reads nothing, writes little and mixes no tokens."""
        yield self.mean, torch.zeros_like(self.mean)
        yield self.o_proj.weight, torch.zeros_like(self.o_proj.weight)
        yield self.b_proj.bias, torch.full_like(self.b_proj.bias, -2.0)
        if self.g_proj is not None:
            yield self.g_proj.weight, torch.zeros_like(self.g_proj.weight)
            yield self.g_proj.bias, torch.ones_like(self.g_proj.bias)
        for taps in (self.q_conv, self.k_conv, self.v_conv):
            itself = torch.zeros_like(taps.weight)
            itself[:, -1] = 1.0
            yield taps.weight, itself
        if self.dt_bias is not None and self.A_log is not None:
            # α = exp(−softplus(−4)·1) = 0.982: a half-life of some 38 tokens, to be learned away
            yield self.dt_bias, torch.full_like(self.dt_bias, -4.0)
            yield self.A_log, torch.zeros_like(self.A_log)

    def forward(self, x: Tensor, e: Tensor, memory: Delta, rows: Rows) -> tuple[Seen, Delta]:
        """x (B, P, E): the attention's normalised input; e (B, P, E): normalised embeddings of the tokens."""
        c, B, P = self.config, x.shape[0], x.shape[1]
        h, d_k, d_v = c.memory_heads, c.memory_key_dim, c.memory_value_dim
        x = x - self.mean.to(x.dtype)
        with torch.autocast(x.device.type, enabled=False):
            lengths = rows.real.sum(dim=1)
            x = x.to(self.q_proj.weight.dtype)
            u = x if c.memory_value_source == "hidden" else e.to(x.dtype)
            wq, wv = accurate(self.q_proj(x)), accurate(self.v_proj(u))
            wk = wq if self.k_proj is self.q_proj else accurate(self.k_proj(x))
            b, a = accurate(self.b_proj(x)), None if self.a_proj is None else accurate(self.a_proj(x))
            written, waiting = rows.real.unsqueeze(-1), memory.waiting  # (B, P, 1)
            if waiting is not None:
                each = (wk, wv, b, torch.zeros_like(b) if a is None else a, written.to(b.dtype).expand_as(b))
                parts = torch.cat([part.unflatten(-1, (h, -1)) for part in each], dim=-1).transpose(1, 2)
                left, waiting = passed_on(parts, waiting, lengths)
                wk, wv, b, a_, there = (
                    part.flatten(2) for part in left.transpose(1, 2).split((d_k, d_v, 1, 1, 1), dim=-1)
                )
                a, written = None if a is None else a_, written & (there[..., :1] > 0)
            q = conv(wq, accurate(self.q_conv.weight), memory.conv_q).view(B, P, h, d_k)
            k = conv(wk, accurate(self.k_conv.weight), memory.conv_k).view(B, P, h, d_k)
            v = conv(wv, accurate(self.v_conv.weight), memory.conv_v).view(B, P, h, d_v)
            written = written & ~rows.frozen[:, None, None]
            beta = torch.where(written, torch.sigmoid(b), 0.0)
            alpha = None
            if a is not None and self.dt_bias is not None and self.A_log is not None:
                alpha = torch.where(written, decay(a, accurate(self.dt_bias), accurate(self.A_log)), 1.0)
            q, k = (l2norm(feature_map(u, c.memory_key_degree)) for u in (q, k))
            out, M = chunkwise(q, k, v, beta, alpha, memory.M)
            if self.norm is not None:
                out = self.norm(out)
            if self.g_proj is not None:
                out = out * silu(accurate(self.g_proj(x))).unsqueeze(-1)
            read = self.o_proj(out.flatten(2).to(x.dtype))
        return Seen(read, beta), Delta(
            M=M,
            conv_q=tail_after(wq, memory.conv_q, lengths),
            conv_k=tail_after(wk, memory.conv_k, lengths),
            conv_v=tail_after(wv, memory.conv_v, lengths),
            writes=memory.writes + written.sum(dim=(1, 2)),
            waiting=waiting,
        )


def passed_on(x: Tensor, waiting: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """x (B, h, P, C) behind what waits (B, h, D, C), oldest first: the first P of them, and the D that wait after the
    first lengths[b] tokens of x."""
    both = torch.cat((waiting.to(x.dtype), x), dim=2)
    last = lengths[:, None] + torch.arange(waiting.shape[2], device=x.device)  # (B, D)
    return both[:, :, : x.shape[2]], both.gather(2, last[:, None, :, None].expand_as(waiting))


class WindowAttention(nn.Module):
    """Window and sinks, of whatever family: `local`, and the products around it."""

    def __init__(self, config: Windowed) -> None:
        super().__init__()
        c, E = config, config.hidden_size
        self._windowed = config
        self.q_proj = nn.Linear(E, c.num_attention_heads * c.head_dim, bias=False)
        self.k_proj = nn.Linear(E, c.num_key_value_heads * c.head_dim, bias=False)
        self.v_proj = nn.Linear(E, c.num_key_value_heads * c.head_dim, bias=False)
        self.o_proj = nn.Linear(c.num_attention_heads * c.head_dim, E, bias=False)

    def local(self, x: Tensor, piece: Piece, kept: Kept) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor, Kept]:
        """x (B, P, E), normalised → q (B, P, H, D), k and v (B, P, G, D), what is read (B, P, H, D), what is kept."""
        q, k, v = (p(x).unflatten(-1, (-1, self._windowed.head_dim)) for p in (self.q_proj, self.k_proj, self.v_proj))
        return (q, k, v), *attend_window(self._windowed, kept, piece, q, k, v)

    def joined(self, read: Tensor) -> Tensor:
        """What is added to the residual stream, (B, P, E), of what was read (B, P, H, D)."""
        out: Tensor = self.o_proj(read.flatten(2))
        return out


class Attention(WindowAttention):
    """Window, sinks, and in a layer of the rules linear and delta the Infini-attention memory behind its gate."""

    def __init__(self, config: Config, *, gated: bool) -> None:
        super().__init__(config)
        c = self.config = config
        self.gate = nn.Parameter(torch.full((c.num_attention_heads,), CLOSED)) if gated else None

    def forward(
        self, x: Tensor, piece: Piece, carried: Carried, rows: Rows, *, trace: bool
    ) -> tuple[Tensor, Carried, Seen | None]:
        """x (B, P, E), normalised → what is added to the residual stream, (B, P, E)."""
        c = self.config
        (q, k, v), out, kept = self.local(x, piece, carried.kept)
        carried, seen = replace(carried, kept=kept), None
        if isinstance(carried.memory, Segments):
            gate = self.gate if self.gate is not None and bool((self.gate != CLOSED).any()) else None
            with torch.autocast(x.device.type, enabled=False):
                found, memory = attend(
                    carried.memory,
                    q,
                    k,
                    v,
                    c.memory_rule,
                    rows.position,
                    rows.lengths,
                    rows.frozen,
                    reads=trace or gate is not None,
                    shared=c.share_memory,
                )
                carried = replace(carried, memory=memory)
                if found is not None and gate is not None:
                    out = combine(out, *found, gate)
            if found is not None and trace:
                seen = Seen(self.joined(found[0].to(x.dtype)), None)
        return self.joined(out.to(x.dtype)), carried, seen


def combine(local: Tensor, read: Tensor, written: Tensor, gate: Tensor) -> Tensor:
    """Eq. 6 of `model.infini`: local and read (B, P, H, D), written (B, P), gate (H,) logits (−inf: closed)."""
    g = torch.sigmoid(accurate(gate)).unsqueeze(-1)  # (H, 1)
    mixed = g * read + (1.0 - g) * local
    return torch.where(written[:, :, None, None] & (g > 0), mixed, local.to(mixed.dtype))


class MLP(nn.Module):
    """SwiGLU of so many channels inside."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(width, inner, bias=False)
        self.up_proj = nn.Linear(width, inner, bias=False)
        self.down_proj = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.down_proj(silu(self.gate_proj(x)) * self.up_proj(x))
        return y


class Layer(nn.Module):
    """One layer. gated: it has a gate; memory: it has a gated_delta memory, with a decay where `decays`."""

    def __init__(self, config: Config, *, gated: bool, memory: bool, decays: bool) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = Attention(config, gated=gated)
        self.memory = DeltaMemory(config, decays=decays) if memory else None
        self.late = memory and config.memory_reads == "end"  # what it reads is added after the last layer
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = MLP(config.hidden_size, config.intermediate_size)

    def forward(
        self, h: Tensor, e: Tensor, piece: Piece, carried: Carried, rows: Rows, *, trace: bool
    ) -> tuple[Tensor, Carried, Seen | None]:
        """h (B, P, E) → h, what the layer carries on; with `trace`, or where it is `late`, what its memory did."""
        x = self.input_layernorm(h)
        added, after, seen = self.self_attn(x, piece, carried, rows, trace=trace)
        if self.memory is not None and isinstance(carried.memory, Delta):
            seen, memory = self.memory(x, e, carried.memory, rows)
            after = replace(after, memory=memory)
            if not self.late:
                added = added + seen.read.to(added.dtype)
        h = h + added
        return h + self.mlp(self.post_attention_layernorm(h)), after, seen if trace or self.late else None
