"""Checkpoints: a configuration and named weights, from safetensors directories, GGUF files or hub names.

Invariants: weights have Hugging Face's names, shapes and row order wherever they come from; quantised ones stay
quantised (`Q4_1`, `Q8_0`), for the kernels to choose how to compute with them. Opening a checkpoint reads headers only
and holds configuration and tensors against each other; whatever does not fit is a `WeightsError` that names file and
tensor. Only safetensors, GGUF and JSON are read, never pickle.

It knows nothing of architectures beyond the names and sizes of a Llama, and nothing of text.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor

from model import mamba_layout
from model.gguf import BLOCK, GGUF, GGUFError
from model.llama_layout import WeightsError, gguf_config, gguf_names, rows, with_defaults
from model.source import SourceError, locate

__all__ = ["Q4_1", "Q8_0", "Checkpoint", "Tensors", "Weight", "WeightsError", "open_checkpoint", "vector"]

_LAYER = re.compile(r"\blayers\.(\d+)\.")
_PICKLED = {".bin", ".pt", ".pth", ".pkl", ".ckpt"}
_PAGE, _PAGES = 4096, 16  # how much of each tensor goes into a fingerprint


@dataclass(frozen=True, slots=True, eq=False)
class Q4_1:  # noqa: N801  # ggml's own name
    """Four bits a weight: w[o, i] = d[o, i // 32] · q[o, i] + m[o, i // 32].

    q (out, in) uint8, 0 to 15; d, m (out, in / 32) float16 or float32.
    """

    q: Tensor
    d: Tensor
    m: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """(out, in)"""
        return tuple(self.q.shape)

    def dequantise(self) -> Tensor:
        """(out, in) float32"""
        out, _ = self.q.shape
        q = self.q.float().view(out, -1, BLOCK)  # (out, blocks, 32)
        return (self.d.float()[..., None] * q + self.m.float()[..., None]).view(out, -1)

    def rows(self, index: Tensor) -> Q4_1:
        """The rows `index` (n,) int64, in that order."""
        return Q4_1(self.q[index], self.d[index], self.m[index])


@dataclass(frozen=True, slots=True, eq=False)
class Q8_0:  # noqa: N801  # ggml's own name
    """Eight bits a weight: w[o, i] = d[o, i // 32] · q[o, i].

    q (out, in) int8; d (out, in / 32) float16 or float32.
    """

    q: Tensor
    d: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """(out, in)"""
        return tuple(self.q.shape)

    def dequantise(self) -> Tensor:
        """(out, in) float32"""
        out, _ = self.q.shape
        return (self.d.float()[..., None] * self.q.float().view(out, -1, BLOCK)).view(out, -1)

    def rows(self, index: Tensor) -> Q8_0:
        """The rows `index` (n,) int64, in that order."""
        return Q8_0(self.q[index], self.d[index])


Weight = Tensor | Q4_1 | Q8_0


class Tensors(Protocol):
    """Where a model's weights come from: a `Checkpoint`, or a dictionary in tests."""

    def expect(self, name: str, shape: tuple[int, ...]) -> Weight:
        """The tensor of that name, or an error that names it."""
        ...

    def names(self) -> Sequence[str]:
        """Names of all tensors."""
        ...


def vector(weight: Weight) -> Tensor:
    """A norm's, gate's or bias's weights as float32."""
    return (weight if isinstance(weight, Tensor) else weight.dequantise()).float().contiguous()


@dataclass(frozen=True, slots=True)
class _Entry:
    """A tensor that was not read yet: where it is, its shape, how to read it, and its stored form as bytes (n,)."""

    file: Path
    shape: tuple[int, ...]
    read: Callable[[], Weight]
    stored: Callable[[], NDArray[np.uint8]]


class Checkpoint:
    """An open checkpoint.

    path: the directory or the file. config: config.json's keys and values, a Llama's with its defaults filled in.
    """

    def __init__(self, path: Path, config: dict[str, Any], entries: dict[str, _Entry]) -> None:
        """Raises `WeightsError` where the configuration names more or fewer layers than there are."""
        self.path = path
        self.config = config
        self._entries = entries
        self._check_layers()

    def names(self) -> list[str]:
        """Every tensor's name, sorted."""
        return sorted(self._entries)

    def tensor(self, name: str) -> Weight:
        """Read one weight. Raises `WeightsError` where it is missing or cannot be read."""
        return self._read(self._entry(name))

    def expect(self, name: str, shape: Sequence[int]) -> Weight:
        """`tensor`, but a `WeightsError` where the shape is not this one."""
        entry = self._entry(name)
        if entry.shape != tuple(shape):
            raise WeightsError(f"{entry.file}: tensor {name!r} has shape {entry.shape}, not {tuple(shape)}")
        return self._read(entry)

    def expect_type(self, *model_types: str) -> None:
        """Raises `WeightsError` unless the configuration's model_type is one of these."""
        if (found := self.config.get("model_type")) not in model_types:
            raise WeightsError(f"{self.path}: model_type is {found!r}, not {' or '.join(map(repr, model_types))}")

    @cached_property
    def fingerprint(self) -> str:
        """32 hex digits of the content: configuration, names, shapes, and 16 pages of 4 KiB of each tensor.

        The pages are spread evenly from the first to the last, so a tensor up to 64 KiB is read whole. Training changes
        every tensor throughout, so another training or quantisation is told apart; a few damaged bytes need not be.
        """
        digest = hashlib.sha256(json.dumps(self.config, sort_keys=True).encode())
        for name in self.names():
            entry = self._entries[name]
            digest.update(json.dumps([name, entry.shape]).encode())
            stored = entry.stored()
            last = max(stored.size - _PAGE, 0)
            for start in sorted({last * i // (_PAGES - 1) for i in range(_PAGES)}):
                digest.update(stored[start : start + _PAGE].tobytes())
        return digest.hexdigest()[:32]

    def _entry(self, name: str) -> _Entry:
        if name not in self._entries:
            raise WeightsError(f"{self.path}: tensor {name!r} is missing")
        return self._entries[name]

    @staticmethod
    def _read(entry: _Entry) -> Weight:
        try:
            return entry.read()
        except GGUFError as e:
            raise WeightsError(str(e)) from e

    def _check_layers(self) -> None:
        wanted = self.config.get("num_hidden_layers")
        found = {int(match[1]) for name in self._entries if (match := _LAYER.search(name))}
        if found and isinstance(wanted, int) and found != set(range(wanted)):
            odd = min(found ^ set(range(wanted)))
            state = "is there too" if odd in found else "is missing"
            raise WeightsError(
                f"{self.path}: the configuration has {wanted} layers, the weights {len(found)}; layer {odd} {state}"
            )


def open_checkpoint(model: str | Path) -> Checkpoint:
    """Open a directory (config.json and safetensors), a .gguf file, `smollm2-135m`, or a hub name.

    Raises `WeightsError` naming what is missing, damaged or of no use. Reads headers, not weights.
    """
    try:
        path = locate(model, weights=True)
        return _open_directory(path) if path.is_dir() else _open_gguf(path)
    except (SourceError, GGUFError) as e:
        raise WeightsError(str(e)) from e


def _open_gguf(path: Path) -> Checkpoint:
    file = GGUF(path)
    config = gguf_config(file)

    def entry(name: str, stored_name: str) -> _Entry:
        return _Entry(
            path,
            file.tensors[stored_name].shape,
            lambda: _read_gguf(file, stored_name, name, config),
            lambda: file.raw(stored_name),
        )

    return Checkpoint(path, config, {name: entry(name, stored) for name, stored in gguf_names(file).items()})


def _read_gguf(file: GGUF, stored: str, name: str, config: dict[str, Any]) -> Weight:
    info = file.tensors[stored]
    order = rows(name, config)
    if order is not None and len(order) != info.shape[0]:
        raise WeightsError(f"{file.path}: tensor {stored!r} has {info.shape[0]} rows, not {len(order)}")
    if info.type in ("F32", "F16", "BF16"):
        array = file.floats(stored)
        floats = torch.from_numpy(array.copy() if order is None else array[order])
        return floats.view(torch.bfloat16) if info.type == "BF16" else floats
    if info.type == "Q8_0":
        return Q8_0(*map(torch.from_numpy, file.q8_0(stored, order)))
    if info.type == "Q4_1":
        return Q4_1(*map(torch.from_numpy, file.q4_1(stored, order)))
    # Q4_0: w = d·(q − 8) = d·q + (−8·d), exactly, in float32
    q, d = map(torch.from_numpy, file.q4_0(stored, order))
    return Q4_1(q, d.float(), -8 * d.float())


def _open_directory(folder: Path) -> Checkpoint:
    config = mamba_layout.hf_config(_read_json(folder / "config.json"), folder / "config.json")
    if not isinstance(config.get("model_type"), str):
        raise WeightsError(f"{folder / 'config.json'}: model_type is missing")
    if config["model_type"] in ("llama", "senri"):
        config = with_defaults(config, folder / "config.json")
    entries: dict[str, _Entry] = {}
    for file, wanted in _shards(folder).items():
        entries |= _open_shard(file, wanted)
    return Checkpoint(folder, config, entries)


def _shards(folder: Path) -> dict[Path, set[str] | None]:
    """The safetensors files, each with the tensors the index promises (None: whatever is in it)."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        weight_map = _read_json(index).get("weight_map")
        if not isinstance(weight_map, dict) or not all(isinstance(f, str) for f in weight_map.values()):
            raise WeightsError(f"{index}: weight_map is not a table of tensors and files")
        shards: dict[Path, set[str] | None] = {}
        for file in sorted(set(weight_map.values())):
            if Path(file).name != file or not file.endswith(".safetensors"):
                raise WeightsError(f"{index}: {file!r} is not a safetensors file of this directory")
            shards[folder / file] = {name for name, f in weight_map.items() if f == file}
        return shards
    if (single := folder / "model.safetensors").is_file():
        return {single: None}
    pickled = sorted(p.name for p in folder.iterdir() if p.suffix in _PICKLED)
    if pickled:
        raise WeightsError(f"{folder / pickled[0]}: pickled weights are never read; save them as safetensors")
    raise WeightsError(f"{folder}: neither model.safetensors nor model.safetensors.index.json is there")


def _open_shard(file: Path, wanted: set[str] | None) -> dict[str, _Entry]:
    try:
        handle: Any = safe_open(file, framework="pt")  # Any: the package's types leave its methods open
        shapes = {name: tuple(handle.get_slice(name).get_shape()) for name in list(handle.keys())}
    except (SafetensorError, OSError) as e:
        raise WeightsError(f"{file}: cannot be read as safetensors: {e}") from e
    if wanted is not None and (missing := sorted(wanted - set(shapes))):
        raise WeightsError(f"{file}: tensor {missing[0]!r} is missing, the index says it is here")

    def entry(name: str) -> _Entry:
        def read() -> Tensor:
            try:
                tensor: Tensor = handle.get_tensor(name)
            except SafetensorError as e:
                raise WeightsError(f"{file}: tensor {name!r} cannot be read: {e}") from e
            return tensor

        return _Entry(file, shapes[name], read, lambda: read().reshape(-1).view(torch.uint8).numpy())

    return {mamba_layout.hf_name(name): entry(name) for name in shapes}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except OSError as e:
        raise WeightsError(f"{path}: cannot be opened: {e.strerror}") from e
    except ValueError as e:
        raise WeightsError(f"{path}: is not JSON: {e}") from e
    if not isinstance(value, dict):
        raise WeightsError(f"{path}: is not a JSON object")
    return value
