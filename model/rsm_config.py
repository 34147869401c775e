"""The shape of a Rolling State Memory model, read from a config.json and checked; and the leaves of its state.

Invariant: what passes here can be built; what can't be is refused with a message that names the field and what would
do. It knows nothing of weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch

from model.state import LeafSpec, StateSpec
from model.weights import WeightsError


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The shape of an RSM model.

    num_memory_slots S, of each layer; chunk_size C, the tokens that attend to each other; sync_every: chunks from one
    GlobalSync to the next, 0 for none. intermediate_size: width of the MLP; 0 for 8/3 of hidden_size, up to the next
    multiple of 32 (as many weights as four times hidden_size without a gate).
    """

    vocab_size: int
    hidden_size: int = 256
    num_hidden_layers: int = 8
    num_attention_heads: int = 4
    intermediate_size: int = 0
    num_memory_slots: int = 32
    chunk_size: int = 512
    sync_every: int = 4
    rms_norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        """Raise `WeightsError` naming the field that does not fit and what would."""
        for field in fields(self):
            least = 0 if field.name in ("sync_every", "intermediate_size") else 1
            value = getattr(self, field.name)
            if field.name != "rms_norm_eps" and (type(value) is not int or value < least):
                raise WeightsError(f"{field.name} is {value!r}; it must be a whole number, at least {least}")
        if type(self.rms_norm_eps) not in (int, float) or not 0 < self.rms_norm_eps < 1e30:
            raise WeightsError(f"rms_norm_eps is {self.rms_norm_eps!r}; it must be a number above 0")
        if self.intermediate_size == 0:
            object.__setattr__(self, "intermediate_size", -(-8 * self.hidden_size // (3 * 32)) * 32)
        if self.hidden_size % self.num_attention_heads:
            raise WeightsError(
                f"hidden_size ({self.hidden_size}) must be a multiple of num_attention_heads "
                f"({self.num_attention_heads}): the heads divide it evenly"
            )
        if self.head_dim % 2:
            raise WeightsError(
                f"hidden_size / num_attention_heads is {self.head_dim}; sines and cosines come in pairs, so it must be "
                "even"
            )

    @property
    def head_dim(self) -> int:
        """D"""
        return self.hidden_size // self.num_attention_heads

    @classmethod
    def from_hf(cls, config: Mapping[str, Any], **overrides: Any) -> Config:
        """From the dictionary of a config.json; `overrides` win. Raises `WeightsError`."""
        known = {f.name for f in fields(cls)}
        values = {name: config[name] for name in known if config.get(name) is not None} | overrides
        if unknown := sorted(values.keys() - known):
            raise WeightsError(f"{unknown[0]} is no field of an RSM's configuration")
        if "vocab_size" not in values:
            raise WeightsError("the configuration lacks vocab_size")
        return cls(**values)

    def state_spec(self, dtype: torch.dtype) -> StateSpec:
        """The leaves of one session, with a chunk's keys, values and hidden states in `dtype`."""
        H, C, D, E = self.num_attention_heads, self.chunk_size, self.head_dim, self.hidden_size
        slots, heads = (self.num_memory_slots, E), (H, self.num_memory_slots, D)
        leaves: dict[str, LeafSpec] = {
            "frozen": LeafSpec((), torch.uint8, "1 while the memory is read but not written"),
            "filled": LeafSpec((), torch.int64, "tokens in the chunk being filled, 0 to C − 1"),
            "chunks": LeafSpec((), torch.int64, "chunks since the last GlobalSync"),
        }
        for i in range(self.num_hidden_layers):
            leaves[f"k.{i}"] = LeafSpec((H, C, D), dtype, "keys of the chunk being filled")
            leaves[f"v.{i}"] = LeafSpec((H, C, D), dtype, "values of the chunk being filled")
            leaves[f"mask.{i}"] = LeafSpec((C,), torch.uint8, "1 where the chunk holds a token to be written")
            leaves[f"M.{i}"] = LeafSpec(slots, torch.float32, "memory slots, less the learned ones they began as")
            leaves[f"slot_k.{i}"] = LeafSpec(heads, torch.float32, "R_k M by head, so that a token need not compute it")
            leaves[f"slot_v.{i}"] = LeafSpec(heads, torch.float32, "R_v M by head")
            leaves[f"writes.{i}"] = LeafSpec((), torch.int64, "chunks written since last emptied or cleaned")
        if self.sync_every:
            leaves["top"] = LeafSpec((C, E), dtype, "hidden states of the chunk being filled, for GlobalSync")
            leaves["sync_k"] = LeafSpec(heads, torch.float32, "GlobalSync's keys of the mean of all layers' M")
            leaves["sync_v"] = LeafSpec(heads, torch.float32, "its values")
        return StateSpec(leaves)
