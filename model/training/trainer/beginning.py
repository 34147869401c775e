"""How a memory begins, so that it recalls a little before it is trained (measured: without this, nothing was learned in
minutes).

- W_q = W_k, orthonormal rows: content is looked up by content. The key's convolution takes the token before, the
  query's the token itself: what is stored is "what follows this".
- The layer's input is centred by its mean over some text, so that keys of different tokens differ.
- W_v has orthonormal rows and W_o is a part of its transpose: with values made of embeddings, a read adds the embedding
  of what followed last time, which a tied head can already say.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from model.state import State
from model.training.trainer.settings import Memory
from model.unroll import Unroll
from model.unroll.layers import DeltaMemory, Layer


def begin_memory(model: Unroll, text: Tensor, settings: Memory, seed: int) -> None:
    """Set the memories' parameters, in place. text (B, T) int64: what the means are taken over."""
    means = _means(model, text)
    g = torch.Generator().manual_seed(seed)
    for i, layer in enumerate(model.model.layers):
        if isinstance(layer, Layer) and isinstance(layer.memory, DeltaMemory):
            begin(layer.memory, means[i], settings, settings.scale, g)


def begin(memory: DeltaMemory, mean: Tensor, settings: Memory, scale: float, g: torch.Generator) -> None:
    """Set one memory's parameters, in place. mean (E,): of its layer's input; scale: of W_o, as a share of W_vᵀ."""
    m = memory
    with torch.no_grad():
        m.mean.copy_(mean)
        m.q_proj.weight.copy_(_orthonormal(m.q_proj.weight, g))
        m.k_proj.weight.copy_(m.q_proj.weight if settings.tied else _orthonormal(m.k_proj.weight, g))
        m.v_proj.weight.copy_(_orthonormal(m.v_proj.weight, g))
        m.o_proj.weight.copy_(scale * m.v_proj.weight.T)
        m.b_proj.weight.zero_()
        m.b_proj.bias.fill_(settings.beta)
        m.k_conv.weight.zero_()
        m.k_conv.weight[:, -2 if m.k_conv.weight.shape[1] > 1 else -1] = 1.0


def _orthonormal(like: Tensor, g: torch.Generator) -> Tensor:
    """Rows (n, E): orthonormal in groups of E."""
    rows, width = like.shape
    groups = [torch.linalg.qr(torch.randn(width, width, generator=g))[0] for _ in range(-(-rows // width))]
    return torch.cat(groups)[:rows].to(like.device)


@torch.no_grad()
def _means(model: Unroll, text: Tensor) -> dict[int, Tensor]:
    """Of each memory layer, the mean (E,) of what its attention reads, over a text."""
    found: dict[int, Tensor] = {}

    def keep(i: int, _: nn.Module, __: object, out: Tensor) -> None:
        found[i] = out.float().mean(dim=(0, 1))

    hooks = [
        layer.input_layernorm.register_forward_hook(partial(keep, i))
        for i, layer in enumerate(model.model.layers)
        if isinstance(layer, Layer) and layer.memory is not None
    ]
    try:
        state = State.zeros(model.spec, text.shape[0], text.device)
        lengths = torch.full((text.shape[0],), text.shape[1], dtype=torch.int64, device=text.device)
        model.hidden(text, lengths, state)
    finally:
        for hook in hooks:
            hook.remove()
    return found
