"""The cpu backend: compiled kernels over a pool of threads, fast from one row to hundreds.

One numeric path serves every number of rows and every chunk size, so results are bit-identical whatever shares the
batch (`batch_invariant` is always true); how: `cpu_linear.py`, `cpu_attention.py`, `cpu_rows.py`. Decisions:

- Q4_1 and Q8_0 weights keep their own bits; activations meet them as int8 with a scale per group of 32 of their own
  row. Plain weights meet float32 activations.
- Where a shape is not made for vectors (a head width that is no multiple of 16, a hidden width that is no multiple of
  8), that one operation is the reference's.

Tensors must be on the CPU; addresses go to compiled code, so shapes and dtypes are checked here, once.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.kernels import cpu_attention as attention
from model.kernels.cpu_attention import attention_kernels
from model.kernels.cpu_linear import Product, linear_kernels
from model.kernels.cpu_rows import row_kernels
from model.kernels.emit import LANES, has_avx2
from model.kernels.interface import Embedding, Linear, Rope, WindowSpec
from model.kernels.pool import Pool
from model.kernels.ref import RefEmbedding, RefOps, make_rope
from model.weights import Q8_0, Weight

FEW_ROWS = 8  # below, rows are not worth sharing out


@dataclass(frozen=True, slots=True)
class CpuRope(Rope):
    """`Rope`, and what the kernels read of it.

    words: addresses and sizes, int64, in the order `cpu_attention` names. scratch: bytes one call needs, by state
    itemsize. items: of the attend phase.
    """

    words: Tensor
    scratch: int
    items: int


@dataclass(frozen=True, slots=True)
class _Tables:
    """What `rope` needs of a spec, made once: frequencies (D/2,) float64; the constant angles, in `Rope`'s order; the
    softmax scale and 1.0 as their bits."""

    spec: WindowSpec
    inv_freq: Tensor
    angles: tuple[Tensor, Tensor, Tensor, Tensor]
    scale: int
    one: int

    @staticmethod
    def of(spec: WindowSpec) -> _Tables:
        nowhere = torch.zeros(0, dtype=torch.int64)
        plain = make_rope(spec, nowhere, nowhere, 0)
        scale, one = (struct.unpack("<i", struct.pack("<f", value))[0] for value in (spec.scale, 1.0))
        return _Tables(
            spec,
            torch.tensor(spec.inv_freq, dtype=torch.float64),
            (plain.query_cos, plain.query_sin, plain.sink_cos, plain.sink_sin),
            scale,
            one,
        )


class Q8Embedding:
    """Rows of a Q8_0 matrix, dequantised as they are taken."""

    def __init__(self, weight: Q8_0) -> None:
        self._q, self._d = weight.q.contiguous(), weight.d.contiguous()

    def __call__(self, ids: Tensor) -> Tensor:
        q = self._q[ids].float().view(len(ids), -1, 32)
        return (q * self._d[ids].float()[..., None]).view(len(ids), -1)


class CpuOps:
    """`Ops`, fast; see the module's docstring."""

    def __init__(self, *, state_dtype: torch.dtype = torch.bfloat16, threads: int | None = None) -> None:
        """threads: in all, the caller's included; torch's number of threads by default."""
        self.name = "cpu-avx2" if has_avx2() else "cpu"
        self.state_dtype = state_dtype
        self.batch_invariant = True
        self._ref = RefOps(state_dtype=state_dtype)
        self._pool = Pool(torch.get_num_threads() if threads is None else threads)
        self._rows = row_kernels()
        self._attention = attention_kernels(state_dtype == torch.bfloat16)
        self._tables: _Tables | None = None  # of the last spec: a model has one

    def linear(self, weights: Sequence[Weight]) -> Linear:
        return Product(self._pool, weights)

    def embedding(self, weight: Weight) -> Embedding:
        return Q8Embedding(weight) if isinstance(weight, Q8_0) else RefEmbedding(weight)

    def add_norm(self, h: Tensor, delta: Tensor | None, weight: Tensor, eps: float) -> Tensor:
        rows, width = h.shape
        if width % LANES:
            return self._ref.add_norm(h, delta, weight, eps)
        _check(h, (rows, width))
        _check(weight, (width,))
        if delta is not None:
            _check(delta, (rows, width))
        out = torch.empty_like(h)
        step, items = self._share(rows)
        bits = struct.unpack("<q", struct.pack("<ff", eps, width))[0]
        change = 0 if delta is None else delta.data_ptr()
        self._pool.run(
            (self._rows.norm, items),
            (h.data_ptr(), change, weight.data_ptr(), out.data_ptr(), bits, rows, width, step),
        )
        return out

    def swiglu(self, gate_up: Tensor) -> Tensor:
        rows, width = gate_up.shape[0], gate_up.shape[1] // 2
        if width % LANES:
            return self._ref.swiglu(gate_up)
        _check(gate_up, (rows, 2 * width))
        out = torch.empty(rows, width)
        step, items = self._share(rows)
        self._pool.run((self._rows.swiglu, items), (gate_up.data_ptr(), out.data_ptr(), rows, width, step))
        return out

    def _share(self, rows: int) -> tuple[int, int]:
        """Rows per item, and items."""
        step = rows if rows < FEW_ROWS else max(1, min(16, rows // (2 * self._pool.threads)))
        return max(step, 1), -(-rows // max(step, 1))

    def rope(self, spec: WindowSpec, position: Tensor, lengths: Tensor, T: int) -> CpuRope:
        if self._tables is None or self._tables.spec is not spec:
            self._tables = _Tables.of(spec)
        tables = self._tables
        position, lengths = position.clone(), lengths.clone()
        B, H, G, half = len(lengths), spec.heads, spec.kv_heads, spec.head_dim // 2
        cos, sin = torch.empty(2, B, T, half)
        rows = B * T
        step = rows if rows < FEW_ROWS else -(-rows // (4 * self._pool.threads))
        addresses = [x.data_ptr() for x in (position, tables.inv_freq, cos, sin)]
        self._pool.run((self._rows.angles, -(-rows // step)), (*addresses, rows, T, half, step))

        pairs = B * G
        # A chunk's tokens per item: enough items to share out evenly, each with work for tens of microseconds.
        tokens = max(8, -(-T * pairs // (16 * self._pool.threads)))
        per_head = -(-spec.window // attention.BLOCK) if T == 1 else -(-T // tokens)
        history, partials, area = attention.layout(
            T, H, G, spec.head_dim, spec.window, spec.num_sinks, self.state_dtype.itemsize
        )
        scratch = pairs * (2 * history + partials + per_head * area)
        # In the order that `cpu_attention` names.
        leaves = (position, lengths, cos, sin, *tables.angles)
        sizes = (B, T, H, G, spec.head_dim, spec.window, spec.num_sinks, tables.scale, tables.one, tokens)
        words = torch.tensor((*(x.data_ptr() for x in leaves), *sizes))
        return CpuRope(spec, T, *leaves, words, scratch, pairs * per_head)

    def window_attention(
        self, qkv: Tensor, rope: Rope, *, ring_k: Tensor, ring_v: Tensor, sink_k: Tensor, sink_v: Tensor
    ) -> Tensor:
        spec, B, T = rope.spec, len(rope.lengths), rope.T
        G, D, W = spec.kv_heads, spec.head_dim, spec.window
        if D % (2 * LANES):
            return self._ref.window_attention(qkv, rope, ring_k=ring_k, ring_v=ring_v, sink_k=sink_k, sink_v=sink_v)
        if not isinstance(rope, CpuRope):
            raise TypeError("window_attention needs a Rope made by the same backend")
        _check(qkv, (B * T, spec.qkv_width))
        ring_row = _check_rows((ring_k, ring_v), (B, G, W, D), self.state_dtype)
        sink_row = _check_rows((sink_k, sink_v), (B, G, spec.num_sinks, D), self.state_dtype)
        out = torch.empty(B * T, spec.heads * D)
        kernels = self._attention
        # fmt: off
        self._pool.run(
            (kernels.prepare, B * G, kernels.attend, rope.items, kernels.finish, B * G),
            (qkv.data_ptr(), out.data_ptr(), ring_k.data_ptr(), ring_v.data_ptr(), sink_k.data_ptr(),
             sink_v.data_ptr(), ring_row, sink_row, rope.words.data_ptr()),
            rope.scratch,
        )
        # fmt: on
        return out

    def warm_up(self) -> None:
        """Compile every kernel, or load it from the cache (under NUMBA_CACHE_DIR, or beside the sources)."""
        linear_kernels()
        self.add_norm(torch.zeros(1, LANES), None, torch.ones(LANES), 1e-5)


def _check(x: Tensor, shape: tuple[int, ...]) -> None:
    """Raise ValueError unless x is a contiguous float32 tensor of that shape."""
    if x.dtype != torch.float32 or x.shape != shape or not x.is_contiguous():
        raise ValueError(f"expected contiguous float32 {shape}, not {x.dtype} {tuple(x.shape)}")


def _check_rows(leaves: tuple[Tensor, Tensor], shape: tuple[int, ...], dtype: torch.dtype) -> int:
    """Bytes from row to row of a key and a value leaf. Raises ValueError unless they have that shape and dtype, the
    same stride between rows, and each row is contiguous."""
    B, _, n, D = shape
    row = leaves[0].stride(0) if B > 1 else 0
    for x in leaves:
        fits = x.dtype == dtype and x.shape == shape and (B == 1 or x.stride(0) == row)
        if not fits or not (x.stride()[1:] == (n * D, D, 1) or x[0].is_contiguous()):
            raise ValueError(f"expected {dtype} {shape} with contiguous rows, not {x.dtype} {tuple(x.shape)}")
    return row * dtype.itemsize
