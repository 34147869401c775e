"""The model that the settings name, ready to compute with: for the worker, and for what runs without a server.

It knows only `model/`.
"""

from __future__ import annotations

from pathlib import Path

import torch

from model.kernels import Ops
from model.registry import Loaded, load_model, ops_for
from model.source import shipped_memory
from model.tokenizer import Tokenizer, load_tokenizer
from model.weights import WeightsError
from server.settings import Settings


def load_ops(settings: Settings) -> Ops:
    """The kernels that the settings choose for their model. Raises ValueError (also `WeightsError`) saying why not."""
    dtype = None if settings.dtype == "auto" else getattr(torch, settings.dtype)
    return ops_for(settings.model, settings.ops, batch_invariant=settings.batch_invariant, state_dtype=dtype)


def memory_of(settings: Settings) -> Path | None:
    """The file of the memory that the settings choose. Raises `WeightsError` where none comes with the model."""
    if settings.memory == "none":
        return None
    if settings.memory not in ("auto", "shipped"):
        return Path(settings.memory)
    shipped = shipped_memory(settings.model)
    if shipped is None and settings.memory == "shipped":
        raise WeightsError(f"no memory comes with {settings.model}: set memory to none, or to a file")
    return shipped


def load(settings: Settings, ops: Ops) -> tuple[Loaded, Tokenizer]:
    """Model and tokeniser. Raises `WeightsError`, `TokenizerError` or `SourceError` naming what does not fit."""
    tokenizer = load_tokenizer(settings.model, settings.cache_dir)
    loaded = load_model(settings.model, ops, memory=memory_of(settings), sliding_window_size=settings.sliding_window)
    if tokenizer.vocab_size > loaded.model.vocab_size:
        raise WeightsError(
            f"{settings.model}: its tokeniser has {tokenizer.vocab_size:,} tokens, the model "
            f"{loaded.model.vocab_size:,}: they are not of one model"
        )
    return loaded, tokenizer
