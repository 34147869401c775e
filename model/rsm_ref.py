"""The naive oracle of RSM: token by token, layer by layer, head by head, as the definitions in `model.rsm` read.

No state, no batch, no keys kept ready: the chunk is a list of what its tokens left, the slots are whole. Float64
throughout: for tests only. Shares nothing with `model.rsm` but the configuration and the weights' names.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field

import torch
from torch import Tensor

from model.rsm_config import Config
from model.weights import Tensors


@dataclass(slots=True)
class _Chunk:
    """What the tokens of one chunk left: keys and values (E,) by layer, hidden states after the last layer."""

    keys: list[list[Tensor]]
    values: list[list[Tensor]]
    top: list[Tensor] = field(default_factory=list)
    written: list[int] = field(default_factory=list)  # places of the tokens that may be written


def logits_ref(
    config: Config, tensors: Tensors, tokens: list[int], frozen: Collection[int] = ()
) -> tuple[Tensor, list[Tensor]]:
    """Logits (T, V) float64 after every token of a text, and the layers' slots (S, E) after the last.

    frozen: indices of the tokens that are read while the memory is frozen.
    """
    model = _Model(config, tensors)
    chunk, chunks, logits = model.new_chunk(), 0, []
    for t, token in enumerate(tokens):
        place = t % config.chunk_size
        logits.append(model.read(chunk, place, token))
        if t not in frozen:
            chunk.written.append(place)
        if place == config.chunk_size - 1:
            chunks += 1
            if t not in frozen and chunk.written:
                model.write(chunk, sync=config.sync_every > 0 and chunks % config.sync_every == 0)
            chunk = model.new_chunk()
    return torch.stack(logits), model.slots


class _Model:
    def __init__(self, config: Config, tensors: Tensors) -> None:
        self.c, self._tensors = config, tensors
        S, E, L = config.num_memory_slots, config.hidden_size, config.num_hidden_layers
        self.slots = [self._w(f"model.layers.{i}.write.slots", S, E) for i in range(L)]

    def new_chunk(self) -> _Chunk:
        L = self.c.num_hidden_layers
        return _Chunk([[] for _ in range(L)], [[] for _ in range(L)])

    def read(self, chunk: _Chunk, place: int, token: int) -> Tensor:
        """One token: logits (V,)."""
        c, E, V = self.c, self.c.hidden_size, self.c.vocab_size
        h = self._w("model.embed_tokens.weight", V, E)[token] + self._place(place)
        for i in range(c.num_hidden_layers):
            layer = f"model.layers.{i}"
            x = self._norm(f"{layer}.attn_norm", h)
            chunk.keys[i].append(self._times(f"{layer}.attn.k_proj", x))
            chunk.values[i].append(self._times(f"{layer}.attn.v_proj", x))
            q = self._times(f"{layer}.attn.q_proj", x)
            h = h + self._times(f"{layer}.attn.o_proj", self._attention(q, chunk.keys[i], chunk.values[i]))
            h = h + self._to_slots(layer, h, self.slots[i])
            x = self._norm(f"{layer}.mlp_norm", h)
            gate = self._times(f"{layer}.mlp.gate_proj", x, c.intermediate_size)
            up = self._times(f"{layer}.mlp.up_proj", x, c.intermediate_size)
            h = h + self._times(f"{layer}.mlp.down_proj", gate * torch.sigmoid(gate) * up)
        chunk.top.append(h)
        if c.sync_every:
            h = h + self._to_slots("model.sync", h, sum(self.slots, torch.zeros_like(self.slots[0])) / len(self.slots))
        return self._w("lm_head.weight", V, E) @ self._norm("model.norm", h)

    def write(self, chunk: _Chunk, *, sync: bool) -> None:
        """The chunk has ended."""
        at = chunk.written
        for i in range(self.c.num_hidden_layers):
            w = f"model.layers.{i}.write"
            queries = self._w(f"{w}.queries", self.c.num_memory_slots, self.c.hidden_size)
            keys, values = [chunk.keys[i][p] for p in at], [chunk.values[i][p] for p in at]
            new = []
            for s, m in enumerate(self.slots[i]):
                U = self._attention(queries[s], keys, values)
                G = self._gate(f"{w}.g_proj", U)
                wanted = torch.tanh(self._times(f"{w}.a_proj", m) + self._times(f"{w}.b_proj", U))
                new.append((1 - G) * m + G * wanted)
            self.slots[i] = torch.stack(new)
        if sync:
            tokens = [self._norm("model.sync.norm", chunk.top[p]) for p in at]
            keys = [self._times("model.sync.k_proj", n) for n in tokens]
            values = [self._times("model.sync.v_proj", n) for n in tokens]
            for i in range(self.c.num_hidden_layers):
                new = []
                for m in self.slots[i]:
                    R = self._attention(self._times("model.sync.q_proj", m), keys, values)
                    G = self._gate("model.sync.g_proj", R)
                    new.append((1 - G) * m + G * torch.tanh(self._times("model.sync.o_proj", R)))
                self.slots[i] = torch.stack(new)

    def _to_slots(self, name: str, h: Tensor, slots: Tensor) -> Tensor:
        """What attention to the slots adds to h (E,)."""
        q = self._times(f"{name}.read.q_proj", self._norm(f"{name}.read_norm", h))
        keys = [self._times(f"{name}.read.k_proj", m) for m in slots]
        values = [self._times(f"{name}.read.v_proj", m) for m in slots]
        return self._times(f"{name}.read.o_proj", self._attention(q, keys, values))

    def _attention(self, q: Tensor, keys: list[Tensor], values: list[Tensor]) -> Tensor:
        """Head by head: (E,)."""
        D, out = self.c.head_dim, []
        for head in range(self.c.num_attention_heads):
            own = slice(head * D, (head + 1) * D)
            weights = torch.softmax(torch.stack([q[own] @ k[own] for k in keys]) / math.sqrt(D), dim=0)
            out.append(sum((w * v[own] for w, v in zip(weights, values, strict=True)), torch.zeros_like(q[own])))
        return torch.cat(out)

    def _place(self, place: int) -> Tensor:
        """The sinusoid of a place: (E,)."""
        E = self.c.hidden_size
        wave = []
        for i in range(0, E, 2):
            angle = place / 10_000 ** (i / E)
            wave += [math.sin(angle), math.cos(angle)]
        return torch.tensor(wave, dtype=torch.float64)

    def _norm(self, name: str, x: Tensor) -> Tensor:
        return x / torch.sqrt(x.pow(2).mean() + self.c.rms_norm_eps) * self._w(f"{name}.weight", self.c.hidden_size)

    def _gate(self, name: str, x: Tensor) -> Tensor:
        return torch.sigmoid(self._times(name, x) + self._w(f"{name}.bias", self.c.hidden_size))

    def _times(self, name: str, x: Tensor, out: int | None = None) -> Tensor:
        return self._w(f"{name}.weight", self.c.hidden_size if out is None else out, len(x)) @ x

    def _w(self, name: str, *shape: int) -> Tensor:
        weight = self._tensors.expect(name, shape)
        return (weight if isinstance(weight, Tensor) else weight.dequantise()).double()
