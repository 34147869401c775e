"""A small random SMT, for laws and unit tests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from model.kernels import Ops
from model.smt import Config, Smt
from support.tiny import Tensors

SMT = Config(
    vocab_size=97, n_ssm_outputs=3, m_input_tokens=9, stride=4, n_embd=32, n_layer=2, n_head=4, n_inner=48,
    ssm_num_layers=2, ssm_intermediate_size=64, ssm_state_size=8, ssm_time_step_rank=3,
)  # fmt: skip


def smt_tensors(config: Config, seed: int = 0) -> Tensors:
    """Random weights, large enough that attention is far from uniform and that what was written matters."""
    g = torch.Generator().manual_seed(seed)

    def rand(*shape: int, scale: float = 1.0) -> Tensor:
        return torch.randn(*shape, generator=g) * scale

    c = config
    E, F = c.n_embd, c.n_inner
    tensors = {
        "transformer.wte.weight": rand(c.vocab_size, E),
        "transformer.wpe.weight": rand(c.window, E, scale=0.5),
        "pool.q_proj.weight": rand(E, E, scale=2 * E**-0.5),
        "pool.k_proj.weight": rand(E, E, scale=2 * E**-0.5),
        "memory.norm_f.weight": 1 + rand(E, scale=0.1),
    }

    def affine(name: str, out: int, into: int, scale: float = 1.0) -> None:
        tensors[f"{name}.weight"] = rand(out, into, scale=scale * into**-0.5)
        tensors[f"{name}.bias"] = rand(out, scale=0.3)

    for name in ("ln_f", *(f"h.{i}.ln_{j}" for i in range(c.n_layer) for j in (1, 2))):
        tensors[f"transformer.{name}.weight"] = 1 + rand(E, scale=0.1)
        tensors[f"transformer.{name}.bias"] = rand(E, scale=0.1)
    for i in range(c.n_layer):
        layer = f"transformer.h.{i}"
        affine(f"{layer}.attn.c_attn", 3 * E, E, 1.5)
        affine(f"{layer}.attn.c_proj", E, E)
        affine(f"{layer}.mlp.c_fc", F, E)
        affine(f"{layer}.mlp.c_proj", E, F)
    s = c.sizes
    d, N, R, K = s.intermediate_size, s.state_size, s.time_step_rank, s.conv_kernel
    for i in range(c.ssm_num_layers):
        layer = {
            "norm.weight": 1 + rand(E, scale=0.1),
            "mixer.in_proj.weight": rand(2 * d, E, scale=E**-0.5),
            "mixer.conv1d.weight": rand(d, 1, K, scale=K**-0.5),
            "mixer.conv1d.bias": rand(d, scale=0.3),
            "mixer.x_proj.weight": rand(R + 2 * N, d, scale=d**-0.5),
            "mixer.dt_proj.weight": rand(d, R, scale=R**-0.5),
            "mixer.dt_proj.bias": rand(d) - 2,
            "mixer.A_log": rand(d, N),
            "mixer.D": 1 + rand(d, scale=0.3),
            "mixer.out_proj.weight": rand(E, d, scale=2 * d**-0.5),
        }
        tensors |= {f"memory.layers.{i}.{name}": weight for name, weight in layer.items()}
    return Tensors(tensors)


def smt(ops: Ops, *, config: Config = SMT, seed: int = 0, **change: Any) -> Smt:
    """A model of `config` with fields changed."""
    config = replace(config, **change)
    return Smt(config, smt_tensors(config, seed), ops)
