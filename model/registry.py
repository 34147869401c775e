"""Which architectures there are, and how a checkpoint becomes a model.

The only module that knows them all; nothing else imports more than one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model import hybrid, mamba, mamba2, rsm, smt
from model.kernels import Ops
from model.senri import Config, Senri
from model.state import Model
from model.weights import Checkpoint, WeightsError, open_checkpoint


def _senri(checkpoint: Checkpoint, ops: Ops, overrides: Mapping[str, Any]) -> Senri:
    return Senri(Config.from_hf(checkpoint.config, **overrides), checkpoint, ops)


def _mamba(checkpoint: Checkpoint, ops: Ops, overrides: Mapping[str, Any]) -> mamba.Mamba:
    return mamba.Mamba(mamba.Config.from_hf(checkpoint.config, **_windowless(overrides)), checkpoint, ops)


def _mamba2(checkpoint: Checkpoint, ops: Ops, overrides: Mapping[str, Any]) -> mamba2.Mamba2:
    return mamba2.Mamba2(mamba2.Config.from_hf(checkpoint.config, **_windowless(overrides)), checkpoint, ops)


def _hybrid(checkpoint: Checkpoint, ops: Ops, overrides: Mapping[str, Any]) -> hybrid.Hybrid:
    return hybrid.Hybrid(hybrid.Config.from_hf(checkpoint.config, **_windowless(overrides)), checkpoint, ops)


def _rsm(checkpoint: Checkpoint, ops: Ops, overrides: Mapping[str, Any]) -> rsm.Rsm:
    return rsm.Rsm(rsm.Config.from_hf(checkpoint.config, **_windowless(overrides)), checkpoint, ops)


def _smt(checkpoint: Checkpoint, ops: Ops, overrides: Mapping[str, Any]) -> smt.Smt:
    return smt.Smt(smt.Config.from_hf(checkpoint.config, **_windowless(overrides)), checkpoint, ops)


def _windowless(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Without the server's setting for sliding windows, which says nothing to a model that has none, or one that was
    trained with its own."""
    return {name: value for name, value in overrides.items() if name != "sliding_window_size"}


Build = Callable[[Checkpoint, Ops, Mapping[str, Any]], Model]
ARCHITECTURES: Mapping[str, Build] = {
    "hybrid": _hybrid,
    "mamba": _mamba,
    "mamba2": _mamba2,
    "rsm": _rsm,
    "senri": _senri,
    "smt": _smt,
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
    """A model ready to run. fingerprint: of weights and state specification; a stored state goes with it."""

    model: Model
    checkpoint: Checkpoint
    fingerprint: str


def load_model(model: str | Path, ops: Ops, **overrides: Any) -> Loaded:
    """Open, check and prepare a model: a directory, a GGUF file, a name. `overrides` are fields of its configuration.

    Raises `WeightsError` naming the file and the tensor, or the field, that does not fit.
    """
    checkpoint = open_checkpoint(model)
    model_type = str(checkpoint.config.get("model_type"))
    if model_type not in MODEL_TYPES:
        known = ", ".join(sorted(MODEL_TYPES))
        raise WeightsError(f"{checkpoint.path}: model_type {model_type!r} is not served; known are {known}")
    built = ARCHITECTURES[MODEL_TYPES[model_type]](checkpoint, ops, overrides)
    return Loaded(built, checkpoint, f"{checkpoint.fingerprint[:16]}-{built.spec.hash()}")
