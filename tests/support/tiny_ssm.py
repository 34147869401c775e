"""Small random state space models, for laws and unit tests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from model.hybrid import Config as HybridConfig
from model.hybrid import Hybrid
from model.kernels import Ops
from model.mamba import Config as MambaConfig
from model.mamba import Mamba
from model.mamba2 import Config as Mamba2Config
from model.mamba2 import Mamba2
from model.mamba2 import Sizes as Mamba2Sizes
from support.tiny import Tensors

MAMBA = MambaConfig(
    vocab_size=97, hidden_size=32, num_hidden_layers=3, intermediate_size=64, time_step_rank=3, state_size=8
)

MAMBA2 = Mamba2Config(
    vocab_size=97,
    hidden_size=32,
    num_hidden_layers=3,
    num_heads=4,
    head_dim=16,
    state_size=8,
    n_groups=2,
    tie_word_embeddings=True,
)

HYBRID = HybridConfig.from_hf(
    {
        "vocab_size": 97,
        "hidden_size": 32,
        "num_hidden_layers": 4,
        "intermediate_size": 48,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "mamba_head_dim": 16,
        "mamba_state_size": 8,
        "mamba_n_groups": 2,
        "sliding_window_size": 16,
        "num_sink_tokens": 4,
    }
)


def mamba_tensors(config: MambaConfig, seed: int = 0) -> Tensors:
    """Random weights under `transformers`' names: steps and decays spread over some orders of magnitude, and what is
    read of the state as large as what is read of the token itself."""
    g = torch.Generator().manual_seed(seed)

    def rand(*shape: int, scale: float = 1.0) -> Tensor:
        return torch.randn(*shape, generator=g) * scale

    c = config
    E, d, N, R = c.hidden_size, c.intermediate_size, c.state_size, c.time_step_rank
    tensors = {"backbone.embeddings.weight": rand(c.vocab_size, E), "backbone.norm_f.weight": 1 + rand(E, scale=0.1)}
    if not c.tie_word_embeddings:
        tensors["lm_head.weight"] = rand(c.vocab_size, E)
    for i in range(c.num_hidden_layers):
        layer = {
            "norm.weight": 1 + rand(E, scale=0.1),
            "mixer.in_proj.weight": rand(2 * d, E, scale=1.5 * E**-0.5),
            "mixer.conv1d.weight": rand(d, 1, c.conv_kernel, scale=c.conv_kernel**-0.5),
            "mixer.x_proj.weight": rand(R + 2 * N, d, scale=2 * d**-0.5),
            "mixer.dt_proj.weight": rand(d, R, scale=R**-0.5),
            "mixer.dt_proj.bias": rand(d) - 2,
            "mixer.A_log": rand(d, N),
            "mixer.D": 1 + rand(d, scale=0.3),
            "mixer.out_proj.weight": rand(E, d, scale=2 * d**-0.5),
        }
        if c.use_conv_bias:
            layer["mixer.conv1d.bias"] = rand(d, scale=0.1)
        if c.use_bias:
            layer |= {"mixer.in_proj.bias": rand(2 * d, scale=0.1), "mixer.out_proj.bias": rand(E, scale=0.1)}
        tensors |= {f"backbone.layers.{i}.{name}": weight for name, weight in layer.items()}
    return Tensors(tensors)


def mamba(ops: Ops, *, seed: int = 0, config: MambaConfig = MAMBA, **change: Any) -> Mamba:
    """A model of `config` with fields changed."""
    config = replace(config, **change)
    return Mamba(config, mamba_tensors(config, seed), ops)


def mixer_tensors(c: Mamba2Sizes, g: torch.Generator) -> dict[str, Tensor]:
    """Random weights of one Mamba-2 mixer."""

    def rand(*shape: int, scale: float = 1.0) -> Tensor:
        return torch.randn(*shape, generator=g) * scale

    E, d, H, width = c.hidden_size, c.inner, c.num_heads, c.conv_width
    weights = {
        "in_proj.weight": rand(d + width + H, E, scale=1.5 * E**-0.5),
        "conv1d.weight": rand(width, 1, c.conv_kernel, scale=c.conv_kernel**-0.5),
        "dt_bias": rand(H) - 1,
        "A_log": rand(H),
        "D": 1 + rand(H, scale=0.3),
        "norm.weight": 1 + rand(d, scale=0.1),
        "out_proj.weight": rand(E, d, scale=2 * d**-0.5),
    }
    if c.use_conv_bias:
        weights["conv1d.bias"] = rand(width, scale=0.1)
    if c.use_bias:
        weights |= {"in_proj.bias": rand(d + width + H, scale=0.1), "out_proj.bias": rand(E, scale=0.1)}
    return weights


def mamba2_tensors(config: Mamba2Config, seed: int = 0) -> Tensors:
    """Random weights under `transformers`' names."""
    g = torch.Generator().manual_seed(seed)
    c, E = config, config.hidden_size
    tensors = {
        "backbone.embeddings.weight": torch.randn(c.vocab_size, E, generator=g),
        "backbone.norm_f.weight": 1 + 0.1 * torch.randn(E, generator=g),
    }
    if not c.tie_word_embeddings:
        tensors["lm_head.weight"] = torch.randn(c.vocab_size, E, generator=g)
    for i in range(c.num_hidden_layers):
        tensors[f"backbone.layers.{i}.norm.weight"] = 1 + 0.1 * torch.randn(E, generator=g)
        tensors |= {f"backbone.layers.{i}.mixer.{name}": w for name, w in mixer_tensors(c, g).items()}
    return Tensors(tensors)


def mamba2(ops: Ops, *, seed: int = 0, config: Mamba2Config = MAMBA2, **change: Any) -> Mamba2:
    """A model of `config` with fields changed."""
    config = replace(config, **change)
    return Mamba2(config, mamba2_tensors(config, seed), ops)


def hybrid_tensors(config: HybridConfig, seed: int = 0) -> Tensors:
    """Random weights under the names of `model.hybrid`, large enough that attention is far from uniform."""
    g = torch.Generator().manual_seed(seed)

    def rand(*shape: int, scale: float = 1.0) -> Tensor:
        return torch.randn(*shape, generator=g) * scale

    c = config
    E, F = c.hidden_size, c.intermediate_size
    query, kv = c.num_attention_heads * c.head_dim, c.num_key_value_heads * c.head_dim
    tensors = {"model.embed_tokens.weight": rand(c.vocab_size, E), "model.norm.weight": 1 + rand(E, scale=0.1)}
    if not c.tie_word_embeddings:
        tensors["lm_head.weight"] = rand(c.vocab_size, E)
    for i, kind in enumerate(c.layer_types):
        layer = {
            "input_layernorm.weight": 1 + rand(E, scale=0.1),
            "post_attention_layernorm.weight": 1 + rand(E, scale=0.1),
            "mlp.gate_proj.weight": rand(F, E, scale=E**-0.5),
            "mlp.up_proj.weight": rand(F, E, scale=E**-0.5),
            "mlp.down_proj.weight": rand(E, F, scale=F**-0.5),
        }
        if kind == "mamba2":
            layer |= {f"mixer.{name}": w for name, w in mixer_tensors(c.mamba(), g).items()}
        else:
            layer |= {
                "self_attn.q_proj.weight": rand(query, E, scale=1.5 * E**-0.5),
                "self_attn.k_proj.weight": rand(kv, E, scale=1.5 * E**-0.5),
                "self_attn.v_proj.weight": rand(kv, E, scale=E**-0.5),
                "self_attn.o_proj.weight": rand(E, query, scale=query**-0.5),
            }
        tensors |= {f"model.layers.{i}.{name}": weight for name, weight in layer.items()}
    return Tensors(tensors)


def hybrid(ops: Ops, *, seed: int = 0, config: HybridConfig = HYBRID, **change: Any) -> Hybrid:
    """A model of `config` with fields changed."""
    config = replace(config, **change)
    return Hybrid(config, hybrid_tensors(config, seed), ops)
