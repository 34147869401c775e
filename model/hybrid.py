"""A hybrid: layers of Mamba-2 for what is long ago, layers of windowed attention for what was just said, MLPs between.

The pattern is Samba's (Ren et al. 2024, arXiv 2406.07522): Mamba – MLP – SWA – MLP, repeated, here with Mamba-2:

    h ← h + mamba2(RMSNorm(h))   or   h ← h + W_o window_attention(W_qkv RMSNorm(h))
    h ← h + W_down swiglu(W_gate_up RMSNorm(h))

The window layers turn queries and keys with RoPE; they may keep the first tokens as sinks, as Senri's do.

Invariants: everything a session needs is in its state's leaves; the module never changes after it is built; the
residual stream h is float32. Arithmetic is the `Ops` it was given, chosen once at load. Names of weights are a Llama's,
with `mixer` in place of `self_attn` in the layers of Mamba-2. It knows nothing of text.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from model.hybrid_config import MAMBA, WINDOW, Config
from model.kernels import Block, Linear, Ops, Rope, Stack, Window, WindowSpec, rope_frequencies
from model.mamba2 import Mixer, load_mixer
from model.mamba_memory import StateSpaceMemory
from model.state import State
from model.weights import Tensors, Weight, vector

__all__ = ["Config", "Hybrid"]


@dataclass(frozen=True, slots=True)
class Mamba2Layer:
    """A layer of Mamba-2 and its MLP."""

    layer: int
    norm: Tensor
    mixer: Mixer
    post_norm: Tensor
    gate_up: Linear
    down: Linear

    def read(self, ops: Ops, eps: float, h: Tensor, delta: Tensor | None, state: State, lengths: Tensor) -> Tensor:
        """h (B·T, E) in place; returns what is still to be added to it."""
        conv, ssm = state[f"conv.{self.layer}"], state[f"ssm.{self.layer}"]
        found = self.mixer.read(ops, ops.add_norm(h, delta, self.norm, eps), conv, ssm, lengths)
        return self.down(ops.swiglu(self.gate_up(ops.add_norm(h, found, self.post_norm, eps))))


@dataclass(frozen=True, slots=True)
class WindowLayer:
    """A layer of windowed attention and its MLP."""

    layer: int
    stack: Stack


class Hybrid:
    """A loaded model; see the module's docstring. Implements `model.state.Model`."""

    def __init__(self, config: Config, tensors: Tensors, ops: Ops) -> None:
        self.config = config
        self.ops = ops
        self.device = ops.device
        self.spec = config.state_spec(ops.state_dtype)
        self.vocab_size = config.vocab_size
        self._window = WindowSpec(
            heads=config.num_attention_heads,
            kv_heads=config.num_key_value_heads,
            head_dim=config.head_dim,
            window=config.sliding_window_size,
            num_sinks=config.num_sink_tokens,
            inv_freq=rope_frequencies(config.rope_theta, config.head_dim),
        )
        shape = (config.vocab_size, config.hidden_size)
        embedding = tensors.expect("model.embed_tokens.weight", shape)
        self._embed = ops.embedding(embedding)
        self._head = ops.linear([embedding if config.tie_word_embeddings else tensors.expect("lm_head.weight", shape)])
        self._norm = vector(tensors.expect("model.norm.weight", (config.hidden_size,)))
        self._layers = [
            self._load_mamba(i, tensors) if kind == MAMBA else self._load_window(i, tensors)
            for i, kind in enumerate(config.layer_types)
        ]

    def _load_mamba(self, i: int, tensors: Tensors) -> Mamba2Layer:
        norm, post_norm, gate_up, down = self._load_around(i, tensors)
        mixer = load_mixer(self.config.mamba(), tensors, f"model.layers.{i}.mixer", self.ops)
        return Mamba2Layer(i, norm, mixer, post_norm, gate_up, down)

    def _load_window(self, i: int, tensors: Tensors) -> WindowLayer:
        c = self.config
        E, query, kv = c.hidden_size, c.num_attention_heads * c.head_dim, c.num_key_value_heads * c.head_dim

        def weight(name: str, *shape: int) -> Weight:
            return tensors.expect(f"model.layers.{i}.self_attn.{name}_proj.weight", shape)

        norm, post_norm, gate_up, down = self._load_around(i, tensors)
        qkv = self.ops.linear([weight("q", query, E), weight("k", kv, E), weight("v", kv, E)])
        block = Block(norm, qkv, self.ops.linear([weight("o", E, query)]), post_norm, gate_up, down)
        return WindowLayer(i, self.ops.stack([block], c.rms_norm_eps))

    def _load_around(self, i: int, tensors: Tensors) -> tuple[Tensor, Tensor, Linear, Linear]:
        """What both kinds of layer have: two norms, gate and up, down."""
        E, F = self.config.hidden_size, self.config.intermediate_size

        def weight(name: str, *shape: int) -> Weight:
            return tensors.expect(f"model.layers.{i}.{name}.weight", shape)

        return (
            vector(weight("input_layernorm", E)),
            vector(weight("post_attention_layernorm", E)),
            self.ops.linear([weight("mlp.gate_proj", F, E), weight("mlp.up_proj", F, E)]),
            self.ops.linear([weight("mlp.down_proj", E, F)]),
        )

    @property
    def memory(self) -> StateSpaceMemory:
        """The Mamba-2 layers' states, and what can be done to them and to the windows."""
        return StateSpaceMemory(self.config.layers(MAMBA), windowed=bool(self.config.layers(WINDOW)))

    @torch.inference_mode()
    def advance(self, tokens: Tensor, lengths: Tensor, state: State) -> tuple[Tensor, State]:
        """See `model.state.Model.advance`."""
        (B, T), ops, eps = tokens.shape, self.ops, self.config.rms_norm_eps
        if T == 0:
            return torch.zeros(B, self.vocab_size), state
        rope = self._rope(state, lengths, T)
        h = self._embed(tokens.reshape(-1))  # (B·T, E)
        delta: Tensor | None = None  # what the last layer has still to add to h
        for layer in self._layers:
            if isinstance(layer, Mamba2Layer):
                delta = layer.read(ops, eps, h, delta, state, lengths)
            else:
                assert rope is not None
                delta = layer.stack(h, delta, rope, [self._leaves(state, layer.layer)])
        x = ops.add_norm(h, delta, self._norm, eps)
        last = torch.arange(B, device=lengths.device) * T + (lengths - 1).clamp(min=0)  # each row's last real token
        logits = self._head(x[last])
        state["position"].add_(lengths)
        state["pending"].masked_fill_(lengths > 0, 0)
        if "writes" in state:
            state["writes"].add_(lengths[:, None])
        return logits, state

    def _rope(self, state: State, lengths: Tensor, T: int) -> Rope | None:
        """The window counts from where it was last emptied: there it is as new, sinks and all."""
        if "origin" not in state:
            return None
        return self.ops.rope(self._window, state["position"] - state["origin"], lengths, T)

    def _leaves(self, state: State, i: int) -> Window:
        c, k = self.config, state[f"k.{i}"]
        if c.num_sink_tokens:
            return Window(k, state[f"v.{i}"], state[f"sink_k.{i}"], state[f"sink_v.{i}"])
        none = k[:, :, :0]  # (B, G, 0, D): no sinks, no leaves
        return Window(k, state[f"v.{i}"], none, none)
