"""A small random RSM, for laws and unit tests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from model.kernels import Ops
from model.rsm import Config, Rsm
from support.tiny import Tensors

RSM = Config(
    vocab_size=97, hidden_size=64, num_hidden_layers=3, num_attention_heads=4, intermediate_size=96,
    num_memory_slots=5, chunk_size=8, sync_every=2,
)  # fmt: skip


def rsm_tensors(config: Config, seed: int = 0) -> Tensors:
    """Random weights, large enough that attention is far from uniform and that slots change much."""
    g = torch.Generator().manual_seed(seed)

    def rand(*shape: int, scale: float = 1.0) -> Tensor:
        return torch.randn(*shape, generator=g) * scale

    E, F, S, V = config.hidden_size, config.intermediate_size, config.num_memory_slots, config.vocab_size
    tensors = {
        "model.embed_tokens.weight": rand(V, E),
        "lm_head.weight": rand(V, E),
        "model.norm.weight": 1 + rand(E) / 9,
    }

    def slots(name: str) -> dict[str, Tensor]:
        names = (f"{name}.{x}_proj.weight" for x in "qkvo")
        return dict(zip(names, (rand(E, E, scale=s * E**-0.5) for s in (1.5, 1.5, 1.0, 1.0)), strict=True))

    for i in range(config.num_hidden_layers):
        layer = f"model.layers.{i}"
        tensors |= {f"{layer}.{n}.weight": 1 + rand(E, scale=0.1) for n in ("attn_norm", "read_norm", "mlp_norm")}
        tensors |= slots(f"{layer}.attn") | slots(f"{layer}.read")
        tensors |= {f"{layer}.mlp.{x}_proj.weight": rand(F, E, scale=E**-0.5) for x in ("gate", "up")}
        tensors |= {f"{layer}.mlp.down_proj.weight": rand(E, F, scale=F**-0.5)}
        tensors |= {f"{layer}.write.{x}_proj.weight": rand(E, E, scale=E**-0.5) for x in "abg"}
        tensors |= {f"{layer}.write.{x}": rand(S, E) for x in ("slots", "queries")}
        tensors |= {f"{layer}.write.g_proj.bias": rand(E)}
    if config.sync_every:
        tensors |= {f"model.sync.{n}.weight": 1 + rand(E, scale=0.1) for n in ("norm", "read_norm")}
        tensors |= slots("model.sync") | slots("model.sync.read")
        tensors |= {"model.sync.g_proj.weight": rand(E, E, scale=E**-0.5), "model.sync.g_proj.bias": rand(E)}
    return Tensors(tensors)


def rsm(ops: Ops, *, config: Config = RSM, seed: int = 0, **change: Any) -> Rsm:
    """A model of `config` with fields changed."""
    config = replace(config, **change)
    return Rsm(config, rsm_tensors(config, seed), ops)
