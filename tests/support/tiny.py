"""Small random models of every registered architecture, for laws and unit tests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from model.infini import Rule
from model.kernels import Ops, choose_ops
from model.senri import Config, Senri
from model.weights import WeightsError

SENRI = Config(
    vocab_size=97,
    hidden_size=64,
    num_hidden_layers=4,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=16,
    intermediate_size=96,
    rope_theta=10_000.0,
    tie_word_embeddings=True,
    sliding_window_size=16,
    num_sink_tokens=4,
    chunk_size=8,
    num_memory_layers=2,
    first_memory_layer=1,
    memory_layer_interval=2,
)


class Tensors:
    """Weights from a dictionary, as a `Checkpoint` would give them."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self.tensors = tensors

    def names(self) -> Sequence[str]:
        return list(self.tensors)

    def expect(self, name: str, shape: tuple[int, ...]) -> Tensor:
        if name not in self.tensors:
            raise WeightsError(f"tensor {name!r} is missing")
        found = self.tensors[name]
        assert tuple(found.shape) == shape, (name, tuple(found.shape), shape)
        return found


def senri_tensors(config: Config, *, gates: bool, seed: int = 0) -> Tensors:
    """Random weights under Llama's names, large enough that attention is far from uniform."""
    g = torch.Generator().manual_seed(seed)

    def rand(*shape: int, scale: float = 1.0) -> Tensor:
        return torch.randn(*shape, generator=g) * scale

    E, F, D = config.hidden_size, config.intermediate_size, config.head_dim
    query, kv = config.num_attention_heads * D, config.num_key_value_heads * D
    tensors = {"model.embed_tokens.weight": rand(config.vocab_size, E), "model.norm.weight": 1 + rand(E, scale=0.1)}
    for i in range(config.num_hidden_layers):
        layer = f"model.layers.{i}"
        tensors |= {
            f"{layer}.input_layernorm.weight": 1 + rand(E, scale=0.1),
            f"{layer}.post_attention_layernorm.weight": 1 + rand(E, scale=0.1),
            f"{layer}.self_attn.q_proj.weight": rand(query, E, scale=1.5 * E**-0.5),
            f"{layer}.self_attn.k_proj.weight": rand(kv, E, scale=1.5 * E**-0.5),
            f"{layer}.self_attn.v_proj.weight": rand(kv, E, scale=E**-0.5),
            f"{layer}.self_attn.o_proj.weight": rand(E, query, scale=query**-0.5),
            f"{layer}.mlp.gate_proj.weight": rand(F, E, scale=E**-0.5),
            f"{layer}.mlp.up_proj.weight": rand(F, E, scale=E**-0.5),
            f"{layer}.mlp.down_proj.weight": rand(E, F, scale=F**-0.5),
        }
        if gates and i in config.memory_layers:
            own = torch.Generator().manual_seed(seed + i)  # so that the other weights are the same without a memory
            if config.memory_rule is Rule.GATED_DELTA:
                tensors |= recall_tensors(config, layer, own)
            else:
                tensors[f"{layer}.self_attn.gate"] = torch.randn(config.num_attention_heads, generator=own)
    return Tensors(tensors)


def recall_tensors(config: Config, layer: str, g: torch.Generator, *, decays: bool = True) -> dict[str, Tensor]:
    """A gated delta memory's random weights: its reads are as large as the attention's, it writes and forgets much."""

    def rand(*shape: int, scale: float = 1.0) -> Tensor:
        return torch.randn(*shape, generator=g) * scale

    E, h, width = config.hidden_size, config.memory_heads, config.memory_conv_width
    K, V = h * config.memory_key_dim, h * config.memory_value_dim
    weights = {
        "mean": rand(E, scale=0.3),
        "q_proj.weight": rand(K, E, scale=E**-0.5),
        "k_proj.weight": rand(K, E, scale=E**-0.5),
        "v_proj.weight": rand(V, E, scale=E**-0.5),
        "q_conv.weight": rand(K, width),
        "k_conv.weight": rand(K, width),
        "v_conv.weight": rand(V, width),
        "b_proj.weight": rand(h, E, scale=E**-0.5),
        "b_proj.bias": rand(h),
        "o_proj.weight": rand(E, V, scale=V**-0.5),
    }
    if config.memory_read_norm:
        weights |= {"norm.weight": 1 + rand(config.memory_value_dim, scale=0.1)}
    if config.memory_read_gate:
        weights |= {"g_proj.weight": rand(h, E, scale=E**-0.5), "g_proj.bias": rand(h)}
    if decays:
        weights |= {"a_proj.weight": rand(h, E, scale=E**-0.5), "dt_bias": rand(h), "A_log": rand(h) - 2}
    return {f"{layer}.memory.{name}": weight for name, weight in weights.items()}


def senri(
    ops: Ops, *, rule: Rule = Rule.LINEAR, gates: bool = True, seed: int = 0, config: Config = SENRI, **change: Any
) -> Senri:
    """A model of `config` with fields changed. gates: whether there is a memory that is read."""
    config = replace(config, memory_rule=rule, **change)
    return Senri(config, senri_tensors(config, gates=gates, seed=seed), ops)


def make_ops(name: str) -> Ops:
    """ "ref", "cpu-f32", "cpu-bf16" or "invariant"; the cpu backend with two threads of its own."""
    if name == "ref":
        return choose_ops("ref")
    dtype = torch.float32 if name == "cpu-f32" else torch.bfloat16
    with torch_threads(2):
        return choose_ops("cpu", batch_invariant=name == "invariant", state_dtype=dtype)


@contextmanager
def torch_threads(n: int) -> Iterator[None]:
    """So many threads for torch's own operations, and for a cpu backend that is made in the meantime."""
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Torch's products of a few numbers take many times as long where they wait for other threads of a busy machine."""
    with torch_threads(1):
        yield
