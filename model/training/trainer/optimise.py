"""AdamW over groups of parameters, its schedule, and its state as named tensors.

Invariants: what is saved and loaded again goes on bit for bit; nothing is pickled.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from model.training.trainer.settings import Optimiser, TrainingError

_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


@dataclass(frozen=True, slots=True)
class Group:
    """Parameters that learn alike. lr: a factor of the run's own. decay: whether weights decay. after: the step from
    which they learn at all."""

    parameters: Mapping[str, nn.Parameter]
    lr: float = 1.0
    decay: bool = True
    after: int = 0


class Trained:
    """The parameters that are trained, with their optimiser."""

    def __init__(self, groups: Sequence[Group], settings: Optimiser, steps: int) -> None:
        self.groups = [group for group in groups if group.parameters]
        self.settings = settings
        self.steps = steps
        self._adam = torch.optim.AdamW(
            [
                {"params": list(g.parameters.values()), "weight_decay": settings.weight_decay if g.decay else 0.0}
                for g in self.groups
            ],
            lr=settings.lr,
            betas=settings.betas,
        )

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """By name."""
        return {name: parameter for group in self.groups for name, parameter in group.parameters.items()}

    def rate(self, step: int) -> float:
        """The learning rate of a step, from 0: lr·(step+1)/warmup, then lr·(final + (1−final)·(1+cos πt)/2)."""
        s = self.settings
        if step < s.warmup:
            return s.lr * (step + 1) / s.warmup
        t = (step - s.warmup) / max(1, self.steps - s.warmup)
        return s.lr * (s.final + (1 - s.final) * 0.5 * (1 + math.cos(math.pi * min(t, 1.0))))

    def step(self, step: int) -> float:
        """Use the gradients that have gathered; returns their norm before it was clipped. A gradient that is not
        finite changes nothing."""
        rate = self.rate(step)
        for group, held in zip(self.groups, self._adam.param_groups, strict=True):
            held["lr"] = rate * group.lr
            if step < group.after:
                for parameter in group.parameters.values():
                    parameter.grad = None
        norm = float(nn.utils.clip_grad_norm_(self.parameters.values(), self.settings.clip))
        if math.isfinite(norm):
            self._adam.step()
        self._adam.zero_grad(set_to_none=True)
        return norm

    def state(self) -> dict[str, Tensor]:
        """Parameters and moments, as they are."""
        tensors = {f"parameter.{name}": parameter.detach() for name, parameter in self.parameters.items()}
        for name, parameter in self.parameters.items():
            for moment, value in self._adam.state.get(parameter, {}).items():
                tensors[f"{moment}.{name}"] = value
        return tensors

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """What `state` gave. Raises `TrainingError` where the parameters are others."""
        known = {name.partition(".")[2] for name in tensors if name.startswith("parameter.")}
        if odd := known ^ self.parameters.keys():
            raise TrainingError(f"the run was begun with other parameters: {min(odd)} is not in both")
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                if tensors[f"parameter.{name}"].shape != parameter.shape:
                    raise TrainingError(f"the run was begun with another shape of {name}")
                parameter.copy_(tensors[f"parameter.{name}"])
                if f"step.{name}" in tensors:
                    moments = {m: tensors[f"{m}.{name}"] for m in _MOMENTS}
                    self._adam.state[parameter] = {
                        m: t.clone() if m == "step" else t.to(parameter.device) for m, t in moments.items()
                    }
