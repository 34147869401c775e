"""A tiny random Senri on disk, with a byte-level tokeniser: for the real server, where its text is not judged."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

from safetensors.torch import save_file

from support.serving import CHATML, tiny_tokenizer
from support.tiny import SENRI, senri_tensors

TINY = replace(SENRI, vocab_size=258)


def tiny_checkpoint(folder: Path, *, seed: int = 0, template: str = CHATML) -> Path:
    """config.json, model.safetensors and a tokeniser in `folder`."""
    tiny_tokenizer(folder, template)
    config = {"model_type": "senri", "architectures": ["SenriForCausalLM"], "eos_token_id": 257, **asdict(TINY)}
    (folder / "config.json").write_text(json.dumps(config))
    save_file(senri_tensors(TINY, gates=True, seed=seed).tensors, folder / "model.safetensors")
    return folder
