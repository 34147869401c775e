"""Which architectures there are, and how a checkpoint becomes a model.

The only module that knows them all; nothing else imports more than one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from model import hybrid, mamba, mamba2, rsm, senri, smt
from model.kernels import Kind, Ops, choose_ops
from model.kernels.cuda import INSTEAD, OnDevice, missing
from model.overlay import Overlaid
from model.state import Model
from model.weights import Checkpoint, Tensors, WeightsError, open_checkpoint


@dataclass(frozen=True, slots=True)
class Architecture:
    """How a family is made. config: its configuration's class, with `from_hf`; model: its own, of (configuration,
    weights, ops). windowed: the server's setting for sliding windows is its; other families have none, or one they
    were trained with. on_gpu: there are kernels for all it does on a GPU.
    """

    config: Any
    model: Callable[[Any, Tensors, Ops], Model]
    windowed: bool = False
    on_gpu: bool = False

    def configure(self, config: Mapping[str, Any], **overrides: Any) -> Any:
        """Its configuration from a config.json's fields; `overrides` win. Raises `WeightsError`."""
        if not self.windowed:
            overrides.pop("sliding_window_size", None)
        return self.config.from_hf(config, **overrides)


ARCHITECTURES: Mapping[str, Architecture] = {
    "hybrid": Architecture(hybrid.Config, hybrid.Hybrid),
    "mamba": Architecture(mamba.Config, mamba.Mamba, on_gpu=True),
    "mamba2": Architecture(mamba2.Config, mamba2.Mamba2, on_gpu=True),
    "rsm": Architecture(rsm.Config, rsm.Rsm),
    "senri": Architecture(senri.Config, senri.Senri, windowed=True),
    "smt": Architecture(smt.Config, smt.Smt),
}
# `model_type` of a config.json → the architecture that serves it.
MODEL_TYPES: Mapping[str, str] = {
    "llama": "senri",
    "mamba": "mamba",
    "mamba2": "mamba2",
    "perennial_hybrid": "hybrid",
    "rsm": "rsm",
    "senri": "senri",
    "smt": "smt",
}


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model ready to run. architecture: its family's name. fingerprint: of weights and state specification; a stored
    state goes with it."""

    architecture: str
    model: Model
    checkpoint: Checkpoint | Overlaid
    fingerprint: str


def architecture_of(checkpoint: Checkpoint) -> str:
    """The name of the family that serves it. Raises `WeightsError` where none does."""
    model_type = str(checkpoint.config.get("model_type"))
    if model_type not in MODEL_TYPES:
        known = ", ".join(sorted(MODEL_TYPES))
        raise WeightsError(f"{checkpoint.path}: model_type {model_type!r} is not served; known are {known}")
    return MODEL_TYPES[model_type]


def ops_for(
    model: str | Path, kind: Kind = "auto", *, batch_invariant: bool = False, state_dtype: torch.dtype | None = None
) -> Ops:
    """The backend to load a model with: `choose_ops`, but "auto" is "cuda" where this machine has all that takes and
    the model's family is served there, unless batch-invariance is asked for.

    Raises ValueError as `choose_ops`, and `WeightsError` where the model cannot be opened.
    """
    if kind == "auto" and not batch_invariant and missing() is None:
        family = ARCHITECTURES[architecture_of(open_checkpoint(model))]
        kind = "cuda" if family.on_gpu else "cpu"
    return choose_ops(kind, batch_invariant=batch_invariant, state_dtype=state_dtype)


def load_model(model: str | Path, ops: Ops, *, memory: Path | None = None, **overrides: Any) -> Loaded:
    """Open, check and prepare a model: a directory, a GGUF file, a name. memory: a trained one, laid over it
    (`model.overlay`). `overrides` are fields of its configuration. The weights are read on to the backend's device.

    Raises `WeightsError` naming the file and the tensor, or the field, that does not fit, or the family that the
    backend does not serve.
    """
    opened = open_checkpoint(model)
    name = architecture_of(opened)
    if memory is not None and name != "senri":
        raise WeightsError(f"{memory}: a memory is laid over a Llama; {opened.path} is a {name}")
    architecture = ARCHITECTURES[name]
    elsewhere = ops.device.type != "cpu"
    if elsewhere and not architecture.on_gpu:
        served = " and ".join(other for other, one in ARCHITECTURES.items() if one.on_gpu)
        raise WeightsError(f"{opened.path} is a {name}, and the GPU's kernels serve {served} only: {INSTEAD}")
    checkpoint = opened if memory is None else Overlaid(opened, memory)
    tensors = OnDevice(checkpoint, ops.device) if elsewhere else checkpoint
    built = architecture.model(architecture.configure(checkpoint.config, **overrides), tensors, ops)
    return Loaded(name, built, checkpoint, f"{checkpoint.fingerprint[:16]}-{built.spec.hash()}")
