"""The state space operations of the cpu backend: shapes and dtypes checked once, then addresses for `cpu_ssm`.

Where a width is no multiple of 8 the operation is the reference's, a token at a time: slow, the same at any batch.
"""

from __future__ import annotations

import struct
from array import array

import torch
from torch import Tensor

from model.kernels.cpu_ssd import COLUMNS, ssd_kernels
from model.kernels.cpu_ssm import BLOCK, MANY, ssm_kernels
from model.kernels.emit import LANES
from model.kernels.pool import Pool, phase
from model.kernels.ref_ssm import RefStateSpaces
from model.selective_scan import Selective
from model.ssd import Dual

_REF = RefStateSpaces()
TOKENS = 32  # of an item of the convolution


def strided(x: Tensor, rows: int, width: int) -> tuple[int, int]:
    """The address of x (rows, width), and the bytes between its rows.

    Raises ValueError unless it is float32 of that shape, each row contiguous.
    """
    if x.dtype != torch.float32 or x.shape != (rows, width) or (width > 1 and x.stride(1) != 1):
        raise ValueError(f"expected float32 {(rows, width)} with contiguous rows, not {x.dtype} {tuple(x.shape)}")
    return x.data_ptr(), 4 * x.stride(0)


def leaf(x: Tensor, *shape: int) -> tuple[int, int]:
    """The address of a state's leaf, and the bytes between its rows. Raises ValueError where it does not fit."""
    apart, *strides = x.stride()
    within = 1  # numbers in what lies behind an axis: its stride, in a row without gaps
    for size, stride in zip(reversed(shape[1:]), reversed(strides), strict=False):
        fits = stride == within or size == 1
        within = within * size if fits else -1
    if x.dtype != torch.float32 or x.shape != shape or within < 0:
        raise ValueError(f"expected float32 {shape} with contiguous rows, not {x.dtype} {tuple(x.shape)}")
    return x.data_ptr(), 4 * apart


def whole(x: Tensor, *shape: int) -> int:
    """The address of a contiguous float32 tensor. Raises ValueError where it does not fit."""
    if x.dtype != torch.float32 or x.shape != shape or not x.is_contiguous():
        raise ValueError(f"expected contiguous float32 {shape}, not {x.dtype} {tuple(x.shape)}")
    return x.data_ptr()


class CpuStateSpaces:
    """`Ops.causal_conv`, `selective_scan`, `ssd` and `gated_norm`, compiled."""

    pool: Pool

    def causal_conv(self, x: Tensor, taps: Tensor, bias: Tensor | None, *, state: Tensor, lengths: Tensor) -> Tensor:
        (N, C), K, rows = x.shape, taps.shape[0], lengths.shape[0]
        if C % LANES:
            return _REF.causal_conv(x, taps, bias, state=state, lengths=lengths)
        out, lengths = torch.zeros(N, C), lengths.contiguous()
        if N == 0:
            return out
        T = N // rows
        per_row = -(-T // TOKENS)
        scratch = torch.empty(rows * per_row * K, dtype=torch.int64)
        words = array(
            "q",
            [
                *strided(x, rows * T, C),
                whole(taps, K, C),
                0 if bias is None else whole(bias, C),
                out.data_ptr(),
                *leaf(state, rows, K - 1, C),
                lengths.data_ptr(),
                T,
                K,
                C,
                TOKENS,
                per_row,
                scratch.data_ptr(),
            ],
        )
        kernels, at = ssm_kernels(), words.buffer_info()[0]
        with self.pool.lock:
            self.pool.run(phase(kernels.conv, rows * per_row, at), phase(kernels.tails, rows, at))
        return out

    def selective_scan(
        self,
        x: Tensor,
        dt: Tensor,
        B: Tensor,
        C: Tensor,
        z: Tensor | None,
        fixed: Selective,
        *,
        state: Tensor,
        lengths: Tensor,
    ) -> Tensor:
        (n, d), N, rows = x.shape, B.shape[1], lengths.shape[0]
        if d % LANES:
            return _REF.selective_scan(x, dt, B, C, z, fixed, state=state, lengths=lengths)
        out, lengths = torch.zeros(n, d), lengths.contiguous()
        if n == 0:
            return out
        items = rows * -(-d // BLOCK)
        T = n // rows
        scratch = torch.empty(items * (2 + 2 * N) * BLOCK)
        inputs = [strided(x, n, d), strided(dt, n, d), (0, 0) if z is None else strided(z, n, d)]
        inputs += [strided(B, n, N), strided(C, n, N)]
        words = array(
            "q",
            [
                *(address for address, _ in inputs),
                *(apart for _, apart in inputs),
                out.data_ptr(),
                *leaf(state, rows, N, d),
                whole(fixed.A, N, d),
                whole(fixed.D, d),
                whole(fixed.dt_bias, d),
                lengths.data_ptr(),
                T,
                d,
                N,
                scratch.data_ptr(),
            ],
        )
        with self.pool.lock:
            self.pool.run(phase(ssm_kernels().scan, items, words.buffer_info()[0]))
        return out

    def ssd(
        self, x: Tensor, dt: Tensor, B: Tensor, C: Tensor, fixed: Dual, *, state: Tensor, lengths: Tensor
    ) -> Tensor:
        n, (rows, H, N, P) = x.shape[0], state.shape
        if P % LANES:
            return _REF.ssd(x, dt, B, C, fixed, state=state, lengths=lengths)
        out, lengths = torch.zeros(n, H * P), lengths.contiguous()
        if n == 0:
            return out
        vectors = next(v for v in COLUMNS if P // LANES % v == 0)
        groups = B.shape[1] // N
        if groups == 0 or H % groups:
            raise ValueError(f"B of width {B.shape[1]} is not of groups of {N} that share {H} heads evenly")
        inputs = [strided(x, n, H * P), strided(dt, n, H), strided(B, n, groups * N), strided(C, n, groups * N)]
        scratch = torch.empty(rows * H * N * P if n >= MANY * rows else 0)
        words = array(
            "q",
            [
                *(address for address, _ in inputs),
                *(apart for _, apart in inputs),
                out.data_ptr(),
                *leaf(state, rows, H, N, P),
                whole(fixed.A, H),
                whole(fixed.D, H),
                whole(fixed.dt_bias, H),
                struct.unpack("<q", struct.pack("<ff", *fixed.dt_limit))[0],
                lengths.data_ptr(),
                n // rows,
                H,
                P,
                groups,
                N,
                vectors,
                scratch.data_ptr(),
            ],
        )
        with self.pool.lock:
            self.pool.run(phase(ssd_kernels().ssd, rows * H * (P // (LANES * vectors)), words.buffer_info()[0]))
        return out

    def gated_norm(self, y: Tensor, z: Tensor, weight: Tensor, eps: float, groups: int, norm_first: bool) -> Tensor:
        rows, d = y.shape
        if d % (LANES * groups):
            return _REF.gated_norm(y, z, weight, eps, groups, norm_first)
        out = torch.empty(rows, d)
        step = max(1, min(16, rows // (2 * self.pool.threads)))
        bits = struct.unpack("<q", struct.pack("<ff", eps, d // groups))[0]
        args = (whole(y, rows, d), *strided(z, rows, d), whole(weight, d), out.data_ptr(), bits, int(norm_first))
        with self.pool.lock:
            self.pool.run(phase(ssd_kernels().gated_norm, -(-rows // step), *args, rows, d, groups, step))
        return out
