"""What a run leaves to be served: a model's directory, or the weights of a memory to be laid over a model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from model import overlay
from model.senri_config import Config
from model.tokenizer import Tokenizer
from model.training.trainer.run import write


def complete(model: Mapping[str, Any], vocab_size: int, tokenizer: Tokenizer) -> dict[str, Any]:
    """config.json of a model to be made: the vocabulary and the end token are the tokeniser's."""
    ends = sorted(tokenizer.eos_ids)
    return {"dtype": "float32", **model, "vocab_size": vocab_size, **({"eos_token_id": ends[0]} if ends else {})}


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """Parameters by the names that checkpoints have; what LoRA adds is added."""
    found: dict[str, Tensor] = {}
    with torch.no_grad():
        for name, parameter in module.named_parameters(remove_duplicate=True):
            if ".parametrizations." not in name:
                found[name] = parameter.detach().cpu().contiguous().clone()
            elif name.endswith(".original"):
                owner, _, weight = name.removesuffix(".original").partition(".parametrizations.")
                found[f"{owner}.{weight}"] = getattr(module.get_submodule(owner), weight).detach().cpu().clone()
    return found


def write_model(
    folder: Path,
    config: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    tokeniser: Path | None,
    card: Mapping[str, Any],
) -> None:
    """config.json, model.safetensors, the files in the tokeniser's folder, and training.json with the figures of the
    run."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in tokeniser.iterdir() if tokeniser else ():
        shutil.copyfile(file, folder / file.name)
    save_file(dict(tensors), folder / "model.safetensors.tmp", metadata={"format": "pt"})
    (folder / "model.safetensors.tmp").replace(folder / "model.safetensors")
    write(folder / "config.json", _json(config))
    write(folder / "training.json", _json(card))


def write_memory(
    folder: Path, config: Config, tensors: Mapping[str, Tensor], base: str, card: Mapping[str, Any]
) -> None:
    """memory.safetensors, to be laid over the model whose fingerprint is `base` (`model.overlay`); training.json."""
    folder.mkdir(parents=True, exist_ok=True)
    overlay.write(folder / "memory.safetensors", config, tensors, base)
    write(folder / "training.json", _json(card))


def _json(body: Mapping[str, Any]) -> bytes:
    return (json.dumps(body, indent=2, default=str) + "\n").encode()
