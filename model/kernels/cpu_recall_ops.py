"""The memory layer of the cpu backend: shapes and dtypes checked, then addresses for `cpu_recall`.

Where the widths of a key or a value are no multiples of 8, or too small for the degree, the operation is the
reference's, a token of a row at a time: slow, the same at any batch.
"""

from __future__ import annotations

import math
import struct
from array import array
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.kernels.cpu_linear import Product
from model.kernels.cpu_recall import FEW, recall_kernel
from model.kernels.cpu_ssm_ops import whole
from model.kernels.emit import LANES
from model.kernels.interface import Recollection, Rope
from model.kernels.pool import Pool, phase
from model.recall import Fixed, Leaves, recall_ref

if TYPE_CHECKING:
    from model.kernels.cpu import CpuOps

ARGS = 2  # words before a phase's arguments
PROGRAMS = 64  # numbers of rows and tokens whose phases are kept
_ONE = torch.ones(1, dtype=torch.int64)


class CpuRecall:
    """`Ops.recall`, compiled."""

    pool: Pool

    def recall(
        self, x: Tensor, values: Tensor | None, fixed: Fixed, *, leaves: Leaves, place: Tensor, lengths: Tensor
    ) -> Tensor:
        if not fits(fixed):
            return _singly(x, values, fixed, leaves, place, lengths)
        if (values is None) != fixed.own_values:
            raise ValueError("values are given where they are not among the products")
        rows, N, P, V = len(lengths), len(x), sum(fixed.widths), fixed.heads * fixed.value_dim
        lengths, place = lengths.contiguous(), place.contiguous()
        out = torch.empty(N, V)
        words = Words(fixed)
        given = (0, 0) if values is None else (whole(values, N, V), 4 * V)
        where = words.leaves(leaves, rows)
        with self.pool.lock:
            scratch = self.pool.scratch(words.scratch(rows))
            words.put(whole(x, N, P), 4 * P, given, out.data_ptr(), scratch)
            words.fill(where, place, lengths, N // rows)
            self.pool.run(words.phase(rows))
        return out


def fits(fixed: Fixed) -> bool:
    """Whether the widths are made for vectors."""
    # `multiply_row` overwrites what lies behind a key.
    few = LANES * (fixed.degree - 1) <= min(fixed.key_dim, fixed.value_dim)
    return fixed.key_dim % LANES == 0 and fixed.value_dim % LANES == 0 and few


class Words:
    """What the kernel reads of one memory, filled in from call to call. Raises ValueError where its constants do not
    fit."""

    def __init__(self, fixed: Fixed) -> None:
        h, d_k, d_v = fixed.heads, fixed.key_dim, fixed.value_dim
        K, V, before, P = h * d_k, h * d_v, len(fixed.taps) - 1, sum(fixed.widths)
        self._fixed = fixed  # keeps what the addresses are of
        self._own = 8 * K if fixed.own_values else 0  # bytes before the values among the products
        bias = whole(fixed.bias, P)
        dt_bias, rate = (0, 0) if fixed.decays is None else (whole(one, h) for one in fixed.decays)
        self._words = array("q", [0] * 38)
        # In the order that `cpu_recall` names.
        self._words[4:6] = array("q", [bias, bias + self._own if self._own else 0])
        constants = [
            whole(fixed.taps, before + 1, 2 * K + V),
            before,
            dt_bias,
            rate,
            0 if fixed.norm is None else whole(fixed.norm, d_v),
            struct.unpack("<q", struct.pack("<ff", fixed.eps, d_v))[0],
            int(fixed.gated),
        ]
        self._words[7:14] = array("q", constants)
        self._words[33:36] = array("q", [h, d_k, d_v])
        self._words[37] = fixed.degree
        self._at = self._words.buffer_info()[0]
        self._shapes = tuple(
            (torch.float32, shape, _strides(shape)) for shape in ((h, d_k, d_v), (before, K), (before, K), (before, V))
        )

    def scratch(self, rows: int) -> int:
        """Bytes of scratch for so many rows."""
        fixed = self._fixed
        return 4 * rows * fixed.heads * (3 * fixed.key_dim + 2 * fixed.value_dim + FEW)

    def leaves(self, leaves: Leaves, rows: int) -> list[int]:
        """Addresses and bytes between rows of the leaves; of the ring also its length and the bytes of a number.

        Raises ValueError where one does not fit."""
        found: list[int] = []
        for x, (dtype, shape, strides) in zip(leaves, self._shapes, strict=False):
            assert x is not None  # those before the ring always are there
            found += _address(x, rows, dtype, shape, strides)
        ring, size = leaves.waiting, (0, 0)
        if ring is None:
            found += 0, 0
        else:
            fixed = self._fixed
            W, dtype = ring.shape[2], torch.float32 if ring.dtype == torch.float32 else torch.bfloat16
            shape = (fixed.heads, W, fixed.key_dim + fixed.value_dim + 3)
            found += _address(ring, rows, dtype, shape, _strides(shape))
            size = W, ring.itemsize
        found += _address(leaves.writes, rows, torch.int64, (), ())
        found += _address(leaves.frozen, rows, torch.uint8, (), ())
        return [*found, *size]

    def put(self, x: int, x_row: int, values: tuple[int, int], out: int, scratch: int) -> None:
        """Addresses of the products, the bytes of their rows, the same of the values, and of what is returned."""
        words = self._words
        words[0], words[1] = x, x_row
        words[2], words[3] = (x + self._own, x_row) if self._own else values
        words[6], words[36] = out, scratch

    def fill(self, leaves: list[int], place: Tensor, lengths: Tensor, T: int) -> None:
        """What `leaves` found, and where the rows' tokens are."""
        self._words[14:33] = array("q", [*leaves, place.data_ptr(), lengths.data_ptr(), T])

    def phase(self, rows: int) -> tuple[int, ...]:
        """The kernel over all rows' heads."""
        return phase(recall_kernel(), rows * self._fixed.heads, self._at)


@dataclass(frozen=True, slots=True)
class CpuMemory:
    """A memory as phases of one program: its products are this backend's, and their rows whole tiles at the end."""

    project: Product
    value: Product | None
    out: Product
    words: Words
    unit: Tensor
    eps: float
    programs: dict[tuple[int, int, int, int], tuple[NDArray[np.int64], tuple[int, int, tuple[int, int], int, int]]]

    @staticmethod
    def of(memory: Recollection) -> CpuMemory | None:
        """None where it is not made for that."""
        project, value, out = memory.project, memory.value, memory.out
        if not isinstance(project, Product) or not isinstance(out, Product) or not fits(memory.fixed):
            return None
        if not (value is None or isinstance(value, Product)) or out.padded != out.out_features:
            return None
        return CpuMemory(project, value, out, Words(memory.fixed), memory.unit, memory.fixed.eps, {})

    def _sizes(self, rows: int) -> list[int]:
        """Bytes of the products, of what is read, of the values and of normalised embeddings; whole cache lines."""
        widths = [self.project.padded, self.out.in_features]
        widths += [0, 0] if self.value is None else [self.value.padded, self.value.in_features]
        return [-(-4 * rows * width // 64) * 64 for width in widths]

    def scratch(self, tokens: int, rows: int) -> int:
        """Bytes of scratch for so many tokens, in all, of so many rows."""
        products = [self.project, self.out, *([] if self.value is None else [self.value])]
        work = max(self.words.scratch(rows), *(product.scratch(tokens) for product in products))
        return sum(self._sizes(tokens)) + work

    def program(
        self, ops: CpuOps, leaves: Leaves, rope: Rope, x: int, e: int, out: int, scratch: int
    ) -> NDArray[np.int64]:
        """The phases. x, e and out (B·T, E) addresses: the normalised inputs, the embeddings, what the memory adds."""
        key = (len(rope.lengths), rope.T, x, scratch)
        if key not in self.programs:
            if len(self.programs) >= PROGRAMS:
                self.programs.clear()
            self.programs[key] = self._made(ops, *key)
        table, places = self.programs[key]
        if self.value is not None:
            table[0, ARGS] = e
        table[-1, ARGS + 7] = out
        self.words.put(*places)
        self.words.fill(self.words.leaves(leaves, len(rope.lengths)), rope.position, rope.lengths, rope.T)
        return table

    def _made(
        self, ops: CpuOps, B: int, T: int, x: int, scratch: int
    ) -> tuple[NDArray[np.int64], tuple[int, int, tuple[int, int], int, int]]:
        """Phases without what changes from call to call, and what `Words.put` is given."""
        N = B * T
        found: list[tuple[int, ...]] = []
        products, read, given, normed, work = accumulate(self._sizes(N), initial=scratch)
        values = (0, 0)
        if self.value is not None:
            found.append(ops.norm_phase(0, 0, self.unit.data_ptr(), normed, N, self.value.in_features, self.eps))
            found += self.value.phases(N, normed, given, work)
            values = given, 4 * self.value.padded
        found += self.project.phases(N, x, products, work)
        found.append(self.words.phase(B))
        found += self.out.phases(N, read, 0, work)
        return np.array(found, dtype=np.int64), (products, 4 * self.project.padded, values, read, work)


def _strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Of a contiguous tensor."""
    return tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))


def _address(
    x: Tensor, rows: int, dtype: torch.dtype, shape: tuple[int, ...], strides: tuple[int, ...]
) -> tuple[int, int]:
    """Its address, and the bytes between its rows. Raises ValueError where it does not fit."""
    apart, *within = x.stride()
    fitting = x.dtype == dtype and x.shape == (rows, *shape)
    if not fitting or not (tuple(within) == strides or rows == 0 or x[0].is_contiguous()):
        raise ValueError(f"expected {dtype} {(rows, *shape)} with contiguous rows, not {x.dtype} {tuple(x.shape)}")
    return x.data_ptr(), apart * x.itemsize


def _singly(
    x: Tensor, values: Tensor | None, fixed: Fixed, leaves: Leaves, place: Tensor, lengths: Tensor
) -> Tensor:  # fmt: skip
    """The reference's, a token of a row at a time, so that the bits depend on neither batch nor chunk."""
    T, out = len(x) // max(len(lengths), 1), torch.zeros(len(x), fixed.heads * fixed.value_dim)
    for row, n in enumerate(lengths.tolist()):
        for t in range(n):
            token = slice(row * T + t, row * T + t + 1)
            out[token] = recall_ref(
                x[token].clone(),
                None if values is None else values[token].clone(),
                fixed,
                leaves=leaves.row(row),
                place=place[row : row + 1] + t,
                lengths=_ONE,
            )
    return out
