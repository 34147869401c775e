"""The naive oracle of the hybrid: token by token, layer by layer, head by head, as the definitions read.

No ring, no chunk, no batch, no state: all that was read since the first token is kept and gone through again. Float64
throughout, O(T²·L): for tests only. Shares nothing with `model.hybrid` but the configuration, the weights' names and
the loops of the papers (`model.ssd`, `model.selective_scan`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import silu

from model.hybrid_config import MAMBA, Config
from model.selective_scan import causal_conv_ref
from model.ssd import Dual, gated_norm_ref, ssd_ref, steps
from model.weights import Tensors

_Get = Callable[..., Tensor]  # a weight by its name and shape, float64


def logits_ref(config: Config, tensors: Tensors, tokens: list[int]) -> Tensor:
    """Logits (T, V) float64 after every token of a text."""
    c, E, F = config, config.hidden_size, config.intermediate_size

    @cache
    def w(name: str, *shape: int) -> Tensor:
        found = tensors.expect(name, shape)
        return (found if isinstance(found, Tensor) else found.dequantise()).double()

    def normed(h: Tensor, name: str) -> Tensor:
        return h * torch.rsqrt(h.square().mean(-1, keepdim=True) + c.rms_norm_eps) * w(name, E)

    embedding = w("model.embed_tokens.weight", c.vocab_size, E)
    h = embedding[torch.tensor(tokens)]  # (T, E)
    for i, kind in enumerate(c.layer_types):
        layer = f"model.layers.{i}"
        x = normed(h, f"{layer}.input_layernorm.weight")
        h = h + (_mamba(c, w, f"{layer}.mixer", x) if kind == MAMBA else _window(c, w, f"{layer}.self_attn", x))
        x = normed(h, f"{layer}.post_attention_layernorm.weight")
        gated = silu(x @ w(f"{layer}.mlp.gate_proj.weight", F, E).T) * (x @ w(f"{layer}.mlp.up_proj.weight", F, E).T)
        h = h + gated @ w(f"{layer}.mlp.down_proj.weight", E, F).T
    head = embedding if c.tie_word_embeddings else w("lm_head.weight", c.vocab_size, E)
    return normed(h, "model.norm.weight") @ head.T


def _mamba(c: Config, w: _Get, name: str, x: Tensor) -> Tensor:
    """x (T, E) → (T, E)"""
    s, T = c.mamba(), len(x)
    d, H, G, N, K, width = s.inner, s.num_heads, s.n_groups, s.state_size, s.conv_kernel, s.conv_width
    z, xBC, dt = (x @ w(f"{name}.in_proj.weight", d + width + H, s.hidden_size).T).split((d, width, H), dim=1)
    taps = w(f"{name}.conv1d.weight", width, 1, K).view(width, K).T
    xBC, _ = causal_conv_ref(xBC, taps, w(f"{name}.conv1d.bias", width), x.new_zeros(K - 1, width))
    u, B, C = xBC.split((d, G * N, G * N), dim=1)
    fixed = Dual(-torch.exp(w(f"{name}.A_log", H)), w(f"{name}.D", H), w(f"{name}.dt_bias", H))
    empty = x.new_zeros(H, N, s.head_dim)
    y, _ = ssd_ref(
        u.reshape(T, H, -1),
        steps(dt, fixed),
        B.reshape(T, G, N),
        C.reshape(T, G, N),
        fixed.A,
        fixed.D,
        empty,
    )
    y = gated_norm_ref(y.view(T, d), z, w(f"{name}.norm.weight", d), s.layer_norm_epsilon, G)
    return y @ w(f"{name}.out_proj.weight", s.hidden_size, d).T


def _window(c: Config, w: _Get, name: str, x: Tensor) -> Tensor:
    """Each token over its window and the sinks that have left it: x (T, E) → (T, E)."""
    T, W, D, H, G = len(x), c.sliding_window_size, c.head_dim, c.num_attention_heads, c.num_key_value_heads
    q = (x @ w(f"{name}.q_proj.weight", H * D, c.hidden_size).T).view(T, H, D)
    k, v = ((x @ w(f"{name}.{n}_proj.weight", G * D, c.hidden_size).T).view(T, G, D) for n in "kv")
    out = torch.zeros_like(q)
    for p in range(T):
        near = range(max(0, p - W + 1), p + 1)
        sinks = range(min(c.num_sink_tokens, max(0, p - W + 1)))
        for h in range(H):
            g = h // (H // G)
            scores = [_turn(c, q[p, h], W) @ _turn(c, k[s, g], s) for s in sinks]
            scores += [_turn(c, q[p, h], p) @ _turn(c, k[s, g], s) for s in near]
            weights = torch.softmax(torch.stack(scores) / D**0.5, dim=0)
            out[p, h] = weights @ v[[*sinks, *near], g]
    return out.view(T, H * D) @ w(f"{name}.o_proj.weight", c.hidden_size, H * D).T


def _turn(c: Config, x: Tensor, position: int) -> Tensor:
    """RoPE of one vector (D,), halves paired as Llama has them."""
    half = c.head_dim // 2
    angle = position * c.rope_theta ** (-torch.arange(half, dtype=torch.float64) / half)
    a, b = x[:half], x[half:]
    return torch.cat([a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()])
