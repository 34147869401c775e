"""The memory layer of the cpu backend: shapes and dtypes checked, then addresses for `cpu_recall`.

Where the widths of a key or a value are no multiples of 8 the operation is the reference's, a token of a row at a time:
slow, the same at any batch.
"""

from __future__ import annotations

import struct
from array import array

import torch
from torch import Tensor

from model.kernels.cpu_recall import FEW, recall_kernel
from model.kernels.cpu_ssm_ops import leaf, whole
from model.kernels.emit import LANES
from model.kernels.pool import Pool, phase
from model.recall import Fixed, Leaves, recall_ref

_ONE = torch.ones(1, dtype=torch.int64)


class CpuRecall:
    """`Ops.recall`, compiled."""

    pool: Pool
    state_dtype: torch.dtype

    def recall(
        self, x: Tensor, values: Tensor | None, fixed: Fixed, *, leaves: Leaves, place: Tensor, lengths: Tensor
    ) -> Tensor:
        h, d_k, d_v = fixed.heads, fixed.key_dim, fixed.value_dim
        if d_k % LANES or d_v % LANES:
            return _singly(x, values, fixed, leaves, place, lengths)
        if (values is None) != fixed.own_values:
            raise ValueError("values are given where they are not among the products")
        rows, N, P, V = len(lengths), len(x), sum(fixed.widths), h * d_v
        before, taps_width = len(fixed.taps) - 1, 2 * h * d_k + V
        products, bias = whole(x, N, P), whole(fixed.bias, P)
        own = 4 * 2 * h * d_k  # bytes before the values among the products
        value = (products + own, 4 * P) if values is None else (whole(values, N, V), 4 * V)
        dt_bias, rate = (0, 0) if fixed.decays is None else (whole(one, h) for one in fixed.decays)
        lengths, place = lengths.contiguous(), place.contiguous()
        out = torch.zeros(N, V)
        words = array(
            "q",
            [
                products,
                4 * P,
                *value,
                bias,
                bias + own if fixed.own_values else 0,
                out.data_ptr(),
                whole(fixed.taps, before + 1, taps_width),
                before,
                dt_bias,
                rate,
                0 if fixed.norm is None else whole(fixed.norm, d_v),
                struct.unpack("<q", struct.pack("<ff", fixed.eps, d_v))[0],
                int(fixed.gated),
                *leaf(leaves.M, rows, h, d_k, d_v),
                *leaf(leaves.conv_q, rows, before, h * d_k),
                *leaf(leaves.conv_k, rows, before, h * d_k),
                *leaf(leaves.conv_v, rows, before, V),
                *_ring(leaves.waiting, rows, h, d_k + d_v + 3),
                *_scalars(leaves.writes, rows, torch.int64),
                *_scalars(leaves.frozen, rows, torch.uint8),
                *((0, 0) if leaves.waiting is None else (leaves.waiting.shape[2], leaves.waiting.itemsize)),
                place.data_ptr(),
                lengths.data_ptr(),
                N // rows,
                h,
                d_k,
                d_v,
                0,
            ],
        )
        with self.pool.lock:
            words[-1] = self.pool.scratch(4 * rows * h * (3 * d_k + 2 * d_v + FEW))
            self.pool.run(phase(recall_kernel(), rows * h, words.buffer_info()[0]))
        return out


def _ring(x: Tensor | None, rows: int, heads: int, width: int) -> tuple[int, int]:
    """The address of a ring, 0 where there is none, and the bytes between its rows. Raises ValueError where it does not
    fit."""
    if x is None:
        return 0, 0
    shape = (rows, heads, x.shape[2], width)
    if x.dtype not in (torch.float32, torch.bfloat16) or x.shape != shape or not (rows == 0 or x[0].is_contiguous()):
        raise ValueError(f"expected float32 or bfloat16 {shape} with contiguous rows, not {x.dtype} {tuple(x.shape)}")
    return x.data_ptr(), x.itemsize * x.stride(0)


def _scalars(x: Tensor, rows: int, dtype: torch.dtype) -> tuple[int, int]:
    """The address of a number per row, and the bytes between them. Raises ValueError where it does not fit."""
    if x.dtype != dtype or x.shape != (rows,):
        raise ValueError(f"expected {dtype} {(rows,)}, not {x.dtype} {tuple(x.shape)}")
    return x.data_ptr(), x.itemsize * x.stride(0)


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
