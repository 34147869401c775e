"""The shape of a Mamba model, read from a config.json and checked; and the leaves of its state that follow from it.

Field names are those of `transformers`' MambaConfig; a `state-spaces` configuration arrives here already in these words
(`model.mamba_layout`). Invariant: what passes here can be built; what can't be is refused with a message that names the
field and what would do. It knows nothing of weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch

from model.mamba_memory import writes_leaf
from model.state import LeafSpec, StateSpec
from model.weights import WeightsError

_COUNTS = ("hidden_size", "num_hidden_layers", "intermediate_size", "time_step_rank", "state_size")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """A stack of Mamba layers. hidden_size E; intermediate_size d (the paper's expand · E); state_size N;
    conv_kernel K; time_step_rank R. use_bias: of in_proj and out_proj; use_conv_bias: of the convolution."""

    hidden_size: int
    num_hidden_layers: int
    intermediate_size: int
    time_step_rank: int
    state_size: int = 16
    conv_kernel: int = 4
    layer_norm_epsilon: float = 1e-5
    use_bias: bool = False
    use_conv_bias: bool = True

    def __post_init__(self) -> None:
        """Raise `WeightsError` naming the field that does not fit and what would."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        check_counts(values, _COUNTS)
        check_positive(values, ["layer_norm_epsilon"])
        check_width(self.conv_kernel)

    def leaf_specs(self) -> dict[str, LeafSpec]:
        """The leaves of a session, `conv.{i}` and `ssm.{i}` of layer i: float32, zeros at the beginning."""
        d, N, K = self.intermediate_size, self.state_size, self.conv_kernel
        leaves = {}
        for i in range(self.num_hidden_layers):
            leaves[f"conv.{i}"] = LeafSpec((K - 1, d), torch.float32, "last inputs of the convolution, oldest first")
            leaves[f"ssm.{i}"] = LeafSpec((N, d), torch.float32, "state h of the selective scan, N × channels")
        return leaves


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(Sizes):
    """A Mamba language model."""

    vocab_size: int
    tie_word_embeddings: bool = True

    def __post_init__(self) -> None:
        """Raise `WeightsError` naming the field that does not fit and what would."""
        Sizes.__post_init__(self)
        check_counts({"vocab_size": self.vocab_size}, ["vocab_size"])

    @classmethod
    def from_hf(cls, config: Mapping[str, Any], **overrides: Any) -> Config:
        """From the dictionary of a MambaConfig; `overrides` win. Raises `WeightsError`."""
        return cls(**layer_values(config, cls, overrides))

    def state_spec(self) -> StateSpec:
        """The leaves of one session."""
        return StateSpec(self.leaf_specs() | {"writes": writes_leaf(self.num_hidden_layers)})


def check_counts(values: Mapping[str, Any], names: Iterable[str]) -> None:
    """Raise `WeightsError` for one of these fields that is no whole number of at least 1."""
    for name in names:
        value = values[name]
        if isinstance(value, bool) or not isinstance(value, int):
            raise WeightsError(f"{name} is {value!r}; it must be a whole number")
        if value < 1:
            raise WeightsError(f"{name} is {value}; it must be at least 1")


def check_positive(values: Mapping[str, Any], names: Iterable[str]) -> None:
    """Raise `WeightsError` for one of these fields that is no number above 0."""
    for name in names:
        value = values[name]
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e30:
            raise WeightsError(f"{name} is {value!r}; it must be a number above 0")


def check_width(conv_kernel: int) -> None:
    """Raise `WeightsError` for a convolution that would keep no tail."""
    check_counts({"conv_kernel": conv_kernel}, ["conv_kernel"])
    if conv_kernel < 2:
        raise WeightsError(f"conv_kernel is {conv_kernel}; it must be at least 2 (published models have 4)")


def layer_values(config: Mapping[str, Any], cls: type[Sizes], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `cls` in a MambaConfig, with what `transformers` derives where it is silent."""
    if config.get("hidden_act", "silu") != "silu":
        raise WeightsError(f"hidden_act {config['hidden_act']!r} is not supported: only silu is")
    if config.get("time_step_scale", 1.0) != 1.0:
        raise WeightsError(f"time_step_scale {config['time_step_scale']!r} is not supported: only 1.0 is")
    values = {f.name: config[f.name] for f in fields(cls) if config.get(f.name) is not None} | dict(overrides)
    if unknown := sorted(values.keys() - {f.name for f in fields(cls)}):
        raise WeightsError(f"{unknown[0]} is no field of a Mamba's configuration")
    if missing := [name for name in ("hidden_size", "num_hidden_layers") if name not in values]:
        raise WeightsError(f"the configuration lacks {', '.join(missing)}")
    if any(f.name == "vocab_size" for f in fields(cls)) and "vocab_size" not in values:
        raise WeightsError("the configuration lacks vocab_size")
    check_counts(values, ["hidden_size"])
    E = values["hidden_size"]
    if "intermediate_size" not in values:
        expand = config.get("expand", 2)
        check_positive({"expand": expand}, ["expand"])
        values["intermediate_size"] = int(expand * E)
    if values.get("time_step_rank", "auto") == "auto":
        values["time_step_rank"] = -(-E // 16)
    return values
