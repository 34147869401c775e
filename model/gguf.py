"""A memory-mapped reader of GGUF files, versions 2 and 3, little-endian: metadata, tensor directory, blocks.

Invariants: opening reads the metadata and the tensor directory only, checks every count, length and offset against the
size of the file before it is used, and allocates no more than a small multiple of the metadata's own bytes; so a file
of hostile bytes ends in a `GGUFError` that names the file and the key or tensor, and in nothing else. What `GGUF` holds
afterwards is known to lie inside the file.

Why not the `gguf` package's reader: it makes several numpy objects for each of the 98,000 strings of a vocabulary and
needs 4 s for SmolLM2, where this one needs a tenth of a second. The package writes the test files and is the oracle.

numpy only. It knows nothing of torch, of architectures or of tokenisers.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

BLOCK = 32  # weights in a block of Q4_0, Q4_1 and Q8_0
MAX_DIMS = 4  # what ggml allows
MAX_DEPTH = 4  # of arrays in arrays; nothing real nests at all

# Value types of the metadata: number → (struct format, numpy dtype); bool, string and array are apart.
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 10: "Q", 11: "q", 12: "d"}
_BOOL, _STRING, _ARRAY = 7, 8, 9

# Tensor types: number → (name, weights per block, bytes per block).
_TYPES = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", BLOCK, 18),
    3: ("Q4_1", BLOCK, 20),
    8: ("Q8_0", BLOCK, 34),
    30: ("BF16", 1, 2),
}

# What a block is made of: its scale d, its minimum m, and 32 weights q, packed.
_HALF = np.dtype("V16")
_BLOCKS = {
    "Q4_0": np.dtype([("d", "<f2"), ("q", _HALF)]),
    "Q4_1": np.dtype([("d", "<f2"), ("m", "<f2"), ("q", _HALF)]),
    "Q8_0": np.dtype([("d", "<f2"), ("q", "V32")]),
}

Rows = NDArray[np.int64]
Value = int | float | bool | str | list[Any] | NDArray[Any]


class GGUFError(ValueError):
    """The file is not a GGUF file that can be read; the message names the file and the key or tensor."""


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One entry of the directory: type name, shape in row-major order (out, in), first byte, length in bytes."""

    name: str
    type: str
    shape: tuple[int, ...]
    start: int
    nbytes: int


class _Cursor:
    """Reads forward through the bytes; every read is checked against the end."""

    def __init__(self, data: mmap.mmap, path: Path) -> None:
        self.data = data
        self.path = path
        self.at = 0
        self.size = len(data)
        self.where = "header"  # what is being read, for messages

    def fail(self, why: str) -> NoReturn:
        raise GGUFError(f"{self.path}: {self.where}: {why}")

    def need(self, nbytes: int) -> None:
        if nbytes > self.size - self.at:
            self.fail(f"the file ends at byte {self.size}, {nbytes} bytes from byte {self.at} on were expected")

    def number(self, code: str) -> Any:
        size = struct.calcsize(code)
        self.need(size)
        (value,) = struct.unpack_from("<" + code, self.data, self.at)
        self.at += size
        return value

    def string(self) -> str:
        length = self.number("Q")
        self.need(length)
        raw = self.data[self.at : self.at + length]
        self.at += length
        try:
            return raw.decode()
        except UnicodeDecodeError:
            self.fail(f"the text that ends at byte {self.at} is not UTF-8")

    def count(self, what: str, smallest: int) -> int:
        """A count of things of at least `smallest` bytes each, refused where the rest of the file cannot hold them."""
        count: int = self.number("Q")
        if count * smallest > self.size - self.at:
            self.fail(f"{count} {what} cannot fit into the {self.size - self.at} bytes that are left")
        return count

    def value(self, kind: int, depth: int = 0) -> Value:
        if kind == _BOOL:
            return bool(self.number("B"))
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY:
            return self.array(depth + 1)
        if kind not in _NUMBERS:
            self.fail(f"unknown value type {kind}")
        number: int | float = self.number(_NUMBERS[kind])
        return number

    def array(self, depth: int) -> Value:
        if depth > MAX_DEPTH:
            self.fail(f"arrays nested more than {MAX_DEPTH} deep")
        kind = self.number("I")
        if kind in _NUMBERS or kind == _BOOL:
            dtype = np.dtype("?" if kind == _BOOL else _NUMBERS[kind]).newbyteorder("<")
            count = self.count("numbers", dtype.itemsize)
            raw = np.frombuffer(self.data, np.uint8, count * dtype.itemsize, self.at)
            self.at += raw.nbytes
            return raw != 0 if kind == _BOOL else raw.view(dtype).copy()
        if kind == _STRING:
            return self.strings(self.count("strings", 8))
        count = self.count("arrays", 12)
        return [self.value(kind, depth) for _ in range(count)]

    def strings(self, count: int) -> list[str]:
        """`string` for a whole vocabulary: the same checks without a call for each."""
        data, at, size, length_at = self.data, self.at, self.size, struct.Struct("<Q").unpack_from
        texts: list[str] = []
        for _ in range(count):
            end = at + 8 + length_at(data, at)[0] if at + 8 <= size else size + 1
            if end > size:
                self.fail(f"text {len(texts)} of {count} reaches past the end of the file at byte {size}")
            try:
                texts.append(data[at + 8 : end].decode())
            except UnicodeDecodeError:
                self.fail(f"text {len(texts)} of {count} is not UTF-8")
            at = end
        self.at = at
        return texts


class GGUF:
    """An open GGUF file.

    metadata: key → int, float, bool, str, list of str, or numpy array of numbers.
    tensors: name → `TensorInfo`, in the file's order.
    """

    def __init__(self, path: str | Path) -> None:
        """Map the file and read metadata and directory. Raises `GGUFError`."""
        self.path = Path(path)
        try:
            with self.path.open("rb") as f:
                self._data = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as e:  # ValueError: mmap of an empty file
            raise GGUFError(f"{self.path}: cannot be opened: {e}") from e
        cursor = _Cursor(self._data, self.path)
        if self._data[:4] != b"GGUF":
            cursor.fail(f"begins with {self._data[:4]!r}, a GGUF file begins with b'GGUF'")
        cursor.at = 4
        self.version: int = cursor.number("I")
        if self.version not in (2, 3):
            cursor.fail(f"version {self.version}; versions 2 and 3, little-endian, can be read")
        n_tensors = cursor.count("tensors", 24)
        n_values = cursor.count("metadata values", 13)
        self._spans: dict[str, tuple[int, int]] = {}
        self.metadata: Mapping[str, Value] = MappingProxyType(self._read_metadata(cursor, n_values))
        self.tensors: Mapping[str, TensorInfo] = MappingProxyType(self._read_directory(cursor, n_tensors))

    def _read_metadata(self, cursor: _Cursor, count: int) -> dict[str, Value]:
        values: dict[str, Value] = {}
        for i in range(count):
            cursor.where = f"metadata value {i}"
            key = cursor.string()
            cursor.where = f"metadata {key!r}"
            if key in values:
                cursor.fail("is there twice")
            start = cursor.at
            values[key] = cursor.value(cursor.number("I"))
            self._spans[key] = (start, cursor.at)
        return values

    def _read_directory(self, cursor: _Cursor, count: int) -> dict[str, TensorInfo]:
        found: dict[str, tuple[int, tuple[int, ...], int]] = {}
        for i in range(count):
            cursor.where = f"tensor {i}"
            name = cursor.string()
            cursor.where = f"tensor {name!r}"
            if name in found:
                cursor.fail("is there twice")
            n_dims = cursor.number("I")
            if not 1 <= n_dims <= MAX_DIMS:
                cursor.fail(f"{n_dims} dimensions; 1 to {MAX_DIMS} are possible")
            # ggml counts the fastest dimension first
            shape = tuple(cursor.number("Q") for _ in range(n_dims))[::-1]
            found[name] = (cursor.number("I"), shape, cursor.number("Q"))
        alignment = self.metadata.get("general.alignment", 32)
        cursor.where = "metadata 'general.alignment'"
        if isinstance(alignment, bool) or not isinstance(alignment, int) or not 0 < alignment <= 1 << 20:
            cursor.fail(f"{alignment!r} is no alignment")
        base = -(-cursor.at // alignment) * alignment
        tensors = {}
        for name, (kind, shape, offset) in found.items():
            cursor.where = f"tensor {name!r}"
            type_name, nbytes = self._measure(cursor, kind, shape)
            start = base + offset
            if start + nbytes > cursor.size:
                cursor.fail(f"its {nbytes} bytes at {start} reach past the end of the file at {cursor.size}")
            tensors[name] = TensorInfo(name, type_name, shape, start, nbytes)
        return tensors

    @staticmethod
    def _measure(cursor: _Cursor, kind: int, shape: tuple[int, ...]) -> tuple[str, int]:
        """The type's name and the tensor's length in bytes."""
        if kind not in _TYPES:
            known = ", ".join(name for name, _, _ in _TYPES.values())
            cursor.fail(f"tensor type {kind} is not supported (known: {known})")
        type_name, block, block_bytes = _TYPES[kind]
        if 0 in shape or shape[-1] % block:
            cursor.fail(f"shape {shape} is not made of whole {type_name} blocks of {block}")
        return type_name, math.prod(shape) // block * block_bytes

    def span(self, key: str) -> bytes:
        """The bytes of one metadata value as they stand in the file, type included; for digests."""
        start, stop = self._spans[key]
        return self._data[start:stop]

    def raw(self, name: str) -> NDArray[np.uint8]:
        """A tensor's bytes (nbytes,), a read-only view of the file. Raises `GGUFError` for an unknown name."""
        info = self._info(name)
        return np.frombuffer(self._data, np.uint8, info.nbytes, info.start)

    def floats(self, name: str) -> NDArray[Any]:
        """An F32 or F16 tensor as it is, a read-only view of the file; BF16 as its uint16 bits."""
        info = self._info(name, "F32", "F16", "BF16")
        dtype = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}[info.type]
        return self.raw(name).view(dtype).reshape(info.shape)

    def q4_1(
        self, name: str, rows: Rows | None = None
    ) -> tuple[NDArray[np.uint8], NDArray[np.float16], NDArray[np.float16]]:
        """A Q4_1 tensor (out, in): q (out, in) 0..15, d and m (out, in / 32); w = d·q + m. Copies.

        rows: (n,) indices of the rows wanted, in that order; all of them where None. So also below.
        """
        blocks = self._blocks(name, "Q4_1", rows)
        return _nibbles(blocks["q"]), blocks["d"].copy(), blocks["m"].copy()

    def q4_0(self, name: str, rows: Rows | None = None) -> tuple[NDArray[np.uint8], NDArray[np.float16]]:
        """A Q4_0 tensor (out, in): q (out, in) 0..15, d (out, in / 32); w = d·(q − 8). Copies."""
        blocks = self._blocks(name, "Q4_0", rows)
        return _nibbles(blocks["q"]), blocks["d"].copy()

    def q8_0(self, name: str, rows: Rows | None = None) -> tuple[NDArray[np.int8], NDArray[np.float16]]:
        """A Q8_0 tensor (out, in): q (out, in) −128..127, d (out, in / 32); w = d·q. Copies."""
        blocks = self._blocks(name, "Q8_0", rows)
        return blocks["q"].copy().view(np.int8).reshape(blocks.shape[0], -1), blocks["d"].copy()

    def _blocks(self, name: str, type_name: str, rows: Rows | None) -> NDArray[np.void]:
        """A quantised matrix (out, in) as its blocks (out, in / 32), of the type's fields."""
        info = self._info(name, type_name)
        if len(info.shape) != 2:
            raise GGUFError(f"{self.path}: tensor {name!r} is {type_name} and has shape {info.shape}, not (out, in)")
        blocks = self.raw(name).view(_BLOCKS[type_name]).reshape(info.shape[0], -1)
        return blocks if rows is None else blocks[rows]

    def _info(self, name: str, *types: str) -> TensorInfo:
        info = self.tensors.get(name)
        if info is None:
            raise GGUFError(f"{self.path}: tensor {name!r} is not in the file")
        if types and info.type not in types:
            raise GGUFError(f"{self.path}: tensor {name!r} is {info.type}, not {' or '.join(types)}")
        return info


def _nibbles(packed: NDArray[np.void]) -> NDArray[np.uint8]:
    """(out, blocks) of 16 bytes → (out, in): a block's low nibbles are its first half, the high ones its second."""
    out, blocks = packed.shape
    nibbles = packed.copy().view(np.uint8)  # (out, blocks · 16)
    # Halves move as wholes of 16 bytes: several times faster than byte by byte.
    q = np.empty((out, blocks, 2), _HALF)
    q[..., 0] = (nibbles & 15).view(_HALF)
    q[..., 1] = (nibbles >> 4).view(_HALF)
    return q.view(np.uint8).reshape(out, -1)
