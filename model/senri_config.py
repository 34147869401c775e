"""The shape of a Senri model, read from a config.json and checked; and the leaves of its state that follow from it.

Invariant: what passes here can be built; what can't be is refused with a message that names the field and what would
do. It knows nothing of weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch

from model import infini
from model.infini import Rule
from model.state import LeafSpec, StateSpec
from model.weights import WeightsError

VALUE_SOURCES = ("embedding", "hidden")
READS = ("layer", "end")
WRITES = ("now", "leaving")


@dataclass(frozen=True, slots=True)
class Config:
    """The shape of a Senri model; field names as Hugging Face's LlamaConfig and the Senri checkpoints have them.

    memory_layer_indices: the layers with a memory; where None, num_memory_layers of them from first_memory_layer on.
    memory_heads … memory_read_norm: of the rule gated_delta (`model.remembering`). The first three are
        num_attention_heads, head_dim and head_dim where they are given as 0.
    memory_value_source: what a memory's values are made of: the token's "embedding", or the layer's "hidden" input.
    memory_reads: where a read is added to the residual stream: beside its "layer"'s attention, or at the "end", before
        the last norm, so that the layers compute what they would without a memory.
    memory_writes: when a token is written: "now", as it is read; or as it is "leaving" the window, so that the memory
        holds what the window does not, and a text that fits in the window is the base model's.
    memory_key_degree: how many channels of keys and queries are multiplied (`model.gated_delta.feature_map`).
    memory_read_gate, memory_read_norm: a read is weighed by a gate per head; it goes through a norm.
    share_memory, num_memories: of the rules linear and delta; see `model.infini` and `model.routing`.
    """

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
    memory_layer_indices: tuple[int, ...] | None = None
    memory_rule: Rule = Rule.LINEAR
    share_memory: bool = False
    num_memories: int = 1
    memory_heads: int = 0
    memory_key_dim: int = 0
    memory_value_dim: int = 0
    memory_conv_width: int = 4
    memory_key_degree: int = 1
    memory_value_source: str = "embedding"
    memory_reads: str = "layer"
    memory_writes: str = "now"
    memory_read_gate: bool = False
    memory_read_norm: bool = True

    def __post_init__(self) -> None:
        """Raise `WeightsError` naming the field that does not fit and what would."""
        for field, instead in (
            ("memory_heads", "num_attention_heads"),
            ("memory_key_dim", "head_dim"),
            ("memory_value_dim", "head_dim"),
        ):
            object.__setattr__(self, field, getattr(self, field) or getattr(self, instead))
        for field in _AT_LEAST_ONE:
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
        self._check_memory_layers()
        self._check_rule()

    def _check_memory_layers(self) -> None:
        layers, depth = self.memory_layers, self.num_hidden_layers
        for field in ("num_memory_layers", "first_memory_layer"):
            if getattr(self, field) < 0:
                raise WeightsError(f"{field} is {getattr(self, field)}; it must be at least 0")
        if self.memory_layer_indices is not None:
            whole = all(type(i) is int for i in layers)
            if (
                not whole
                or list(layers) != sorted(set(layers))
                or (layers and not 0 <= layers[0] <= layers[-1] < depth)
            ):
                raise WeightsError(
                    f"memory_layer_indices {list(layers)} must be different layers in rising order, "
                    f"each from 0 to {depth - 1}"
                )
        elif layers and layers[-1] >= depth:
            raise WeightsError(
                f"memory layers {list(layers)} do not fit a model of {depth} layers: "
                "lower first_memory_layer, memory_layer_interval or num_memory_layers"
            )

    def _check_rule(self) -> None:
        worded = (("memory_value_source", VALUE_SOURCES), ("memory_reads", READS), ("memory_writes", WRITES))
        for field, words in worded:
            if getattr(self, field) not in words:
                raise WeightsError(f"{field} is {getattr(self, field)!r}; it must be {' or '.join(words)}")
        for field in ("memory_read_gate", "memory_read_norm"):
            if type(getattr(self, field)) is not bool:
                raise WeightsError(f"{field} is {getattr(self, field)!r}; it must be true or false")
        if self.memory_rule is Rule.GATED_DELTA:
            if self.share_memory:
                raise WeightsError(
                    "share_memory does not go with memory_rule gated_delta, which writes at every token: set it to "
                    "false, or memory_rule to linear or delta"
                )
            if self.num_memories > 1:
                raise WeightsError(
                    f"num_memories ({self.num_memories}) does not go with memory_rule gated_delta, which writes no "
                    "segments that could be routed: set it to 1, or memory_rule to linear or delta"
                )
        if self.num_memories >= self.head_dim:
            raise WeightsError(
                f"num_memories ({self.num_memories}) must be less than head_dim ({self.head_dim}): each has a "
                "direction of its own there"
            )

    @property
    def memory_layers(self) -> tuple[int, ...]:
        """Indices of the layers that carry a memory."""
        if self.memory_layer_indices is not None:
            return self.memory_layer_indices
        first, step = self.first_memory_layer, self.memory_layer_interval
        return tuple(first + step * n for n in range(self.num_memory_layers))

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
        if values.get("memory_layer_indices") is not None:
            values["memory_layer_indices"] = tuple(values["memory_layer_indices"])
        rule = values.get("memory_rule", Rule.LINEAR)
        if rule not in list(Rule):
            raise WeightsError(f"memory_rule is {rule!r}; it must be one of {', '.join(Rule)}")
        values["memory_rule"] = Rule(rule)
        return cls(**values)

    def state_spec(self, dtype: torch.dtype) -> StateSpec:
        """The leaves of one session, with window keys and values in `dtype`."""
        G, W, D, N = self.num_key_value_heads, self.sliding_window_size, self.head_dim, self.num_sink_tokens
        leaves: dict[str, LeafSpec] = {
            "frozen": LeafSpec((), torch.uint8, "1 while the memory is read but not written"),
            "origin": LeafSpec((), torch.int64, "position at which the window was last emptied"),
        }
        for i in range(self.num_hidden_layers):
            leaves[f"k.{i}"] = LeafSpec((G, W, D), dtype, "window keys after RoPE", ring_axis=1)
            leaves[f"v.{i}"] = LeafSpec((G, W, D), dtype, "window values", ring_axis=1)
            leaves[f"sink_k.{i}"] = LeafSpec((G, N, D), dtype, "keys of the first tokens, before RoPE")
            leaves[f"sink_v.{i}"] = LeafSpec((G, N, D), dtype, "values of the first tokens")
        for i in self.memory_layers:
            for name, leaf in self._memory_leaves(i, dtype).items():
                leaves[f"{name}.{i}"] = leaf
        return StateSpec(leaves)

    def memory_owner(self, layer: int) -> int:
        """The layer whose leaves M, z and writes a memory layer uses: its own, or the first where one is shared."""
        return self.memory_layers[0] if self.share_memory else layer

    def _memory_leaves(self, layer: int, dtype: torch.dtype) -> dict[str, LeafSpec]:
        if self.memory_rule is not Rule.GATED_DELTA:
            own = layer == self.memory_owner(layer)
            return infini.leaf_specs(
                self.num_key_value_heads, self.head_dim, self.chunk_size, self.num_memories if own else 0
            )
        h, K, V, before = self.memory_heads, self.memory_key_dim, self.memory_value_dim, self.memory_conv_width - 1
        leaves = {
            "M": LeafSpec((h, K, V), torch.float32, "memory matrix, key side × value side, per memory head"),
            "conv_q": LeafSpec((before, h * K), torch.float32, "last inputs of the queries' convolution"),
            "conv_k": LeafSpec((before, h * K), torch.float32, "last inputs of the keys' convolution"),
            "conv_v": LeafSpec((before, h * V), torch.float32, "last inputs of the values' convolution"),
            "writes": LeafSpec((), torch.int64, "tokens written since the memory was last emptied or cleaned"),
        }
        if self.memory_writes == "leaving":
            # A head's inputs of key and value, logits of β and α, and 1: what was never read is all 0.
            shape = (h, self.sliding_window_size, K + V + 3)
            leaves["waiting"] = LeafSpec(shape, dtype, "what the window's tokens will write", ring_axis=1)
        return leaves


_AT_LEAST_ONE = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "head_dim",
    "sliding_window_size",
    "chunk_size",
    "memory_layer_interval",
    "num_memories",
    "memory_heads",
    "memory_key_dim",
    "memory_value_dim",
    "memory_conv_width",
    "memory_key_degree",
)
_REQUIRED = {"vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "head_dim", "intermediate_size"}
