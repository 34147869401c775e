"""A tiny random checkpoint of every architecture, on disk as a server loads it; one line a family."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from support.serving import tiny_tokenizer
from support.tiny import SENRI, Tensors, senri_tensors
from support.tiny_rsm import RSM, rsm_tensors
from support.tiny_smt import SMT, smt_tensors
from support.tiny_ssm import HYBRID, MAMBA, MAMBA2, hybrid_tensors, mamba2_tensors, mamba_tensors

# Family → its model_type, a small configuration, and random weights for one.
FAMILIES: Mapping[str, tuple[str, Any, Callable[[Any], Tensors]]] = {
    "hybrid": ("perennial_hybrid", HYBRID, hybrid_tensors),
    "mamba": ("mamba", MAMBA, mamba_tensors),
    "mamba2": ("mamba2", MAMBA2, mamba2_tensors),
    "rsm": ("rsm", RSM, rsm_tensors),
    "senri": ("senri", SENRI, lambda config: senri_tensors(config, gates=True)),
    "smt": ("smt", SMT, smt_tensors),
}


def family_checkpoint(family: str, folder: Path, template: str | None = None, **change: Any) -> Path:
    """config.json, model.safetensors and a byte-level tokeniser in `folder`; as a base model has it, without a chat
    template, unless one is given. change: fields of the small configuration."""
    tiny_tokenizer(folder, template)
    model_type, config, tensors = FAMILIES[family]
    sized = replace(config, vocab_size=258, **change)
    (folder / "config.json").write_text(json.dumps({"model_type": model_type, "eos_token_id": 257, **asdict(sized)}))
    save_file(tensors(sized).tensors, folder / "model.safetensors")
    return folder
