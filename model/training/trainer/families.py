"""Which families can be trained from nothing. Of the training, only this module knows more than one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from model import hybrid_config, rsm_config, senri_config, smt_config
from model.hybrid_unroll import HybridUnroll
from model.rsm_unroll import RsmUnroll
from model.smt_unroll import SmtUnroll
from model.training.trainer.task import initialise
from model.unroll import Unroll
from model.weights import WeightsError

Network = Unroll | HybridUnroll | RsmUnroll | SmtUnroll
_ANY = {"model_type", "dtype", "eos_token_id", "bos_token_id", "tie_word_embeddings"}  # a config.json's, of any family


def _own(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that are the family's own, as overrides: among those one that is not known is refused by name."""
    return {name: value for name, value in config.items() if name not in _ANY and value is not None}


TRAINABLE: Mapping[str, Callable[[Mapping[str, Any]], Network]] = {
    # here tie_word_embeddings is a field of the family's own, and read from the whole
    "perennial_hybrid": lambda config: HybridUnroll(hybrid_config.Config.from_hf(config, **_own(config))),
    "rsm": lambda config: RsmUnroll(rsm_config.Config.from_hf({}, **_own(config))),
    "smt": lambda config: SmtUnroll(smt_config.Config.from_hf({}, **_own(config))),
    "senri": lambda config: Unroll(senri_config.Config.from_hf(config)),
}


def trainable(config: Mapping[str, Any], seed: int) -> Network:
    """A new model of the shape of a config.json's fields; its parameters are named as a checkpoint's.

    Raises `WeightsError` for a `model_type` that is not trained here, or a field that does not fit.
    """
    model_type = str(config.get("model_type"))
    if model_type not in TRAINABLE:
        raise WeightsError(f"model_type {model_type!r} is not trained here; known are {', '.join(sorted(TRAINABLE))}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = TRAINABLE[model_type](config)
    if isinstance(model, Unroll):  # made for checkpoints; the others begin as they should
        initialise(model, seed)
    return model
