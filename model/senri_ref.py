"""The naive oracle of Senri: token by token, layer by layer, head by head, as the definitions read.

No ring, no chunk, no batch: every key since the first token is there and the window is a matter of which ones a token
may look at; what Infini-attention remembers is rebuilt from all earlier segments. Float64 throughout, O(T²·L): for
tests only. Shares nothing with `model.senri` but the configuration and the weights' names.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import silu

from model.senri import Config, Tensors
from model.weights import Weight

Get = Callable[..., Tensor]  # a weight by its name and shape, float64
Heads = list[Tensor]  # of every token so far, (H, D)


def logits_ref(
    config: Config, tensors: Tensors, tokens: list[int], start: int = 0, frozen: Collection[int] = ()
) -> Tensor:
    """Logits (T, V) float64 after every token of a text whose first token stands at absolute position `start`.

    frozen: indices of the tokens that are read while the memory is frozen. What lies before `start` is blank, zero keys
    and values, as in an empty state that is put at that position.
    """
    c, names = config, set(tensors.names())
    H, G, D = c.num_attention_heads, c.num_key_value_heads, c.head_dim
    V, E, F = c.vocab_size, c.hidden_size, c.intermediate_size

    @cache
    def w(name: str, *shape: int) -> Tensor:
        return _dense(tensors.expect(name, shape)).double()

    keys: list[Heads] = [[] for _ in range(c.num_hidden_layers)]
    values: list[Heads] = [[] for _ in range(c.num_hidden_layers)]
    memory = _Segments(c, tensors, keys, values, start, frozen)
    recalls = {
        i: _Recall(c, w, i, f"model.layers.{i}.memory.A_log" in names)
        for i in c.memory_layers
        if f"model.layers.{i}.memory.q_proj.weight" in names
    }
    logits = []
    for t, token in enumerate(tokens):
        h = w("model.embed_tokens.weight", V, E)[token]  # (E,)
        e = rms_norm(h, torch.ones_like(h), c.rms_norm_eps)
        late = torch.zeros_like(h)
        for i in range(c.num_hidden_layers):
            layer = f"model.layers.{i}"
            x = rms_norm(h, w(f"{layer}.input_layernorm.weight", E), c.rms_norm_eps)
            q = (w(f"{layer}.self_attn.q_proj.weight", H * D, E) @ x).view(H, D)
            for kept, name in ((keys, "k_proj"), (values, "v_proj")):
                kept[i].append(
                    (w(f"{layer}.self_attn.{name}.weight", G * D, E) @ x).view(G, D).repeat_interleave(H // G, dim=0)
                )
            a = _local_attention(c, q, keys[i], values[i], start)  # (H, D)
            if f"{layer}.self_attn.gate" in names and i in c.memory_layers and c.memory_rule != "gated_delta":
                a = memory.combine(i, q, a, torch.sigmoid(w(f"{layer}.self_attn.gate", H)))
            found = w(f"{layer}.self_attn.o_proj.weight", E, H * D) @ a.reshape(-1)
            if i in recalls and c.memory_rule == "gated_delta":
                read = recalls[i].read(x, e, write=t not in frozen)
                if c.memory_reads == "end":
                    late = late + read
                else:
                    found = found + read
            h = h + found
            x = rms_norm(h, w(f"{layer}.post_attention_layernorm.weight", E), c.rms_norm_eps)
            gated = silu(w(f"{layer}.mlp.gate_proj.weight", F, E) @ x)
            h = h + w(f"{layer}.mlp.down_proj.weight", E, F) @ (gated * (w(f"{layer}.mlp.up_proj.weight", F, E) @ x))
        head = w("model.embed_tokens.weight" if c.tie_word_embeddings else "lm_head.weight", V, E)
        logits.append(head @ rms_norm(h + late, w("model.norm.weight", E), c.rms_norm_eps))
    return torch.stack(logits)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x / √(mean x² + ε) · weight over the last axis."""
    return x / torch.sqrt(x.pow(2).mean(-1, keepdim=True) + eps) * weight


def rotate(x: Tensor, position: int, theta: float) -> Tensor:
    """RoPE of vectors (…, D), halves paired as Llama has them, angles in float64."""
    half = x.shape[-1] // 2
    angle = position * theta ** (-torch.arange(half, dtype=torch.float64) / half)
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()], dim=-1)


def _local_attention(c: Config, q: Tensor, k: Heads, v: Heads, start: int) -> Tensor:
    """The last token over its window and the sinks that have left it: (H, D)."""
    t = len(k) - 1
    W, p = c.sliding_window_size, start + t
    window = [s for s in range(t + 1) if start + s > p - W]
    sinks = [s for s in range(t + 1) if start + s < c.num_sink_tokens and start + s <= p - W]
    reachable = min(W, p + 1) + sum(j <= p - W for j in range(c.num_sink_tokens))
    blanks = reachable - len(window) - len(sinks)
    near, far = rotate(q, p, c.rope_theta), rotate(q, min(p, W), c.rope_theta)  # (H, D)
    rotated = {s: rotate(k[s], start + s, c.rope_theta) for s in sinks + window}
    heads = []
    for h in range(c.num_attention_heads):
        scores = [far[h] @ rotated[s][h] for s in sinks] + [near[h] @ rotated[s][h] for s in window]
        scores += [torch.zeros((), dtype=torch.float64)] * blanks
        weights = torch.softmax(torch.stack(scores) / c.head_dim**0.5, dim=0)
        heads.append(weights[: len(sinks + window)] @ torch.stack([v[s][h] for s in sinks + window]))
    return torch.stack(heads)


class _Segments:
    """Infini-attention as the paper has it, one M and z per query head; also shared, also several per layer."""

    def __init__(
        self,
        c: Config,
        tensors: Tensors,
        keys: list[Heads],
        values: list[Heads],
        start: int,
        frozen: Collection[int],
    ) -> None:
        self._c, self._keys, self._values, self._start, self._frozen = c, keys, values, start, frozen
        self._directions = {i: _directions(c, tensors, i) for i in c.memory_layers}
        self._rebuilt: dict[tuple[tuple[int, ...], int], tuple[Tensor, Tensor]] = {}

    def combine(self, layer: int, q: Tensor, local: Tensor, gate: Tensor) -> Tensor:
        """The last token's attention with what it reads of the segments before its own: (H, D)."""
        t = len(self._keys[layer]) - 1
        writers = self._c.memory_layers if self._c.share_memory else (layer,)
        M, z = self._after(writers, (self._start + t) // self._c.chunk_size)
        out = local.clone()
        for h in range(len(q)):
            written = [n for n in range(self._c.num_memories) if z[n, h].any()]
            if not written:
                continue
            weights = torch.softmax(torch.stack([self._directions[layer][n] @ q[h] for n in written]), dim=0)
            query = _sigma(q[h])
            read = sum(
                (w * (query @ M[n, h]) / (query @ z[n, h]) for w, n in zip(weights, written, strict=True)),
                torch.zeros_like(query),
            )
            out[h] = gate[h] * read + (1 - gate[h]) * local[h]
        return out

    def _after(self, writers: tuple[int, ...], segment: int) -> tuple[Tensor, Tensor]:
        """M (N, H, D, D) and z (N, H, D), after all segments before this one; the same for every token in it."""
        if (writers, segment) not in self._rebuilt:
            self._rebuilt[writers, segment] = self._rebuild(writers, segment)
        return self._rebuilt[writers, segment]

    def _rebuild(self, writers: tuple[int, ...], segment: int) -> tuple[Tensor, Tensor]:
        c, C = self._c, self._c.chunk_size
        N, H, D = c.num_memories, c.num_attention_heads, c.head_dim
        M, z = torch.zeros(N, H, D, D).double(), torch.zeros(N, H, D).double()
        for s in range(self._start // C, segment):
            tokens = [u for u in range((s + 1) * C - self._start) if (self._start + u) // C == s]
            own = [u for u in tokens if u not in self._frozen]
            if tokens[-1] in self._frozen or not own:
                continue
            for layer in writers:
                for h in range(H):
                    k = [self._keys[layer][u][h] for u in own]
                    toward = [float(r @ torch.stack(k).mean(0)) for r in self._directions[layer]]
                    n = toward.index(max(toward))
                    M_old, z_old = M[n, h].clone(), z[n, h].clone()
                    for key, u in zip(map(_sigma, k), own, strict=True):
                        value = self._values[layer][u][h]
                        if c.memory_rule == "delta" and z_old.any():
                            value = value - key @ M_old / (key @ z_old)
                        M[n, h] += torch.outer(key, value)
                        z[n, h] += key
        return M, z


class _Recall:
    """The gated delta rule as its equations read, a matrix per head."""

    def __init__(self, c: Config, w: Get, layer: int, decays: bool) -> None:
        self._c, self._decays = c, decays
        self._w: Get = lambda name, *shape: w(f"model.layers.{layer}.memory.{name}", *shape)
        self._M = torch.zeros(c.memory_heads, c.memory_key_dim, c.memory_value_dim).double()
        self._x: list[Tensor] = []
        self._e: list[Tensor] = []

    def read(self, x: Tensor, e: Tensor, *, write: bool) -> Tensor:
        """One more token: a write, its own or that of the token that leaves the window; then its read, (E,)."""
        c, w, M = self._c, self._w, self._M
        E, H, d_v = c.hidden_size, c.memory_heads, c.memory_value_dim
        self._x.append(x - w("mean", E))
        self._e.append(e if c.memory_value_source == "embedding" else x - w("mean", E))
        writer = len(self._x) - (c.sliding_window_size if c.memory_writes == "leaving" else 0)
        if write and writer > 0:
            self._write(self._x[:writer], self._e[:writer])
        q = self._features(self._conv("q", self._x))
        out = []
        for h in range(c.memory_heads):
            read = M[h].T @ (q[h] / q[h].norm())
            if c.memory_read_norm:
                read = rms_norm(read, w("norm.weight", d_v), c.rms_norm_eps)
            if c.memory_read_gate:
                read = read * silu(w("g_proj.weight", H, E)[h] @ self._x[-1] + w("g_proj.bias", H)[h])
            out.append(read)
        return w("o_proj.weight", E, H * d_v) @ torch.cat(out)

    def _write(self, xs: list[Tensor], es: list[Tensor]) -> None:
        """The write of the last of these tokens."""
        c, w, M = self._c, self._w, self._M
        E, H = c.hidden_size, c.memory_heads
        k, v, x = self._features(self._conv("k", xs)), self._conv("v", es), xs[-1]
        beta = torch.sigmoid(w("b_proj.weight", H, E) @ x + w("b_proj.bias", H))
        for h in range(H):
            key = k[h] / k[h].norm()
            if self._decays:
                a = w("a_proj.weight", H, E)[h] @ x + w("dt_bias", H)[h]
                M[h] *= torch.exp(-torch.log(1 + torch.exp(a)) * torch.exp(w("A_log", H)[h]))
            M[h] += beta[h] * torch.outer(key, v[h] - M[h].T @ key)

    def _features(self, x: Tensor) -> Tensor:
        """Each channel times those 8, 16 … after it, so many as the degree says, going round; (h, d_k)."""
        d = self._c.memory_key_dim
        factors = [x[:, [(i + 8 * j) % d for i in range(d)]] for j in range(self._c.memory_key_degree)]
        return torch.stack(factors).prod(dim=0)

    def _conv(self, name: str, inputs: list[Tensor]) -> Tensor:
        """Σ_d tap[−1−d] · (W · input of d tokens ago), (h, width of a head)."""
        c = self._c
        N, width = c.memory_heads * (c.memory_value_dim if name == "v" else c.memory_key_dim), c.memory_conv_width
        W, taps = self._w(f"{name}_proj.weight", N, c.hidden_size), self._w(f"{name}_conv.weight", N, width)
        y = torch.zeros(N).double()
        for d in range(min(width, len(inputs))):
            y += taps[:, width - 1 - d] * (W @ inputs[-1 - d])
        return y.view(c.memory_heads, -1)


def _sigma(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, torch.exp(x) - 1) + 1


def _directions(c: Config, tensors: Tensors, layer: int) -> Tensor:
    """(N, D): the checkpoint's, or rows 1 … N of the discrete cosine transform."""
    N, D = c.num_memories, c.head_dim
    name = f"model.layers.{layer}.memory.router"
    if N > 1 and name in tensors.names():
        return _dense(tensors.expect(name, (N, D))).double()
    rows = [[math.sqrt(2 / D) * math.cos(math.pi * (n + 1) * (d + 0.5) / D) for d in range(D)] for n in range(N)]
    return torch.tensor(rows, dtype=torch.float64)


def _dense(weight: Weight) -> Tensor:
    return weight if isinstance(weight, Tensor) else weight.dequantise()
