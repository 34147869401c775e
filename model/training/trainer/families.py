"""Which families can be trained from nothing. Of the training, only this module knows more than one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from model import rsm_config, senri_config
from model.rsm_unroll import RsmUnroll
from model.unroll import Unroll
from model.weights import WeightsError

Network = Unroll | RsmUnroll
TRAINABLE: Mapping[str, Callable[[Mapping[str, Any]], Network]] = {
    "rsm": lambda config: RsmUnroll(rsm_config.Config.from_hf(config)),
    "senri": lambda config: Unroll(senri_config.Config.from_hf(config)),
}


def trainable(config: Mapping[str, Any]) -> Network:
    """A new model of the shape of a config.json's fields; its parameters are named as a checkpoint's.

    Raises `WeightsError` for a `model_type` that is not trained here, or a field that does not fit.
    """
    model_type = str(config.get("model_type"))
    if model_type not in TRAINABLE:
        raise WeightsError(f"model_type {model_type!r} is not trained here; known are {', '.join(sorted(TRAINABLE))}")
    return TRAINABLE[model_type](config)
