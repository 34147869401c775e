"""The naive oracle of Senri: a whole text at once, token by token, head by head, as the definitions read.

No state, no ring, no segments kept: every key since the first token is there and the window is a matter of which ones a
token may look at; the memory is rebuilt from all earlier segments for every token. Float64 throughout, O(T²·L): for
tests only. Shares nothing with `model.senri` but the configuration and the weights' names.
"""

from __future__ import annotations

import torch
from torch import Tensor

from model.senri import Config, Tensors
from model.weights import Weight


def logits_ref(config: Config, tensors: Tensors, tokens: list[int], start: int = 0) -> Tensor:
    """Logits (T, V) float64 after every token of a text whose first token stands at absolute position `start`.

    What lies before `start` is blank, zero keys and values, as in an empty state that is put at that position.
    """
    c = config
    H, G, D = c.num_attention_heads, c.num_key_value_heads, c.head_dim

    def w(name: str, *shape: int) -> Tensor:
        return _dense(tensors.expect(name, shape)).double()

    E, F = c.hidden_size, c.intermediate_size
    embedding = w("model.embed_tokens.weight", c.vocab_size, E)
    h = embedding[torch.tensor(tokens)]  # (T, E)
    for i in range(c.num_hidden_layers):
        layer = f"model.layers.{i}"
        x = rms_norm(h, w(f"{layer}.input_layernorm.weight", E), c.rms_norm_eps)
        q = (x @ w(f"{layer}.self_attn.q_proj.weight", H * D, E).T).view(-1, H, D)
        k = (x @ w(f"{layer}.self_attn.k_proj.weight", G * D, E).T).view(-1, G, D).repeat_interleave(H // G, dim=1)
        v = (x @ w(f"{layer}.self_attn.v_proj.weight", G * D, E).T).view(-1, G, D).repeat_interleave(H // G, dim=1)
        a = torch.stack([_local_attention(c, q, k, v, t, start) for t in range(len(tokens))])  # (T, H, D)
        gate = f"{layer}.self_attn.gate"
        if i in c.memory_layers and gate in tensors.names():
            a = _with_memory(c, q, k, v, a, torch.sigmoid(w(gate, H)), start)
        h = h + a.reshape(-1, H * D) @ w(f"{layer}.self_attn.o_proj.weight", E, H * D).T
        x = rms_norm(h, w(f"{layer}.post_attention_layernorm.weight", E), c.rms_norm_eps)
        gated = torch.nn.functional.silu(x @ w(f"{layer}.mlp.gate_proj.weight", F, E).T)
        up = x @ w(f"{layer}.mlp.up_proj.weight", F, E).T
        h = h + (gated * up) @ w(f"{layer}.mlp.down_proj.weight", E, F).T
    x = rms_norm(h, w("model.norm.weight", E), c.rms_norm_eps)
    head = embedding if c.tie_word_embeddings else w("lm_head.weight", c.vocab_size, E)
    return x @ head.T


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x / √(mean x² + ε) · weight over the last axis."""
    return x / torch.sqrt(x.pow(2).mean(-1, keepdim=True) + eps) * weight


def rotate(x: Tensor, position: int, theta: float) -> Tensor:
    """RoPE of one vector (D,), halves paired as Llama has them, angles in float64."""
    half = x.shape[-1] // 2
    angle = position * theta ** (-torch.arange(half, dtype=torch.float64) / half)
    a, b = x[:half], x[half:]
    return torch.cat([a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()])


def _local_attention(c: Config, q: Tensor, k: Tensor, v: Tensor, t: int, start: int) -> Tensor:
    """Token t over its window and the sinks that have left it: (H, D)."""
    W, p = c.sliding_window_size, start + t
    window = [s for s in range(t + 1) if start + s > p - W]
    sinks = [s for s in range(t + 1) if start + s < c.num_sink_tokens and start + s <= p - W]
    reachable = min(W, p + 1) + sum(j <= p - W for j in range(c.num_sink_tokens))
    blanks = reachable - len(window) - len(sinks)
    heads = []
    for h in range(c.num_attention_heads):
        near = rotate(q[t, h], p, c.rope_theta)
        far = rotate(q[t, h], min(p, W), c.rope_theta)
        scores = [far @ rotate(k[s, h], start + s, c.rope_theta) for s in sinks]
        scores += [near @ rotate(k[s, h], start + s, c.rope_theta) for s in window]
        scores += [torch.zeros((), dtype=torch.float64)] * blanks
        weights = torch.softmax(torch.stack(scores) / c.head_dim**0.5, dim=0)
        heads.append(weights[: len(sinks + window)] @ v[sinks + window, h])
    return torch.stack(heads)


def _with_memory(c: Config, q: Tensor, k: Tensor, v: Tensor, local: Tensor, gate: Tensor, start: int) -> Tensor:
    """Infini-attention as the paper has it, one M and z per query head, rebuilt for every token. (T, H, D)."""

    def sigma(x: Tensor) -> Tensor:
        return torch.where(x > 0, x, torch.exp(x) - 1) + 1

    out = local.clone()
    for t in range(len(q)):
        segment = (start + t) // c.chunk_size
        for h in range(c.num_attention_heads):
            M, z = torch.zeros(c.head_dim, c.head_dim).double(), torch.zeros(c.head_dim).double()
            for s in range(start // c.chunk_size, segment):  # whole segments before this one
                own = [u for u in range(t) if (start + u) // c.chunk_size == s]
                M_old, z_old = M.clone(), z.clone()
                for u in own:
                    key, value = sigma(k[u, h]), v[u, h]
                    if c.memory_rule == "delta" and z_old.any():
                        value = value - key @ M_old / (key @ z_old)
                    M = M + torch.outer(key, value)
                    z = z + key
            if z.any():
                query = sigma(q[t, h])
                out[t, h] = gate[h] * (query @ M) / (query @ z) + (1 - gate[h]) * local[t, h]
    return out


def _dense(weight: Weight) -> Tensor:
    return weight if isinstance(weight, Tensor) else weight.dequantise()
