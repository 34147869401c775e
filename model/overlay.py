"""A trained memory as one file, laid over the model it was trained for.

memory.safetensors holds the memory's weights, and others that were changed with it, under a checkpoint's names; in its
metadata the fields of the configuration that go with them, and the fingerprint of the model underneath. The model's own
file stays as it is, quantised or not.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from model.senri_config import Config
from model.weights import Checkpoint, Weight, WeightsError

# What a memory says of the configuration; everything else is the model's own.
FIELDS = tuple(f.name for f in fields(Config) if f.name.startswith("memory_") and f.name != "memory_layer_interval")


def write(path: Path, config: Config, tensors: Mapping[str, Tensor], base: str) -> None:
    """base: the fingerprint of the model it belongs to."""
    said = {name: value for name, value in asdict(config).items() if name in FIELDS}
    metadata = {"format": "perennial memory 1", "base": base, "config": json.dumps(said)}
    beside = path.with_name(path.name + ".tmp")
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, beside, metadata=metadata)
    beside.replace(path)


class Overlaid:
    """A checkpoint with a memory laid over it. Implements `model.weights.Tensors`; its config and fingerprint are of
    both."""

    def __init__(self, base: Checkpoint, path: Path) -> None:
        """Raises `WeightsError` where the file is no memory, or another model's."""
        self.base, self.path = base, path
        try:
            handle: Any = safe_open(path, framework="pt")  # Any: the package's types leave its methods open
            self._shapes = {n: tuple(handle.get_slice(n).get_shape()) for n in list(handle.keys())}
            metadata = handle.metadata() or {}
        except (SafetensorError, OSError) as e:
            raise WeightsError(f"{path}: cannot be read as safetensors: {e}") from e
        self._handle = handle
        if not str(metadata.get("format", "")).startswith("perennial memory"):
            raise WeightsError(f"{path}: is no trained memory")
        if metadata.get("base") != base.fingerprint:
            raise WeightsError(
                f"{path}: was trained for the model {metadata.get('base')}, not for {base.path} ({base.fingerprint})"
            )
        try:
            said = json.loads(metadata["config"])
        except (KeyError, ValueError) as e:
            raise WeightsError(f"{path}: its configuration cannot be read") from e
        self.config = {**base.config, **{name: said[name] for name in FIELDS if name in said}}

    def names(self) -> Sequence[str]:
        """Names of all tensors, sorted."""
        return sorted({*self.base.names(), *self._shapes})

    def expect(self, name: str, shape: tuple[int, ...]) -> Weight:
        """See `Tensors.expect`."""
        if name not in self._shapes:
            return self.base.expect(name, shape)
        if self._shapes[name] != tuple(shape):
            raise WeightsError(f"{self.path}: tensor {name!r} has shape {self._shapes[name]}, not {tuple(shape)}")
        tensor: Tensor = self._handle.get_tensor(name)
        return tensor

    @cached_property
    def fingerprint(self) -> str:
        """32 hex digits of the model's and of the memory's whole file."""
        return hashlib.sha256(self.base.fingerprint.encode() + self.path.read_bytes()).hexdigest()[:32]
