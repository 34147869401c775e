"""Senri: a Llama with a sliding window and sinks in every layer, and an Infini-attention memory in a few.

Every layer attends to the last W positions and the first few tokens (the sinks; Xiao et al. 2023, arXiv 2309.17453);
the memory layers also read and write a compressive memory (`model.infini`). With plain Llama weights every gate is
closed and the model is, within the window, exactly the base model.

    h ← h + W_o · combine(A_mem, A_local)(W_qkv · RMSNorm(h))
    h ← h + W_down · swiglu(W_gate_up · RMSNorm(h))

Invariants: everything a session needs is in its state's leaves (`spec`); the module never changes after it is built.
Arithmetic is the `Ops` it was given (`model.kernels`), chosen once at load. It knows nothing of text or sessions.

Deliberate differences from StreamingLLM: window keys are stored after RoPE at absolute positions (angles in float64),
so a ring block never changes once it is full; sink keys are stored before RoPE and met by a second query re-based to
position min(p, W), so that no distance ever exceeds W.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol

import torch
from torch import Tensor

from model import infini
from model.infini import Rule
from model.kernels import Block, Ops, Rope, Stack, Window, WindowSpec, rope_frequencies
from model.state import LeafSpec, State, StateSpec
from model.weights import Weight, WeightsError

# Absent gates in a checkpoint: sigmoid(−∞) = 0, the base model exactly.
CLOSED = float("-inf")


@dataclass(frozen=True, slots=True)
class Config:
    """The shape of a Senri model; field names as Hugging Face's LlamaConfig and the Senri checkpoints have them."""

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    intermediate_size: int
    rms_norm_eps: float = 1e-5
    rope_theta: float = 10_000.0
    tie_word_embeddings: bool = False
    sliding_window_size: int = 1024
    num_sink_tokens: int = 4
    chunk_size: int = 64
    num_memory_layers: int = 2
    first_memory_layer: int = 10
    memory_layer_interval: int = 10
    memory_rule: Rule = Rule.LINEAR

    def __post_init__(self) -> None:
        """Raise `WeightsError` naming the field that does not fit and what would."""
        for field in (
            "vocab_size",
            "hidden_size",
            "num_hidden_layers",
            "head_dim",
            "sliding_window_size",
            "chunk_size",
        ):
            if getattr(self, field) < 1:
                raise WeightsError(f"{field} is {getattr(self, field)}; it must be at least 1")
        if self.num_key_value_heads < 1 or self.num_attention_heads % self.num_key_value_heads:
            raise WeightsError(
                f"num_attention_heads ({self.num_attention_heads}) must be a multiple of "
                f"num_key_value_heads ({self.num_key_value_heads})"
            )
        if self.head_dim % 2:
            raise WeightsError(f"head_dim is {self.head_dim}; RoPE turns pairs, so it must be even")
        if not 0 <= self.num_sink_tokens < self.sliding_window_size:
            raise WeightsError(
                f"num_sink_tokens ({self.num_sink_tokens}) must be at least 0 and less than "
                f"sliding_window_size ({self.sliding_window_size})"
            )
        if self.num_memory_layers and self.memory_layers[-1] >= self.num_hidden_layers:
            raise WeightsError(
                f"memory layers {list(self.memory_layers)} do not fit a model of {self.num_hidden_layers} layers: "
                "lower first_memory_layer, memory_layer_interval or num_memory_layers"
            )

    @property
    def memory_layers(self) -> tuple[int, ...]:
        """Indices of the layers that carry a memory."""
        first, step = self.first_memory_layer, self.memory_layer_interval
        return tuple(range(first, first + step * self.num_memory_layers, max(step, 1)))[: self.num_memory_layers]

    @classmethod
    def from_hf(cls, config: Mapping[str, Any], **overrides: Any) -> Config:
        """From the dictionary of a Llama's or Senri's config.json; `overrides` win. A Llama that is too shallow for the
        default memory layers gets as many of them as fit."""
        if (config.get("rope_scaling") or {}).get("rope_type", "default") != "default":
            raise WeightsError(f"rope_scaling {config['rope_scaling']!r} is not supported: only plain RoPE is")
        if config.get("hidden_act", "silu") != "silu":
            raise WeightsError(f"hidden_act {config['hidden_act']!r} is not supported: only silu is")
        for bias in ("attention_bias", "mlp_bias"):
            if config.get(bias):
                raise WeightsError(f"{bias} is not supported")
        rope = config.get("rope_parameters") or {}
        values = {f.name: config[f.name] for f in fields(cls) if config.get(f.name) is not None}
        values.setdefault("rope_theta", rope.get("rope_theta", 10_000.0))
        values.setdefault("num_key_value_heads", values.get("num_attention_heads"))
        if "head_dim" not in values and {"hidden_size", "num_attention_heads"} <= values.keys():
            values["head_dim"] = values["hidden_size"] // values["num_attention_heads"]
        values |= overrides
        missing = [f.name for f in fields(cls) if f.name not in values and f.name in _REQUIRED]
        if missing:
            raise WeightsError(f"the configuration lacks {', '.join(missing)}")
        if config.get("model_type") != "senri" and "num_memory_layers" not in values:
            first = values.setdefault("first_memory_layer", 10)
            step = values.setdefault("memory_layer_interval", 10)
            values["num_memory_layers"] = min(2, len(range(first, values["num_hidden_layers"], step)))
        values["memory_rule"] = Rule(values.get("memory_rule", Rule.LINEAR))
        return cls(**values)

    def state_spec(self, dtype: torch.dtype) -> StateSpec:
        """The leaves of one session, with window keys and values in `dtype`."""
        G, W, D, N = self.num_key_value_heads, self.sliding_window_size, self.head_dim, self.num_sink_tokens
        leaves: dict[str, LeafSpec] = {
            "frozen": LeafSpec((), torch.uint8, "1 while the memory is read but not written")
        }
        for i in range(self.num_hidden_layers):
            leaves[f"k.{i}"] = LeafSpec((G, W, D), dtype, "window keys after RoPE", ring_axis=1)
            leaves[f"v.{i}"] = LeafSpec((G, W, D), dtype, "window values", ring_axis=1)
            leaves[f"sink_k.{i}"] = LeafSpec((G, N, D), dtype, "keys of the first tokens, before RoPE")
            leaves[f"sink_v.{i}"] = LeafSpec((G, N, D), dtype, "values of the first tokens")
        for i in self.memory_layers:
            for name, leaf in infini.leaf_specs(G, D, self.chunk_size).items():
                leaves[f"{name}.{i}"] = leaf
        return StateSpec(leaves)


_REQUIRED = {"vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "head_dim", "intermediate_size"}


class Tensors(Protocol):
    """Where the weights come from: a `Checkpoint`, or a dictionary in tests."""

    def expect(self, name: str, shape: tuple[int, ...]) -> Weight:
        """The tensor of that name, or an error that names it."""
        ...

    def names(self) -> Sequence[str]:
        """Names of all tensors."""
        ...


@dataclass(frozen=True, slots=True)
class Plain:
    """Consecutive layers without a memory, run by the backend as one."""

    layers: range
    stack: Stack


@dataclass(frozen=True, slots=True)
class Remembering:
    """One memory layer. gate: (H,) read gate's logits; None where every head's is closed."""

    layer: int
    block: Block
    gate: Tensor | None


class Senri:
    """A loaded model; see the module's docstring. Implements `model.state.Model`."""

    def __init__(self, config: Config, tensors: Tensors, ops: Ops) -> None:
        self.config = config
        self.ops = ops
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
        E = config.hidden_size
        embedding = tensors.expect("model.embed_tokens.weight", (config.vocab_size, E))
        self._embed = ops.embedding(embedding)
        head = embedding if config.tie_word_embeddings else tensors.expect("lm_head.weight", (config.vocab_size, E))
        self._head = ops.linear([head])
        self._norm = _vector(tensors.expect("model.norm.weight", (E,)))
        self._parts = list(self._load(tensors))

    def _load(self, tensors: Tensors) -> Iterator[Plain | Remembering]:
        """The layers, those without a memory joined."""
        c, first = self.config, 0
        for memory in (*c.memory_layers, c.num_hidden_layers):
            if first < memory:
                layers = range(first, memory)
                yield Plain(layers, self.ops.stack([self._load_block(i, tensors) for i in layers], c.rms_norm_eps))
            if memory < c.num_hidden_layers:
                yield Remembering(memory, self._load_block(memory, tensors), self._load_gate(memory, tensors))
            first = memory + 1

    def _load_gate(self, i: int, tensors: Tensors) -> Tensor | None:
        name = f"model.layers.{i}.self_attn.gate"
        if name not in tensors.names():
            return None
        gate = _vector(tensors.expect(name, (self.config.num_attention_heads,)))
        return None if bool((gate == CLOSED).all()) else gate

    def _load_block(self, i: int, tensors: Tensors) -> Block:
        c = self.config
        E, F = c.hidden_size, c.intermediate_size
        query, kv = c.num_attention_heads * c.head_dim, c.num_key_value_heads * c.head_dim

        def weight(name: str, *shape: int) -> Weight:
            return tensors.expect(f"model.layers.{i}.{name}.weight", shape)

        qkv = [
            weight("self_attn.q_proj", query, E),
            weight("self_attn.k_proj", kv, E),
            weight("self_attn.v_proj", kv, E),
        ]
        return Block(
            input_norm=_vector(weight("input_layernorm", E)),
            qkv=self.ops.linear(qkv),
            out=self.ops.linear([weight("self_attn.o_proj", E, query)]),
            post_norm=_vector(weight("post_attention_layernorm", E)),
            gate_up=self.ops.linear([weight("mlp.gate_proj", F, E), weight("mlp.up_proj", F, E)]),
            down=self.ops.linear([weight("mlp.down_proj", E, F)]),
        )

    @torch.inference_mode()
    def advance(self, tokens: Tensor, lengths: Tensor, state: State) -> tuple[Tensor, State]:
        """See `model.state.Model.advance`."""
        c, ops = self.config, self.ops
        B, T = tokens.shape
        if T == 0:
            return torch.zeros(B, c.vocab_size), state
        rope = ops.rope(self._window, state["position"], lengths, T)
        h = self._embed(tokens.reshape(-1))  # (B·T, E)
        delta = None  # what the last layer has still to add to h
        for part in self._parts:
            if isinstance(part, Plain):
                delta = part.stack(h, delta, rope, [_window(state, i) for i in part.layers])
            else:
                delta = self._advance_remembering(part, h, delta, rope, state)
        x = ops.add_norm(h, delta, self._norm, c.rms_norm_eps)
        last = torch.arange(B) * T + (lengths - 1).clamp(min=0)  # each row's last real token
        logits = self._head(x[last] if T > 1 else x).float()
        state["position"].add_(lengths)
        state["pending"].masked_fill_(lengths > 0, 0)
        return logits, state

    def _advance_remembering(
        self, part: Remembering, h: Tensor, delta: Tensor | None, rope: Rope, state: State
    ) -> Tensor:
        """A layer with a memory: h (B·T, E) in place; returns what is still to be added to it."""
        ops, block, eps = self.ops, part.block, self.config.rms_norm_eps
        qkv = block.qkv(ops.add_norm(h, delta, block.input_norm, eps))  # (B·T, (H+2G)·D)
        local = ops.window_attention(qkv, rope, **_window(state, part.layer)._asdict())  # (B·T, H·D)
        a = self._remember(part, qkv, local, state, rope.lengths)
        x = ops.add_norm(h, block.out(a), block.post_norm, eps)
        return block.down(ops.swiglu(block.gate_up(x)))

    def _remember(self, part: Remembering, qkv: Tensor, local: Tensor, state: State, lengths: Tensor) -> Tensor:
        """qkv (B·T, (H+2G)·D), local (B·T, H·D) → combined (B·T, H·D); the memory is read and written."""
        i = part.layer
        c = self.config
        H, G, D, B = c.num_attention_heads, c.num_key_value_heads, c.head_dim, state.rows
        heads = qkv.view(B, -1, H + 2 * G, D)
        q, k, v = heads[:, :, :H], heads[:, :, H : H + G], heads[:, :, H + G :]
        memory = infini.Memory(
            M=state[f"M.{i}"],
            z=state[f"z.{i}"],
            seg_k=state[f"seg_k.{i}"],
            seg_v=state[f"seg_v.{i}"],
            seg_mask=state[f"seg_mask.{i}"],
            frozen=state["frozen"],
        )
        where = state["position"].tolist()
        out = infini.attend(
            memory,
            q,
            k,
            v,
            local.view(B, -1, H, D),
            part.gate,
            c.memory_rule,
            where,
            lengths.tolist(),
            singly=self.ops.batch_invariant,
        )
        return out.view(-1, H * D)


def _window(state: State, i: int) -> Window:
    return Window(state[f"k.{i}"], state[f"v.{i}"], state[f"sink_k.{i}"], state[f"sink_v.{i}"])


def _vector(weight: Weight) -> Tensor:
    """A norm's or gate's weights as float32."""
    return (weight if isinstance(weight, Tensor) else weight.dequantise()).float().contiguous()
