"""What a `state-spaces` checkpoint says of itself, in Hugging Face's words.

The authors' own format (`state-spaces/mamba-130m`, `mamba2-130m`): a config.json with `d_model`, `n_layer`, `ssm_cfg`
and no model_type, weights named as `transformers` names them but for the embedding. What is silent there has the
defaults of the authors' code. It reads no weights and knows nothing of torch.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from model.llama_layout import WeightsError

_MARKS = {"d_model", "n_layer", "ssm_cfg"}
# How a model is initialised or computed: of no consequence for what it computes.
_IGNORED = {
    *("dt_min", "dt_max", "dt_init", "dt_scale", "dt_init_floor", "A_init_range", "conv_init"),
    *("chunk_size", "use_mem_eff_path", "use_fast_path"),
}
_BOTH = {"d_state": "state_size", "d_conv": "conv_kernel", "expand": "expand", "bias": "use_bias"}
_OWN = {
    "Mamba1": _BOTH | {"conv_bias": "use_conv_bias", "dt_rank": "time_step_rank"},
    "Mamba2": _BOTH
    | {
        "conv_bias": "use_conv_bias",
        "headdim": "head_dim",
        "ngroups": "n_groups",
        "norm_before_gate": "norm_first",
        "dt_limit": "time_step_limit",
    },
}
_DEFAULTS = {"Mamba1": {"state_size": 16}, "Mamba2": {"state_size": 128, "n_groups": 1, "head_dim": 64}}
# Parts of a layer that other values would change: what is served, and what is said of others.
_ONLY: dict[str, tuple[object, str]] = {
    "rmsnorm": (True, "the gated RMSNorm behind the recurrence"),
    "D_has_hdim": (False, "one D per head"),
    "d_ssm": (None, "layers whose whole width goes through the recurrence"),
}


def hf_config(config: dict[str, Any], where: Path) -> dict[str, Any]:
    """The same in `transformers`' words where it is a `state-spaces` configuration, else as it is.

    Raises `WeightsError` naming the field that is missing or of a model that is not served.
    """
    if "model_type" in config or not config.keys() >= _MARKS:
        return config
    ssm = config["ssm_cfg"]
    if not isinstance(ssm, dict):
        raise WeightsError(f"{where}: ssm_cfg is not a table")
    layer = ssm.get("layer", "Mamba1")
    if not isinstance(layer, str) or layer not in _OWN:
        raise WeightsError(f"{where}: ssm_cfg.layer is {layer!r}; served are {' and '.join(_OWN)}")
    if config.get("rms_norm", True) is not True:
        raise WeightsError(f"{where}: rms_norm is {config['rms_norm']!r}; only models with RMSNorm are served")
    if config.get("attn_layer_idx") or config.get("d_intermediate"):
        field = "attn_layer_idx" if config.get("attn_layer_idx") else "d_intermediate"
        raise WeightsError(
            f"{where}: {field} is {config[field]!r}; of this format only models of state space layers alone are served "
            "(for Mamba-2 with attention and MLPs there is the model_type perennial_hybrid)"
        )
    vocab = _count(config, "vocab_size", where)
    multiple = config.get("pad_vocab_size_multiple", 8)
    if not isinstance(multiple, int) or isinstance(multiple, bool) or multiple < 1:
        raise WeightsError(f"{where}: pad_vocab_size_multiple: a positive whole number is needed, not {multiple!r}")
    return {
        "model_type": layer.lower().removesuffix("1"),
        "hidden_size": _count(config, "d_model", where),
        "num_hidden_layers": _count(config, "n_layer", where),
        "vocab_size": math.ceil(vocab / multiple) * multiple,
        "tie_word_embeddings": config.get("tie_embeddings", True),
        **_DEFAULTS[layer],
        **_ssm(ssm, layer, where),
    }


def hf_name(name: str) -> str:
    """A tensor's name in `transformers`' words."""
    return "backbone.embeddings.weight" if name == "backbone.embedding.weight" else name


def _ssm(ssm: dict[str, Any], layer: str, where: Path) -> dict[str, Any]:
    """`ssm_cfg`'s fields. Raises `WeightsError` for one that is not known."""
    found = {}
    for name, value in ssm.items():
        if name in _OWN[layer]:
            found[_OWN[layer][name]] = value
        elif name in _ONLY and layer == "Mamba2":
            if value != _ONLY[name][0]:
                raise WeightsError(f"{where}: ssm_cfg.{name} is {value!r}; served are models with {_ONLY[name][1]}")
        elif name not in _IGNORED and name != "layer":
            raise WeightsError(f"{where}: ssm_cfg.{name} is not known; it may change what the model computes")
    return found


def _count(config: dict[str, Any], key: str, where: Path) -> int:
    value = config.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 1 << 31:
        raise WeightsError(f"{where}: {key}: a positive whole number is needed, not {value!r}")
    return value
