"""RSM's weights, prepared for a backend; names as `model.rsm_layers` has them, symbols as `model.rsm`."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from model.kernels import Linear, Ops
from model.rsm_config import Config
from model.weights import Tensors, Weight, vector


@dataclass(frozen=True, slots=True)
class Slots:
    """Weights of an attention to slots: norm (E,) of what reads, products, and M₀'s keys and values (H, S, D)."""

    norm: Tensor
    query: Linear
    key: Linear
    value: Linear
    out: Linear
    k0: Tensor
    v0: Tensor


@dataclass(frozen=True, slots=True)
class Write:
    """A layer's write: M₀ (S, E); its queries P by head, (H, S, D); gate's bias b (E,)."""

    M0: Tensor
    P: Tensor
    A: Linear
    B: Linear
    gate: Linear
    bias: Tensor


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer's weights."""

    norm: Tensor
    qkv: Linear
    out: Linear
    read: Slots
    mlp_norm: Tensor
    gate_up: Linear
    down: Linear
    write: Write


@dataclass(frozen=True, slots=True)
class Sync:
    """GlobalSync's weights. read: tokens to slots; the others: slots to tokens."""

    norm: Tensor
    query: Linear
    key: Linear
    value: Linear
    out: Linear
    gate: Linear
    bias: Tensor
    read: Slots


def heads(x: Tensor, number: int) -> Tensor:
    """(N, E) → (H, N, D)."""
    return x.view(len(x), number, -1).transpose(0, 1).contiguous()


class Loader:
    """Reads one checkpoint's layers. Raises `WeightsError` naming the tensor that does not fit."""

    def __init__(self, config: Config, tensors: Tensors, ops: Ops) -> None:
        self.config, self.ops, self._tensors = config, ops, tensors

    def layer(self, name: str) -> Layer:
        """One layer: `model.layers.0`, …"""
        c = self.config
        E, F, S = c.hidden_size, c.intermediate_size, c.num_memory_slots
        M0, P = self.vector(f"{name}.write.slots", S, E), self.vector(f"{name}.write.queries", S, E)
        return Layer(
            norm=self.vector(f"{name}.attn_norm.weight", E),
            qkv=self.ops.linear([self.weight(f"{name}.attn.{x}_proj", E, E) for x in "qkv"]),
            out=self._linear(f"{name}.attn.o_proj", E, E),
            read=self._slots(name, M0),
            mlp_norm=self.vector(f"{name}.mlp_norm.weight", E),
            gate_up=self.ops.linear([self.weight(f"{name}.mlp.{x}_proj", F, E) for x in ("gate", "up")]),
            down=self._linear(f"{name}.mlp.down_proj", E, F),
            write=Write(
                M0=M0,
                P=heads(P, c.num_attention_heads),
                A=self._linear(f"{name}.write.a_proj", E, E),
                B=self._linear(f"{name}.write.b_proj", E, E),
                gate=self._linear(f"{name}.write.g_proj", E, E),
                bias=self.vector(f"{name}.write.g_proj.bias", E),
            ),
        )

    def _slots(self, name: str, M0: Tensor) -> Slots:
        E = self.config.hidden_size
        key, value = (self._linear(f"{name}.read.{x}_proj", E, E) for x in "kv")
        return Slots(
            norm=self.vector(f"{name}.read_norm.weight", E),
            query=self._linear(f"{name}.read.q_proj", E, E),
            key=key,
            value=value,
            out=self._linear(f"{name}.read.o_proj", E, E),
            k0=heads(key(M0), self.config.num_attention_heads),
            v0=heads(value(M0), self.config.num_attention_heads),
        )

    def sync(self, name: str, layers: list[Layer]) -> Sync:
        """GlobalSync, whose slots are the mean of the layers'."""
        E = self.config.hidden_size
        return Sync(
            norm=self.vector(f"{name}.norm.weight", E),
            query=self._linear(f"{name}.q_proj", E, E),
            key=self._linear(f"{name}.k_proj", E, E),
            value=self._linear(f"{name}.v_proj", E, E),
            out=self._linear(f"{name}.o_proj", E, E),
            gate=self._linear(f"{name}.g_proj", E, E),
            bias=self.vector(f"{name}.g_proj.bias", E),
            read=self._slots(name, torch.stack([layer.write.M0 for layer in layers]).mean(dim=0)),
        )

    def weight(self, name: str, *shape: int) -> Weight:
        """`name` with ".weight" behind it."""
        return self._tensors.expect(f"{name}.weight", shape)

    def _linear(self, name: str, *shape: int) -> Linear:
        return self.ops.linear([self.weight(name, *shape)])

    def vector(self, name: str, *shape: int) -> Tensor:
        """float32"""
        return vector(self._tensors.expect(name, shape))
