"""What the loop knows of what is trained, and what tasks have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from model.training.trainer.optimise import Group
from model.unroll.layers import Attention, DeltaMemory

Figures = dict[str, float]


class Task(Protocol):
    """One thing to train. A step's data is a function of (seed, step, micro-batch), so that nothing need be kept to
    go on exactly but what `carried` gives."""

    @property
    def groups(self) -> Sequence[Group]:
        """The parameters that are trained."""
        ...

    def loss(self, step: int, micro: int) -> tuple[Tensor, Figures, int]:
        """The loss () of a micro-batch, figures to note, and how many tokens were read."""
        ...

    def evaluate(self) -> Figures:
        """Figures of what was never trained on: `loss` (what is best is what has the least), and others."""
        ...

    def carried(self) -> dict[str, Tensor]:
        """What goes from step to step beside the parameters."""
        ...

    def resume(self, carried: Mapping[str, Tensor]) -> None:
        """Go on with what `carried` gave."""
        ...

    def export(self, folder: Path, card: Mapping[str, Any]) -> None:
        """Write what can be served. card: figures of the run, kept beside."""
        ...


def device_of(wanted: str) -> torch.device:
    """auto: the GPU where there is one."""
    return torch.device("cuda" if wanted == "auto" and torch.cuda.is_available() else wanted.replace("auto", "cpu"))


def products_in(dtype: str, device: torch.device) -> AbstractContextManager[object]:
    """Autocast to bfloat16 where it is asked for."""
    return torch.autocast(device.type, torch.bfloat16) if dtype == "bfloat16" else nullcontext()


def reached(choices: Sequence[int], step: int, curriculum: int) -> Sequence[int]:
    """Those that may be drawn in a step: the first, and one more after every `curriculum` steps; all where it is 0."""
    return choices[: 1 + step // curriculum] if curriculum else choices


def all_of(module: nn.Module) -> list[Group]:
    """Every parameter of a model: matrices decay, vectors do not."""
    named = dict(module.named_parameters())
    return [
        Group({n: p for n, p in named.items() if p.dim() > 1}),
        Group({n: p for n, p in named.items() if p.dim() <= 1}, decay=False),
    ]


def initialise(module: nn.Module, seed: int, std: float = 0.02) -> None:
    """Matrices and embeddings from N(0, std²), biases 0; norms, slots and the like as their modules have them.

    A gated_delta memory's keys are of the token before, so that what is stored is what follows it; the bias of its
    write strengths stays. The read gates of the other rules are half open: a closed one has no gradient to open it."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, part in module.named_modules():
            if isinstance(part, DeltaMemory) and part.k_conv.weight.shape[1] > 1:
                part.k_conv.weight.zero_()
                part.k_conv.weight[:, -2] = 1.0
            if isinstance(part, Attention) and part.gate is not None:
                part.gate.zero_()
            if not isinstance(part, nn.Linear | nn.Embedding) or name.endswith(".b_proj"):
                continue
            part.weight.copy_(torch.randn(part.weight.shape, generator=g) * std)
            if isinstance(part, nn.Linear) and part.bias is not None:
                part.bias.zero_()
