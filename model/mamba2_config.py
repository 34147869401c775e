"""The shape of a Mamba-2 model, read from a config.json and checked; and the leaves of its state that follow from it.

Field names are those of `transformers`' Mamba2Config; a `state-spaces` configuration arrives here already in these
words (`model.mamba_layout`). Invariant: what passes here can be built; what can't be is refused with a message that
names the field and what would do. It knows nothing of weights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch

from model.mamba_config import check_counts, check_positive, check_width
from model.mamba_memory import writes_leaf
from model.state import LeafSpec, StateSpec
from model.weights import WeightsError


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """A Mamba-2 layer. hidden_size E; num_heads H of head_dim P, together the inner width d = H·P; state_size N;
    n_groups G; conv_kernel K. time_step_limit: Δ's least and greatest. norm_first: the gated norm's order, the authors'
    norm_before_gate (a Mamba2Config's field of that name says nothing: `transformers`, which wrote true, gates first).
    use_bias: of in_proj and out_proj; use_conv_bias: of the convolution."""

    hidden_size: int
    num_heads: int
    head_dim: int = 64
    state_size: int = 128
    n_groups: int = 1
    conv_kernel: int = 4
    layer_norm_epsilon: float = 1e-5
    time_step_limit: tuple[float, float] = (0.0, math.inf)
    norm_first: bool = False
    use_bias: bool = False
    use_conv_bias: bool = True

    def __post_init__(self) -> None:
        """Raise `WeightsError` naming the field that does not fit and what would."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        check_counts(values, ("hidden_size", "num_heads", "head_dim", "state_size", "n_groups"))
        check_positive(values, ["layer_norm_epsilon"])
        check_width(self.conv_kernel)
        if self.num_heads % self.n_groups:
            raise WeightsError(
                f"num_heads ({self.num_heads}) must be a multiple of n_groups ({self.n_groups}): a group's B and C are "
                "shared by equally many heads"
            )
        least, most = self.time_step_limit
        if not 0 <= least <= most:
            raise WeightsError(
                f"time_step_limit is {list(self.time_step_limit)}; it must be [least, greatest] with "
                "0 <= least <= greatest"
            )

    @property
    def inner(self) -> int:
        """d, the width of x, y and the gate."""
        return self.num_heads * self.head_dim

    @property
    def conv_width(self) -> int:
        """Channels of the convolution: x, B and C side by side."""
        return self.inner + 2 * self.n_groups * self.state_size

    def leaf_specs(self, i: int) -> dict[str, LeafSpec]:
        """The leaves of layer i, `conv.{i}` and `ssm.{i}`: float32, zeros at the beginning."""
        H, N, P, K = self.num_heads, self.state_size, self.head_dim, self.conv_kernel
        last = "last inputs of the convolution, oldest first"
        return {
            f"conv.{i}": LeafSpec((K - 1, self.conv_width), torch.float32, last),
            f"ssm.{i}": LeafSpec((H, N, P), torch.float32, "state S of each head, N × P"),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(Sizes):
    """A Mamba-2 language model."""

    vocab_size: int
    num_hidden_layers: int
    tie_word_embeddings: bool = False

    def __post_init__(self) -> None:
        """Raise `WeightsError` naming the field that does not fit and what would."""
        Sizes.__post_init__(self)
        check_counts({f.name: getattr(self, f.name) for f in fields(self)}, ("vocab_size", "num_hidden_layers"))

    @classmethod
    def from_hf(cls, config: Mapping[str, Any], **overrides: Any) -> Config:
        """From the dictionary of a Mamba2Config; `overrides` win. Raises `WeightsError`."""
        values = layer_values(config, cls, overrides)
        if missing := [name for name in ("vocab_size", "num_hidden_layers") if name not in values]:
            raise WeightsError(f"the configuration lacks {', '.join(missing)}")
        return cls(**values)

    def state_spec(self) -> StateSpec:
        """The leaves of one session."""
        leaves: dict[str, LeafSpec] = {}
        for i in range(self.num_hidden_layers):
            leaves |= self.leaf_specs(i)
        return StateSpec(leaves | {"writes": writes_leaf(self.num_hidden_layers)})


def layer_values(config: Mapping[str, Any], cls: type[Sizes], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `cls` in a Mamba2Config, with what `transformers` assumes where it is silent."""
    if config.get("hidden_act", "silu") != "silu":
        raise WeightsError(f"hidden_act {config['hidden_act']!r} is not supported: only silu is")
    known = {f.name for f in fields(cls)}
    values = {name: config[name] for name in known if config.get(name) is not None} | dict(overrides)
    if unknown := sorted(values.keys() - known):
        raise WeightsError(f"{unknown[0]} is no field of this model's configuration")
    if "hidden_size" not in values:
        raise WeightsError("the configuration lacks hidden_size")
    # `transformers`' own defaults, which its published configurations may leave out
    values = {"head_dim": 64, "n_groups": 8} | values
    check_counts(values, ["hidden_size", "head_dim", "n_groups"])
    expand, E, P = config.get("expand", 2), values["hidden_size"], values["head_dim"]
    check_positive({"expand": expand}, ["expand"])
    if expand * E % P:
        raise WeightsError(
            f"expand · hidden_size ({expand * E}) must be a multiple of head_dim ({P}): every head has head_dim columns"
        )
    heads = values.setdefault("num_heads", int(expand * E) // P)
    check_counts(values, ["num_heads"])
    if heads * P != expand * E:
        raise WeightsError(f"num_heads · head_dim ({heads * P}) must be expand · hidden_size ({expand * E})")
    if "time_step_limit" in values:
        values["time_step_limit"] = _limit(values["time_step_limit"])
    return values


def _limit(value: Any) -> tuple[float, float]:
    """Two numbers; newer `transformers` write an infinite one as a table, {"__float__": "Infinity"}."""
    ends = value if isinstance(value, list | tuple) else []
    plain: list[Any] = [end.get("__float__") if isinstance(end, dict) else end for end in ends]
    try:
        least, most = (float(end) for end in plain)
    except (TypeError, ValueError) as error:
        raise WeightsError(f"time_step_limit is {value!r}; it must be two numbers, [least, greatest]") from error
    return least, most
