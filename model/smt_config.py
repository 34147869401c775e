"""The shape of a Stride Memory Transformer, read from a config.json and checked; and the leaves of its state.

Field names are the seed's (`n_ssm_outputs`, `m_input_tokens`, `stride`), GPT-2's in `transformers` (`n_embd`,
`n_layer`, `n_head`, `n_inner`), and Mamba's with `ssm_` in front. Invariant: what passes here can be built; what can't
be is refused with a message that names the field and what would do. It knows nothing of weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch

from model.mamba_config import Sizes, check_positive
from model.state import LeafSpec, StateSpec
from model.weights import WeightsError

_DERIVED = ("n_inner", "ssm_intermediate_size", "ssm_time_step_rank")  # from n_embd, where they are 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The shape of an SMT. n_inner: 0 for 4 · n_embd; ssm_intermediate_size: 0 for 2 · n_embd; ssm_time_step_rank: 0
    for n_embd / 16, rounded up."""

    vocab_size: int
    n_ssm_outputs: int = 15
    m_input_tokens: int = 50
    stride: int = 16
    n_embd: int = 768
    n_layer: int = 12
    n_head: int = 12
    n_inner: int = 0
    layer_norm_epsilon: float = 1e-5
    ssm_num_layers: int = 24
    ssm_intermediate_size: int = 0
    ssm_state_size: int = 16
    ssm_conv_kernel: int = 4
    ssm_time_step_rank: int = 0
    ssm_norm_epsilon: float = 1e-5

    def __post_init__(self) -> None:
        """Raise `WeightsError` naming the field that does not fit and what would."""
        for spec in fields(self):
            value, least = getattr(self, spec.name), 0 if spec.name in _DERIVED else 1
            if not spec.name.endswith("epsilon") and (type(value) is not int or value < least):
                raise WeightsError(f"{spec.name} is {value!r}; it must be a whole number, at least {least}")
        check_positive({"layer_norm_epsilon": self.layer_norm_epsilon}, ["layer_norm_epsilon"])
        E = self.n_embd
        for name, derived in zip(_DERIVED, (4 * E, 2 * E, -(-E // 16)), strict=True):
            object.__setattr__(self, name, getattr(self, name) or derived)
        if self.stride > self.m_input_tokens:
            raise WeightsError(
                f"stride ({self.stride}) must be at most m_input_tokens ({self.m_input_tokens}): a token would leave "
                "the window before any write has seen it; lower stride or raise m_input_tokens"
            )
        if E % self.n_head:
            raise WeightsError(f"n_embd ({E}) must be a multiple of n_head ({self.n_head}): the heads divide it evenly")
        self.sizes  # noqa: B018  # raises where Mamba's part does not fit

    @property
    def window(self) -> int:
        """n + m, the positions of a window."""
        return self.n_ssm_outputs + self.m_input_tokens

    @property
    def write_frequency(self) -> float:
        """Writes per token."""
        return 1 / self.stride

    @property
    def sizes(self) -> Sizes:
        """Of the Mamba stack."""
        return Sizes(
            hidden_size=self.n_embd,
            num_hidden_layers=self.ssm_num_layers,
            intermediate_size=self.ssm_intermediate_size,
            time_step_rank=self.ssm_time_step_rank,
            state_size=self.ssm_state_size,
            conv_kernel=self.ssm_conv_kernel,
            layer_norm_epsilon=self.ssm_norm_epsilon,
        )

    @classmethod
    def from_hf(cls, config: Mapping[str, Any], **overrides: Any) -> Config:
        """From the dictionary of a config.json; `overrides` win. Raises `WeightsError`."""
        known = {f.name for f in fields(cls)}
        values = {name: config[name] for name in known if config.get(name) is not None} | overrides
        if unknown := sorted(values.keys() - known):
            raise WeightsError(f"{unknown[0]} is no field of an SMT's configuration")
        if "vocab_size" not in values:
            raise WeightsError("the configuration lacks vocab_size")
        return cls(**values)

    def state_spec(self) -> StateSpec:
        """The leaves of one session. What is empty is zero, and stands on the left of what is not."""
        n, m = self.n_ssm_outputs, self.m_input_tokens
        leaves = {
            "frozen": LeafSpec((), torch.uint8, "1 while the memory is read but not written"),
            "phase": LeafSpec((), torch.int64, "tokens since the last write, 0 to stride − 1"),
            "tokens": LeafSpec((m,), torch.int64, "1 + each of the last m tokens, oldest first; 0 where there is none"),
            "mask": LeafSpec((m,), torch.uint8, "1 where a token may be written: it was not read while frozen"),
            "slots": LeafSpec((n, self.n_embd), torch.float32, "the last n SSM outputs, oldest first"),
            "filled": LeafSpec((), torch.int64, "slots that hold one, 0 to n"),
            "writes": LeafSpec((self.ssm_num_layers + 1,), torch.int64, "writes to each part of the memory"),
        }
        return StateSpec(leaves | self.sizes.leaf_specs())
