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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.kernels import cpu_attention as attention
from model.kernels.cpu_attention import attention_kernels
from model.kernels.cpu_linear import Product, linear_kernels
from model.kernels.cpu_recall import recall_kernel
from model.kernels.cpu_recall_ops import CpuMemory, CpuRecall
from model.kernels.cpu_rows import row_kernels
from model.kernels.cpu_ssd import ssd_kernels
from model.kernels.cpu_ssm import ssm_kernels
from model.kernels.cpu_ssm_ops import CpuStateSpaces
from model.kernels.cpu_stack import CpuStack, can_stack
from model.kernels.emit import LANES, has_avx2
from model.kernels.interface import Block, Embedding, Linear, Recollection, Rope, Stack, Window, WindowSpec
from model.kernels.pool import Pool, phase
from model.kernels.ref import CPU, RefEmbedding, RefOps, RefStack, make_rope
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


class CpuOps(CpuStateSpaces, CpuRecall):
    """`Ops`, fast; see the module's docstring."""

    def __init__(self, *, state_dtype: torch.dtype = torch.bfloat16, threads: int | None = None) -> None:
        """threads: in all, the caller's included; torch's number of threads by default."""
        self.name = "cpu-avx2" if has_avx2() else "cpu"
        self.device = CPU
        self.state_dtype = state_dtype
        self.batch_invariant = True
        self._ref = RefOps(state_dtype=state_dtype)
        self.pool = Pool(torch.get_num_threads() if threads is None else threads)
        self._rows = row_kernels()
        self._attention = attention_kernels(state_dtype == torch.bfloat16)
        self._tables: _Tables | None = None  # of the last spec: a model has one

    def linear(self, weights: Sequence[Weight]) -> Linear:
        return Product(self.pool, weights)

    def embedding(self, weight: Weight) -> Embedding:
        return Q8Embedding(weight) if isinstance(weight, Q8_0) else RefEmbedding(weight)

    def add_norm(self, h: Tensor, delta: Tensor | None, weight: Tensor, eps: float) -> Tensor:
        rows, width = h.shape
        if width % LANES:
            return self._ref.add_norm(h, delta, weight, eps)
        self.check(h, (rows, width))
        self.check(weight, (width,))
        if delta is not None:
            self.check(delta, (rows, width))
        out = torch.empty_like(h)
        change = 0 if delta is None else delta.data_ptr()
        with self.pool.lock:
            self.pool.run(self.norm_phase(h.data_ptr(), change, weight.data_ptr(), out.data_ptr(), rows, width, eps))
        return out

    def norm_phase(
        self, h: int, delta: int, weight: int, out: int, rows: int, width: int, eps: float
    ) -> tuple[int, ...]:  # fmt: skip
        """`add_norm` of addresses; delta may be 0."""
        step, items = self._share(rows)
        bits = struct.unpack("<q", struct.pack("<ff", eps, width))[0]
        return phase(self._rows.norm, items, h, delta, weight, out, bits, rows, width, step)

    def swiglu(self, gate_up: Tensor) -> Tensor:
        rows, width = gate_up.shape[0], gate_up.shape[1] // 2
        if width % LANES:
            return self._ref.swiglu(gate_up)
        self.check(gate_up, (rows, 2 * width))
        out = torch.empty(rows, width)
        with self.pool.lock:
            self.pool.run(self.swiglu_phase(gate_up.data_ptr(), out.data_ptr(), rows, width))
        return out

    def swiglu_phase(self, gate_up: int, out: int, rows: int, width: int) -> tuple[int, ...]:
        """`swiglu` of addresses."""
        step, items = self._share(rows)
        return phase(self._rows.swiglu, items, gate_up, out, rows, width, step)

    @staticmethod
    def check(x: Tensor, shape: tuple[int, ...]) -> None:
        """Raise ValueError unless x is a contiguous float32 tensor of that shape."""
        if x.dtype != torch.float32 or x.shape != shape or not x.is_contiguous():
            raise ValueError(f"expected contiguous float32 {shape}, not {x.dtype} {tuple(x.shape)}")

    def _share(self, rows: int) -> tuple[int, int]:
        """Rows per item, and items."""
        step = rows if rows < FEW_ROWS else max(1, min(16, rows // (2 * self.pool.threads)))
        return max(step, 1), -(-rows // max(step, 1))

    def rope(self, spec: WindowSpec, position: Tensor, lengths: Tensor, T: int) -> CpuRope:
        if self._tables is None or self._tables.spec is not spec:
            self._tables = _Tables.of(spec)
        tables = self._tables
        position, lengths = position.clone(), lengths.clone()
        B, H, G, half = len(lengths), spec.heads, spec.kv_heads, spec.head_dim // 2
        cos, sin = torch.empty(2, B, T, half)
        rows = B * T
        step = rows if rows < FEW_ROWS else -(-rows // (4 * self.pool.threads))
        addresses = [x.data_ptr() for x in (position, tables.inv_freq, cos, sin)]
        with self.pool.lock:
            self.pool.run(phase(self._rows.angles, -(-rows // step), *addresses, rows, T, half, step))

        pairs = B * G
        # A chunk's tokens per item: enough items to share out evenly, each with work for a hundred microseconds or so.
        tokens = min(32, max(8, -(-T * pairs // (16 * self.pool.threads))))
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
        D = spec.head_dim
        if D % (2 * LANES):
            return self._ref.window_attention(qkv, rope, ring_k=ring_k, ring_v=ring_v, sink_k=sink_k, sink_v=sink_v)
        rope = self.own(rope)
        self.check(qkv, (B * T, spec.qkv_width))
        leaves = self.leaves(Window(ring_k, ring_v, sink_k, sink_v), rope)
        out = torch.empty(B * T, spec.heads * D)
        with self.pool.lock:
            scratch = self.pool.scratch(rope.scratch)
            args = (qkv.data_ptr(), out.data_ptr(), *leaves, rope.words.data_ptr(), scratch)
            self.pool.run(*self.attention_phases(B * spec.kv_heads, rope.items, args))
        return out

    def stack(
        self, blocks: Sequence[Block], eps: float, memories: Mapping[int, Recollection] | None = None
    ) -> Stack:  # fmt: skip
        plain = RefStack(self, blocks, eps, memories or {})
        own = {i: CpuMemory.of(memory) for i, memory in plain.memories.items()}
        made = {i: memory for i, memory in own.items() if memory is not None}
        return CpuStack(self, plain, made) if can_stack(blocks) and len(made) == len(own) else plain

    def own(self, rope: Rope) -> CpuRope:
        """The same; raises TypeError where another backend made it."""
        if not isinstance(rope, CpuRope):
            raise TypeError("attention needs a Rope made by the same backend")
        return rope

    def leaves(self, window: Window, rope: Rope) -> tuple[int, ...]:
        """Addresses of a layer's ring_k, ring_v, sink_k, sink_v, and bytes between the rows of a ring and of a sink.

        Raises ValueError unless they have the shapes and the dtype that the rope's spec and the backend say, keys and
        values the same stride between rows, and each row is contiguous.
        """
        spec, B, dtype = rope.spec, len(rope.lengths), self.state_dtype
        G, D = spec.kv_heads, spec.head_dim
        strides = []
        for first, second, n in (
            (window.ring_k, window.ring_v, spec.window),
            (window.sink_k, window.sink_v, spec.num_sinks),
        ):
            shape, row = (B, G, n, D), first.stride(0)
            for x in (first, second):
                fits = x.dtype == dtype and x.shape == shape and (B == 1 or x.stride(0) == row)
                if not fits or not (x.stride()[1:] == (n * D, D, 1) or x[0].is_contiguous()):
                    raise ValueError(f"expected {dtype} {shape} with contiguous rows, not {x.dtype} {tuple(x.shape)}")
            strides.append(row * dtype.itemsize)
        return (*(x.data_ptr() for x in window), *strides)

    def attention_phases(self, pairs: int, items: int, args: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
        """`window_attention` of addresses, in the order `cpu_attention` names; pairs: of a row and a kv head."""
        kernels = self._attention
        counts = ((kernels.prepare, pairs), (kernels.attend, items), (kernels.finish, pairs))
        return tuple(phase(kernel, count, *args) for kernel, count in counts)

    def warm_up(self) -> None:
        """Compile every kernel, or load it from the cache (under NUMBA_CACHE_DIR, or beside the sources)."""
        linear_kernels()
        recall_kernel()
        ssm_kernels()
        ssd_kernels()
        self.add_norm(torch.zeros(1, LANES), None, torch.ones(LANES), 1e-5)
