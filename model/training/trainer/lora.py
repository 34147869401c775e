"""Low-rank changes of products that are otherwise frozen: W + B·A, rank r (Hu et al. 2021, arXiv 2106.09685).

B is 0 at the start, so that nothing is changed until it is trained. Torch's own parametrizations hold them: the module
computes with the sum, and `checkpoint.tensors_of` exports it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

_ALSO = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class LowRank(nn.Module):
    """W (out, in) → W + B·A, B (out, r), A (r, in)."""

    def __init__(self, out: int, inner: int, rank: int, g: torch.Generator) -> None:
        super().__init__()
        self.A = nn.Parameter(torch.randn(rank, inner, generator=g) * inner**-0.5)
        self.B = nn.Parameter(torch.zeros(out, rank))

    def forward(self, W: Tensor) -> Tensor:
        return W + self.B @ self.A


def add(model: nn.Module, rank: int, seed: int) -> dict[str, nn.Parameter]:
    """To every projection of attention and MLP outside the memories; returns the new parameters by name."""
    g = torch.Generator().manual_seed(seed)
    for name, part in list(model.named_modules()):
        if isinstance(part, nn.Linear) and name.rpartition(".")[2] in _ALSO and ".memory." not in name:
            parametrize.register_parametrization(part, "weight", LowRank(part.out_features, part.in_features, rank, g))
    return {n: p for n, p in model.named_parameters() if ".parametrizations." in n and not n.endswith(".original")}


def share(model: nn.Module, other: nn.Module) -> None:
    """Make `other`, of the same shape, compute with the same low-rank changes and the same frozen products."""
    for name, part in model.named_modules():
        if isinstance(part, nn.Linear) and parametrize.is_parametrized(part):
            twin = other.get_submodule(name)
            owner = other.get_submodule(name.rpartition(".")[0])
            assert isinstance(twin, nn.Linear)
            setattr(owner, name.rpartition(".")[2], part)
