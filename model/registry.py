"""Which architectures there are, and how a checkpoint becomes a model.

The only module that knows them all; nothing else imports more than one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model import hybrid, mamba, mamba2, rsm, senri, smt
from model.kernels import Ops
from model.overlay import Overlaid
from model.state import Model
from model.weights import Checkpoint, Tensors, WeightsError, open_checkpoint


@dataclass(frozen=True, slots=True)
class Architecture:
    """How a family is made. config: its configuration's class, with `from_hf`; model: its own, of (configuration,
    weights, ops). windowed: the server's setting for sliding windows is its; other families have none, or one they
    were trained with.
    """

    config: Any
    model: Callable[[Any, Tensors, Ops], Model]
    windowed: bool = False

    def configure(self, config: Mapping[str, Any], **overrides: Any) -> Any:
        """Its configuration from a config.json's fields; `overrides` win. Raises `WeightsError`."""
        if not self.windowed:
            overrides.pop("sliding_window_size", None)
        return self.config.from_hf(config, **overrides)


ARCHITECTURES: Mapping[str, Architecture] = {
    "hybrid": Architecture(hybrid.Config, hybrid.Hybrid),
    "mamba": Architecture(mamba.Config, mamba.Mamba),
    "mamba2": Architecture(mamba2.Config, mamba2.Mamba2),
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


def load_model(model: str | Path, ops: Ops, *, memory: Path | None = None, **overrides: Any) -> Loaded:
    """Open, check and prepare a model: a directory, a GGUF file, a name. memory: a trained one, laid over it
    (`model.overlay`). `overrides` are fields of its configuration.

    Raises `WeightsError` naming the file and the tensor, or the field, that does not fit.
    """
    opened = open_checkpoint(model)
    name = architecture_of(opened)
    if memory is not None and name != "senri":
        raise WeightsError(f"{memory}: a memory is laid over a Llama; {opened.path} is a {name}")
    checkpoint = opened if memory is None else Overlaid(opened, memory)
    architecture = ARCHITECTURES[name]
    built = architecture.model(architecture.configure(checkpoint.config, **overrides), checkpoint, ops)
    return Loaded(name, built, checkpoint, f"{checkpoint.fingerprint[:16]}-{built.spec.hash()}")
