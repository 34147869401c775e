"""The shape of a hybrid of Mamba-2 and windowed attention, read from a config.json and checked; and its state's leaves.

The format is this project's own, model_type `perennial_hybrid`. Invariant: what passes here can be built; what can't be
is refused with a message that names the field and what would do. It knows nothing of weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch

from model.mamba2_config import Sizes
from model.mamba_config import check_counts, check_positive
from model.mamba_memory import writes_leaf
from model.state import LeafSpec, StateSpec
from model.weights import WeightsError

MAMBA, WINDOW = "mamba2", "window"
_COUNTS = (
    *("vocab_size", "hidden_size", "num_hidden_layers", "intermediate_size", "num_attention_heads"),
    *("num_key_value_heads", "head_dim", "sliding_window_size"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """num_hidden_layers layers, each a mixer and an MLP of width intermediate_size.

    layer_types: of each layer's mixer, "mamba2" or "window"; where silent they alternate, Mamba-2 first (Samba's
    pattern). mamba_*: of the Mamba-2 mixers, as Mamba2Config's without the prefix; mamba_num_heads where silent
    2 · hidden_size / mamba_head_dim. The other fields are of the windows, as Senri's; head_dim where silent
    hidden_size / num_attention_heads. The window is the model's own: the server's setting does not change it.
    """

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    intermediate_size: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    layer_types: tuple[str, ...]
    mamba_num_heads: int
    mamba_head_dim: int = 64
    mamba_state_size: int = 128
    mamba_n_groups: int = 1
    mamba_conv_kernel: int = 4
    sliding_window_size: int = 2048
    num_sink_tokens: int = 0
    rope_theta: float = 10_000.0
    rms_norm_eps: float = 1e-5
    tie_word_embeddings: bool = True

    def __post_init__(self) -> None:
        """Raise `WeightsError` naming the field that does not fit and what would."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        check_counts(values, _COUNTS)
        check_positive(values, ("rope_theta", "rms_norm_eps"))
        if len(self.layer_types) != self.num_hidden_layers:
            raise WeightsError(
                f"layer_types names {len(self.layer_types)} layers; num_hidden_layers is {self.num_hidden_layers}: "
                "they must agree"
            )
        if odd := sorted({kind for kind in self.layer_types if kind not in (MAMBA, WINDOW)}):
            raise WeightsError(f"layer_types names {odd[0]!r}; each must be {MAMBA!r} or {WINDOW!r}")
        if self.num_attention_heads % self.num_key_value_heads:
            raise WeightsError(
                f"num_attention_heads ({self.num_attention_heads}) must be a multiple of "
                f"num_key_value_heads ({self.num_key_value_heads})"
            )
        if self.head_dim % 2:
            raise WeightsError(f"head_dim is {self.head_dim}; RoPE turns pairs, so it must be even")
        if type(self.num_sink_tokens) is not int or not 0 <= self.num_sink_tokens < self.sliding_window_size:
            raise WeightsError(
                f"num_sink_tokens ({self.num_sink_tokens!r}) must be a whole number, at least 0 and less than "
                f"sliding_window_size ({self.sliding_window_size})"
            )
        self.mamba()  # which checks its own

    def mamba(self) -> Sizes:
        """The shape of the Mamba-2 mixers."""
        try:
            return Sizes(
                hidden_size=self.hidden_size,
                num_heads=self.mamba_num_heads,
                head_dim=self.mamba_head_dim,
                state_size=self.mamba_state_size,
                n_groups=self.mamba_n_groups,
                conv_kernel=self.mamba_conv_kernel,
                layer_norm_epsilon=self.rms_norm_eps,
            )
        except WeightsError as error:
            raise WeightsError(f"of the Mamba-2 layers (fields mamba_…): {error}") from error

    def layers(self, kind: str) -> tuple[int, ...]:
        """Indices of the layers with that mixer."""
        return tuple(i for i, other in enumerate(self.layer_types) if other == kind)

    @classmethod
    def from_hf(cls, config: Mapping[str, Any], **overrides: Any) -> Config:
        """From the dictionary of a config.json; `overrides` win. Raises `WeightsError`."""
        known = [f.name for f in fields(cls)]
        values = {name: config[name] for name in known if config.get(name) is not None} | overrides
        if unknown := sorted(values.keys() - set(known)):
            raise WeightsError(f"{unknown[0]} is no field of a hybrid's configuration")
        required = ("vocab_size", "hidden_size", "num_hidden_layers", "intermediate_size", "num_attention_heads")
        if missing := [name for name in required if name not in values]:
            raise WeightsError(f"the configuration lacks {', '.join(missing)}")
        check_counts(values, required)
        heads = values["num_attention_heads"]
        values.setdefault("num_key_value_heads", heads)
        if "head_dim" not in values and values["hidden_size"] % heads:
            raise WeightsError(
                f"num_attention_heads ({heads}) must divide hidden_size ({values['hidden_size']}), or name head_dim"
            )
        values.setdefault("head_dim", values["hidden_size"] // heads)
        alternating = [(MAMBA, WINDOW)[i % 2] for i in range(values["num_hidden_layers"])]
        kinds = values.get("layer_types", alternating)
        if not isinstance(kinds, list | tuple) or not all(isinstance(kind, str) for kind in kinds):
            raise WeightsError(f"layer_types is {kinds!r}; it must name each layer's mixer, {MAMBA!r} or {WINDOW!r}")
        values["layer_types"] = tuple(kinds)
        width = values.get("mamba_head_dim", 64)
        if "mamba_num_heads" not in values:
            check_counts({"mamba_head_dim": width}, ["mamba_head_dim"])
            if 2 * values["hidden_size"] % width:
                raise WeightsError(
                    f"mamba_head_dim ({width}) must divide 2 · hidden_size ({2 * values['hidden_size']}), or name "
                    "mamba_num_heads"
                )
            values["mamba_num_heads"] = 2 * values["hidden_size"] // width
        return cls(**values)

    def state_spec(self, dtype: torch.dtype) -> StateSpec:
        """The leaves of one session, with window keys and values in `dtype`."""
        G, W, D, N = self.num_key_value_heads, self.sliding_window_size, self.head_dim, self.num_sink_tokens
        windowed, mamba = self.layers(WINDOW), self.layers(MAMBA)
        leaves: dict[str, LeafSpec] = {}
        if windowed:
            leaves["origin"] = LeafSpec((), torch.int64, "position at which the window was last emptied")
        for i in windowed:
            leaves[f"k.{i}"] = LeafSpec((G, W, D), dtype, "window keys after RoPE", ring_axis=1)
            leaves[f"v.{i}"] = LeafSpec((G, W, D), dtype, "window values", ring_axis=1)
            if N:
                leaves[f"sink_k.{i}"] = LeafSpec((G, N, D), dtype, "keys of the first tokens, before RoPE")
                leaves[f"sink_v.{i}"] = LeafSpec((G, N, D), dtype, "values of the first tokens")
        for i in mamba:
            leaves |= self.mamba().leaf_specs(i)
        if mamba:
            leaves["writes"] = writes_leaf(len(mamba))
        return StateSpec(leaves)
