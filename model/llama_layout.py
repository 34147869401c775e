"""What a Llama's checkpoint says of itself, from a config.json or a GGUF file, in Hugging Face's words.

Of a GGUF file, tensor names and row order are translated too; every tensor in it is either known or refused by name.
It reads no weights and knows nothing of torch: `weights.py` reads the tensors, in the row order `rows` gives.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.gguf import GGUF

_TOP = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_LAYER = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_NAME = re.compile(r"(?:blk\.(?P<layer>\d{1,6})\.)?(?P<part>\w+)\.(?P<kind>weight|bias)")


class WeightsError(ValueError):
    """The checkpoint cannot be read or does not fit; the message names the file and the tensor or the key."""


def gguf_config(file: GGUF) -> dict[str, Any]:
    """The keys and values of a Llama's config.json. Raises `WeightsError` naming the key that is missing or wrong."""
    architecture = file.metadata.get("general.architecture")
    if architecture != "llama":
        raise WeightsError(
            f"{file.path}: metadata 'general.architecture': {architecture!r}; of GGUF files only 'llama' is read"
        )
    for key in ("llama.rope.scaling.type", "llama.expert_count"):
        if file.metadata.get(key, "none") not in ("none", 0):
            raise WeightsError(f"{file.path}: metadata {key!r}: {file.metadata[key]!r} is not supported")
    hidden, heads = _count(file, "llama.embedding_length"), _count(file, "llama.attention.head_count")
    head_dim = _count(file, "llama.attention.key_length", hidden // heads)
    if _count(file, "llama.rope.dimension_count", head_dim) != head_dim or head_dim % 2:
        raise WeightsError(f"{file.path}: metadata 'llama.rope.dimension_count': must be even and the width of a head")
    tokens = file.metadata.get("tokenizer.ggml.tokens", [])
    config = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": hidden,
        "intermediate_size": _count(file, "llama.feed_forward_length"),
        "num_hidden_layers": _count(file, "llama.block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": _count(file, "llama.attention.head_count_kv", heads),
        "head_dim": head_dim,
        "vocab_size": _count(file, "llama.vocab_size", len(tokens) if isinstance(tokens, list) else 0),
        "max_position_embeddings": _count(file, "llama.context_length"),
        "rms_norm_eps": _float(file, "llama.attention.layer_norm_rms_epsilon", None),
        "rope_theta": _float(file, "llama.rope.freq_base", 10000.0),
        "hidden_act": "silu",
        "attention_bias": "blk.0.attn_q.bias" in file.tensors,
        "mlp_bias": "blk.0.ffn_up.bias" in file.tensors,
        "tie_word_embeddings": "output.weight" not in file.tensors,
        "bos_token_id": file.metadata.get("tokenizer.ggml.bos_token_id"),
        "eos_token_id": file.metadata.get("tokenizer.ggml.eos_token_id"),
    }
    check_config(config, file.path)
    return config


def gguf_names(file: GGUF) -> dict[str, str]:
    """Hugging Face name → the file's name, for every tensor. Raises `WeightsError` for one that no Llama has."""
    names = {}
    for name in file.tensors:
        match = _NAME.fullmatch(name)
        part = match and (_TOP if match["layer"] is None else _LAYER).get(match["part"])
        if match is None or part is None:
            raise WeightsError(f"{file.path}: tensor {name!r} has no place in a Llama")
        prefix = "" if match["layer"] is None else f"model.layers.{int(match['layer'])}."
        names[f"{prefix}{part}.{match['kind']}"] = name
    return names


def rows(name: str, config: dict[str, Any]) -> NDArray[np.int64] | None:
    """The file's rows in the order of the Hugging Face tensor `name`; None where the order is the same.

    llama.cpp keeps queries and keys for rotation of neighbouring pairs (0,1), (2,3), …; Hugging Face rotates row i of a
    head with row i + D/2. Row order per head: 0, 2, 4, …, 1, 3, 5, ….
    """
    if ".q_proj." in name:
        heads = config["num_attention_heads"]
    elif ".k_proj." in name:
        heads = config["num_key_value_heads"]
    else:
        return None
    order = np.arange(heads * config["head_dim"]).reshape(heads, -1, 2)  # head, pair, which of the pair
    return order.transpose(0, 2, 1).reshape(-1)


def with_defaults(config: dict[str, Any], where: Path) -> dict[str, Any]:
    """A Llama's config.json with what `transformers` assumes where it is silent, and its versions' spellings made one.

    Raises `WeightsError` naming the key that is missing or impossible.
    """
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type", "default")) if isinstance(rope, dict) else rope
    if kind != "default":
        raise WeightsError(f"{where}: rope_parameters: scaling of kind {kind!r} is not supported")
    filled = {"rope_theta": rope.get("rope_theta", 10000.0), "rms_norm_eps": 1e-6, "hidden_act": "silu"} | {
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": False,
        "max_position_embeddings": 2048,
        **{key: value for key, value in config.items() if value is not None},
    }
    for key in ("hidden_size", "num_attention_heads"):
        _check_count(filled, key, where)
    filled.setdefault("head_dim", filled["hidden_size"] // filled["num_attention_heads"])
    filled.setdefault("num_key_value_heads", filled["num_attention_heads"])
    check_config(filled, where)
    return filled


def check_config(config: dict[str, Any], where: Path) -> None:
    """Raises `WeightsError` for sizes that are no sizes."""
    for key in ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads"):
        _check_count(config, key, where)
    for key in ("head_dim", "vocab_size", "max_position_embeddings"):
        _check_count(config, key, where)
    for key in ("rope_theta", "rms_norm_eps"):
        if isinstance(config[key], bool) or not isinstance(config[key], int | float) or not 0 < config[key] < 1e30:
            raise WeightsError(f"{where}: {key}: a positive number is needed, not {config[key]!r}")
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    if heads % kv_heads:
        raise WeightsError(f"{where}: {heads} query heads cannot share {kv_heads} key/value heads evenly")


def _check_count(config: dict[str, Any], key: str, where: Path) -> None:
    value = config.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 1 << 31:
        raise WeightsError(f"{where}: {key}: a positive whole number is needed, not {value!r}")


def _count(file: GGUF, key: str, default: int | None = None) -> int:
    found = file.metadata.get(key, default)
    if isinstance(found, bool) or not isinstance(found, int) or not 0 < found < 1 << 31:
        raise WeightsError(f"{file.path}: metadata {key!r}: a positive number is needed, not {_shown(found)}")
    return found


def _float(file: GGUF, key: str, default: float | None) -> float:
    found = file.metadata.get(key, default)
    if not isinstance(found, float) or not 0 < found < float("inf"):
        raise WeightsError(f"{file.path}: metadata {key!r}: a positive number is needed, not {_shown(found)}")
    return float(str(np.float32(found)))  # the shortest number that is this float32: 1e-05 and not 9.99999974e-06


def _shown(value: object) -> str:
    return "none at all" if value is None else repr(value)[:80]
