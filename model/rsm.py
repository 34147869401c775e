"""RSM, Rolling State Memory: a transformer over chunks of C tokens, with S memory slots per layer that outlive them.

A token at place p of its chunk begins as h = embedding + sinusoid(p); each layer, pre-norm (RMSNorm), without biases:

    h ← h + W_o · attention(W_q x, W_k x, W_v x)            causal, within the chunk; the places are in h already
    h ← h + R_o · attention(R_q x, R_k M, R_v M)            to the layer's slots M (S, E)
    h ← h + W_down (silu(W_gate x) ⊙ W_up x)

and where a chunk has ended, each layer writes, every chunk's tokens having read what *earlier* chunks wrote:

    U = attention(P, k, v)                                  P (S, E) learned, one query per slot; k, v the chunk's own
    G = σ(W_g U + b);   M ← (1 − G) ⊙ M + G ⊙ tanh(A M + B U)

GlobalSync, where `sync_every` chunks have ended since the last one, after these writes, with weights of its own:

    slots to tokens    R = attention(F_q M, F_k n, F_v n),  n = RMSNorm(h) of the chunk's tokens after the last layer
                       M ← (1 − G) ⊙ M + G ⊙ tanh(F_o R),   G = σ(F_g R + b), for the slots of every layer
    tokens to slots    h ← h + S_o · attention(S_q x, S_k Z, S_v Z),  Z the mean of the layers' slots

Decided where the seed leaves it open. The tokens that a sync has just read are past: their logits are out, and no later
token attends to them. So "tokens to slots" acts on the tokens that come: every token reads Z after the last layer, as
the last chunk's end left it. Nothing of a chunk is therefore seen by its own tokens but through causal attention, and
no layer sees through another's memory what its own may not show. Both updates are convex combinations with values in
(−1, 1): slots stay bounded however long the text. Slots begin as a learned M₀; the leaf M is what they have become less
M₀, so that zeros are the empty memory. While frozen a token is read and never written, not even when its chunk ends
unfrozen.

Invariants: everything a session needs is in its leaves (`Config.state_spec`); places count from `filled`, never from
the position, so any position reads alike; arithmetic is the `Ops` it was given, and where those promise bits that do
not depend on batch or chunk, so does this: what is left to torch has one shape per token or per row. It knows nothing
of text.
"""

from __future__ import annotations

import torch
from torch import Tensor

from model.kernels import Linear, Ops, Rope, WindowSpec
from model.rsm_config import Config
from model.rsm_memory import RsmMemory
from model.rsm_weights import Loader, Slots, Sync, Write, heads
from model.state import State
from model.weights import Tensors

__all__ = ["Config", "Rsm", "sinusoids"]

SLICE = 64  # tokens whose products with every slot are held at a time


def sinusoids(places: int, width: int) -> Tensor:
    """(places, width) float32: sin(p·10000^(−2i/width)) in column 2i, the cosine in the next (Vaswani et al. 2017)."""
    rate = 10_000.0 ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angle = torch.arange(places, dtype=torch.float64)[:, None] * rate  # (places, width / 2)
    return torch.stack((angle.sin(), angle.cos()), dim=-1).view(places, width).float()


class Rsm:
    """A loaded model; see the module's docstring. Implements `model.state.Model`."""

    def __init__(self, config: Config, tensors: Tensors, ops: Ops) -> None:
        self.config = config
        self.ops = ops
        self.device = ops.device
        self.spec = config.state_spec(ops.state_dtype)
        self.vocab_size = config.vocab_size
        H, D, C, E = config.num_attention_heads, config.head_dim, config.chunk_size, config.hidden_size
        # A window that never leaves its chunk; nothing turns, for the places are in the hidden states.
        self._window = WindowSpec(heads=H, kv_heads=H, head_dim=D, window=C, num_sinks=0, inv_freq=(0.0,) * (D // 2))
        self._places = sinusoids(C, E)
        load = Loader(config, tensors, ops)
        self._embed = ops.embedding(load.weight("model.embed_tokens", config.vocab_size, E))
        self._layers = [load.layer(f"model.layers.{i}") for i in range(config.num_hidden_layers)]
        self._sync = load.sync("model.sync", self._layers) if config.sync_every else None
        self._norm = load.vector("model.norm.weight", E)
        self._head = ops.linear([load.weight("lm_head", config.vocab_size, E)])

    @property
    def memory(self) -> RsmMemory:
        """The layers' slots, and what can be done to them."""
        return RsmMemory(self.config.num_hidden_layers, self._keep)

    @torch.inference_mode()
    def advance(self, tokens: Tensor, lengths: Tensor, state: State) -> tuple[Tensor, State]:
        """See `model.state.Model.advance`."""
        B, T = tokens.shape
        if T == 1:
            return self._advance(tokens, lengths, state), state
        logits, done = torch.zeros(B, self.vocab_size), torch.zeros_like(lengths)
        while bool((done < lengths).any()):
            # (B,): each row to the end of its own chunk, where its memory is written
            now = torch.minimum(lengths - done, self.config.chunk_size - state["filled"])
            columns = done[:, None] + torch.arange(int(now.max()))
            last = self._advance(tokens.gather(1, columns.clamp(max=T - 1)), now, state)
            logits = torch.where((now > 0)[:, None], last, logits)
            done += now
        return logits, state

    def _advance(self, tokens: Tensor, lengths: Tensor, state: State) -> Tensor:
        """`advance` of T > 0 tokens that reach beyond no row's chunk."""
        ops, eps, C = self.ops, self.config.rms_norm_eps, self.config.chunk_size
        B, T = tokens.shape
        place = state["filled"][:, None] + torch.arange(T)  # (B, T)
        h = self._embed(tokens.reshape(-1)) + self._places[place.clamp(max=C - 1).view(-1)]  # (B·T, E)
        rope = ops.rope(self._window, state["filled"], lengths, T)
        delta: Tensor | None = None  # what is still to be added to h
        for i, layer in enumerate(self._layers):
            x = ops.add_norm(h, delta, layer.norm, eps)
            delta = layer.out(self._attend(layer.qkv(x), rope, state, i))
            delta = self._read(h, delta, layer.read, state[f"slot_k.{i}"], state[f"slot_v.{i}"])
            x = ops.add_norm(h, delta, layer.mlp_norm, eps)
            delta = layer.down(ops.swiglu(layer.gate_up(x)))
        rows, at = (torch.arange(T) < lengths[:, None]).nonzero(as_tuple=True)  # of the real tokens
        if self._sync is not None:
            delta = self._read(h, delta, self._sync.read, state["sync_k"], state["sync_v"])
            state["top"][rows, place[rows, at]] = h.view(B, T, -1)[rows, at].to(state["top"].dtype)
        written = 1 - state["frozen"][rows]
        for i in range(len(self._layers)):
            state[f"mask.{i}"][rows, place[rows, at]] = written
        x = ops.add_norm(h, delta, self._norm, eps)
        last = torch.arange(B) * T + (lengths - 1).clamp(min=0)  # each row's last real token
        logits = self._head(x[last] if T > 1 else x).float()
        for name in ("position", "filled"):
            state[name].add_(lengths)
        state["pending"].masked_fill_(lengths > 0, 0)
        for b in (state["filled"] == C).nonzero().flatten().tolist():
            self._end_chunk(state.slice(b, b + 1))
        return logits

    def _attend(self, qkv: Tensor, rope: Rope, state: State, i: int) -> Tensor:
        """Causal attention within the chunk, (B·T, E); keeps its keys and values."""
        k, v = state[f"k.{i}"], state[f"v.{i}"]
        none = k[:, :, :0]
        return self.ops.window_attention(qkv, rope, ring_k=k, ring_v=v, sink_k=none, sink_v=none)

    def _read(self, h: Tensor, delta: Tensor | None, slots: Slots, k: Tensor, v: Tensor) -> Tensor:
        """h (B·T, E) += delta, in place; then what attention to the slots adds to it. k, v (B, H, S, D) as kept."""
        B, H, _, D = k.shape
        q = slots.query(self.ops.add_norm(h, delta, slots.norm, self.config.rms_norm_eps))
        q = (q * D**-0.5).view(B, -1, H, 1, D)
        K, V = (slots.k0 + k).unsqueeze(1), (slots.v0 + v).unsqueeze(1)  # (B, 1, H, S, D)
        # As sums of products, not matrix products: a token's bits are then the same in any company.
        found = []
        for some in q.split(SLICE, dim=1):
            weights = (some * K).sum(dim=-1).softmax(dim=-1)  # (B, t, H, S)
            found.append((weights.unsqueeze(-1) * V).sum(dim=-2))  # (B, t, H, D)
        return slots.out(torch.cat(found, dim=1).view(-1, H * D))

    def _end_chunk(self, state: State) -> None:
        """One row's chunk is full: write it, in place."""
        state["filled"].zero_()
        state["chunks"].add_(1)
        syncs = self._sync is not None and int(state["chunks"]) >= self.config.sync_every
        if syncs:
            state["chunks"].zero_()
        if not state["frozen"]:
            for i, layer in enumerate(self._layers):
                if state[f"mask.{i}"].any():
                    self._write(layer.write, state, i)
                    if syncs and self._sync is not None:
                        self._write_sync(self._sync, layer.write, state, i)
                    state[f"writes.{i}"].add_(1)
            self._keep(state, range(len(self._layers)))
        for i in range(len(self._layers)):
            state[f"mask.{i}"].zero_()

    def _write(self, w: Write, state: State, i: int) -> None:
        k, v = state[f"k.{i}"][0].float(), state[f"v.{i}"][0].float()  # (H, C, D)
        U = _attention(w.P, k, v, state[f"mask.{i}"][0])
        M = w.M0 + state[f"M.{i}"][0]
        G = torch.sigmoid(w.gate(U) + w.bias)
        state[f"M.{i}"][0] = (1 - G) * M + G * torch.tanh(w.A(M) + w.B(U)) - w.M0

    def _write_sync(self, s: Sync, w: Write, state: State, i: int) -> None:
        H = self.config.num_attention_heads
        n = self.ops.add_norm(state["top"][0].float(), None, s.norm, self.config.rms_norm_eps)  # (C, E)
        M = w.M0 + state[f"M.{i}"][0]
        R = _attention(heads(s.query(M), H), heads(s.key(n), H), heads(s.value(n), H), state[f"mask.{i}"][0])
        G = torch.sigmoid(s.gate(R) + s.bias)
        state[f"M.{i}"][0] = (1 - G) * M + G * torch.tanh(s.out(R)) - w.M0

    @torch.inference_mode()
    def _keep(self, state: State, layers: range) -> None:
        """The leaves that follow from the slots, after those of `layers` have changed, in place. Any rows."""
        for i in layers:
            for name, project in (("slot_k", self._layers[i].read.key), ("slot_v", self._layers[i].read.value)):
                state[f"{name}.{i}"].copy_(self._by_head(project, state[f"M.{i}"]))
        if self._sync is not None:
            Z = torch.stack([state[f"M.{i}"] for i in range(len(self._layers))]).mean(dim=0)
            for name, project in (("sync_k", self._sync.read.key), ("sync_v", self._sync.read.value)):
                state[name].copy_(self._by_head(project, Z))

    def _by_head(self, project: Linear, M: Tensor) -> Tensor:
        """A product of slots (B, S, E): (B, H, S, D)."""
        B, S, E = M.shape
        return project(M.reshape(-1, E)).view(B, S, self.config.num_attention_heads, -1).transpose(1, 2)


def _attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """softmax(q kᵀ/√D) v over the C places where mask (C,) is 1: q (H, S, D), k and v (H, C, D) → (S, E)."""
    scores = (q @ k.transpose(-1, -2)) * q.shape[-1] ** -0.5  # (H, S, C)
    found = scores.masked_fill(mask == 0, -torch.inf).softmax(dim=-1) @ v  # (H, S, D)
    joined: Tensor = found.transpose(0, 1).reshape(q.shape[1], -1)
    return joined
