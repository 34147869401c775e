"""Layers that follow each other, as one program for the pool.

One decode step is some 240 operations; called one by one from Python, their calling takes as long as a third of their
work, and holds the interpreter's lock. Here the phases of all layers stand in one table of integers, made once for a
number of rows; a call fills in the addresses that change (the state's, the hidden vectors') and runs the table. Where a
memory reads a layer's input the table is run up to that layer's norm, then the memory's phases, then the rest.

Invariant: the same kernels over the same numbers as the single operations, so the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.kernels.cpu_linear import Product
from model.kernels.emit import LANES
from model.kernels.interface import Block, Rope, Window
from model.kernels.pool import PHASE
from model.kernels.ref import NO_EMBEDDINGS, RefStack

if TYPE_CHECKING:
    from model.kernels.cpu import CpuOps, CpuRope
    from model.kernels.cpu_recall_ops import CpuMemory
    from model.recall import Leaves

# The phases of a layer. Their words: kernel, items, arguments.
NORM, QKV, PREPARE, ATTEND, FINISH, OUT, POST, GATE_UP, SWIGLU, DOWN = 0, 1, 3, 4, 5, 6, 8, 9, 11, 12
PHASES = 14
ITEMS, ARGS = 1, 2
BYTES = 8 * PHASE  # of a phase
PROGRAMS = 64  # numbers of rows whose tables are kept


@dataclass(frozen=True, slots=True)
class Buffers:
    """Addresses of what lies between the operations, in one stretch of the pool's scratch."""

    x: int  # (N, E)
    qkv: int  # (N, (H+2G)·D)
    attended: int  # (N, H·D)
    delta: int  # (N, E)
    gate_up: int  # (N, 2F)
    gated: int  # (N, F)
    work: int  # the products' and attention's own


class CpuStack:
    """`Stack` of blocks whose products are `Product`s and write no padding."""

    def __init__(self, ops: CpuOps, plain: RefStack, memories: Mapping[int, CpuMemory]) -> None:
        """plain: the same as single operations. memories: its memories, in its order."""
        self._ops, self._plain, self._memories = ops, plain, memories
        self._blocks, self._eps = list(plain.blocks), plain.eps
        self._width = int(self._blocks[0].input_norm.shape[0])
        self._programs: dict[tuple[int, int], NDArray[np.int64]] = {}

    def __call__(
        self,
        h: Tensor,
        delta: Tensor | None,
        rope: Rope,
        windows: Sequence[Window],
        e: Tensor | None = None,
        memories: Sequence[Leaves] = (),
    ) -> Tensor:
        if rope.spec.head_dim % (2 * LANES):
            return self._plain(h, delta, rope, windows, e, memories)
        if rope.spec.qkv_width != self._blocks[0].qkv.out_features:
            raise ValueError(f"qkv of width {self._blocks[0].qkv.out_features} where the rope's spec says otherwise")
        rope = self._ops.own(rope)
        rows = len(rope.lengths) * rope.T
        self._ops.check(h, (rows, self._width))
        if delta is not None:
            self._ops.check(delta, (rows, self._width))
        if len(windows) != len(self._blocks):
            raise ValueError(f"{len(self._blocks)} layers need as many windows, not {len(windows)}")
        leaves = np.array([self._ops.leaves(window, rope) for window in windows], dtype=np.int64)  # (layers, 6)
        if e is not None:
            self._ops.check(e, (rows, self._width))
        elif self._memories:
            raise ValueError(NO_EMBEDDINGS)
        out, reads = torch.empty_like(h), [torch.empty_like(h) for _ in self._memories]
        e_at = 0 if e is None else e.data_ptr()
        pool = self._ops.pool
        with pool.lock:
            buffers, base = self._buffers(rows, rope)
            program = self._program(rows, buffers, base)  # (layers, PHASES, words)
            program[:, (NORM, POST), ARGS] = h.data_ptr()
            program[0, NORM, ARGS + 1] = 0 if delta is None else delta.data_ptr()
            program[:, ATTEND, ITEMS] = rope.items
            program[:, (PREPARE, FINISH), ITEMS] = len(rope.lengths) * rope.spec.kv_heads
            program[:, PREPARE : FINISH + 1, ARGS + 2 : ARGS + 8] = leaves[:, None]
            program[:, PREPARE : FINISH + 1, ARGS + 8] = rope.words.data_ptr()
            program[-1, DOWN + 1, ARGS + 7] = out.data_ptr()
            asides = [
                memory.program(self._ops, its, rope, buffers.x, e_at, read.data_ptr(), buffers.work)
                for memory, its, read in zip(self._memories.values(), memories, reads, strict=True)
            ]
            self._run(program, asides)
        for read in reads:
            out += read
        return out

    def _run(self, program: NDArray[np.int64], asides: Sequence[NDArray[np.int64]]) -> None:
        """The table, and between its phases each memory's, once its layer's input has gone through its norm."""
        pool, at, start = self._ops.pool, program.ctypes.data, 0
        for layer, aside in zip(self._memories, asides, strict=True):
            stop = layer * PHASES + 1
            pool.run_program(at + start * BYTES, stop - start)
            pool.run_program(aside.ctypes.data, len(aside))
            start = stop
        pool.run_program(at + start * BYTES, len(self._blocks) * PHASES - start)

    def _program(self, rows: int, buffers: Buffers, base: int) -> NDArray[np.int64]:
        """The table for so many rows, its changing words still of the last call."""
        program = self._programs.get((rows, base))
        if program is None:
            if len(self._programs) >= PROGRAMS:
                self._programs.clear()
            phases = [self._layer(block, rows, buffers) for block in self._blocks]
            program = self._programs[rows, base] = np.array(phases, dtype=np.int64)
        # Behind the buffers, so that it may grow with the chunk while they stay.
        program[:, PREPARE : FINISH + 1, ARGS + 9] = buffers.work
        return program

    def _buffers(self, rows: int, rope: CpuRope) -> tuple[Buffers, int]:
        """Where everything lies, and the scratch's address."""
        block = self._blocks[0]
        E, F = self._width, block.down.in_features
        sizes = [4 * rows * width for width in (E, block.qkv.out_features, block.out.in_features, E, 2 * F, F)]
        starts = list(accumulate((-(-size // 64) * 64 for size in sizes), initial=0))
        work = max(rope.scratch, *(p.scratch(rows) for p in _products(block)))
        work = max(work, *(m.scratch(rows, len(rope.lengths)) for m in self._memories.values()), 0)
        base = self._ops.pool.scratch(starts[-1] + work)
        return Buffers(*(base + start for start in starts)), base

    def _layer(self, block: Block, rows: int, at: Buffers) -> list[tuple[int, ...]]:
        """A layer's phases."""
        qkv, out, gate_up, down = _products(block)
        E, ops = self._width, self._ops
        norms = [
            ops.norm_phase(0, at.delta, weight.data_ptr(), at.x, rows, E, self._eps)
            for weight in (block.input_norm, block.post_norm)
        ]
        return [
            norms[0],
            *qkv.phases(rows, at.x, at.qkv, at.work),
            *ops.attention_phases(0, 0, (at.qkv, at.attended)),
            *out.phases(rows, at.attended, at.delta, at.work),
            norms[1],
            *gate_up.phases(rows, at.x, at.gate_up, at.work),
            ops.swiglu_phase(at.gate_up, at.gated, rows, down.in_features),
            *down.phases(rows, at.gated, at.delta, at.work),
        ]


def _products(block: Block) -> tuple[Product, Product, Product, Product]:
    products = [p for p in (block.qkv, block.out, block.gate_up, block.down) if isinstance(p, Product)]
    qkv, out, gate_up, down = products
    return qkv, out, gate_up, down


def can_stack(blocks: Sequence[Block]) -> bool:
    """Whether these layers are made for one program: of one shape, products of this backend, whole registers."""
    products = [(block.qkv, block.out, block.gate_up, block.down) for block in blocks]
    shapes = {tuple((p.in_features, p.out_features) for p in layer) for layer in products}
    return len(shapes) == 1 and all(
        isinstance(p, Product) and p.padded == p.out_features and p.in_features % LANES == 0
        for layer in products
        for p in layer
    )
