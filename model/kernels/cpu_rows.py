"""Compiled kernels over single rows of activations: RMSNorm, SwiGLU, RoPE's angles, and quantising to int8.

A row's result does not depend on the rows beside it, bit for bit. Widths are multiples of 8
(of 32 for quantising; any for angles).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

from numba import njit

from model.kernels.emit import F32, F64, I8, I32, I64, LANES, ROUND, Emit, Value, routine, vec
from model.kernels.pool import arg, compile_kernel, source_version

GROUP = 32  # values that share a scale


@routine(6)
def norm_row(e: Emit, args: Sequence[Value]) -> None:
    """(h, delta or 0, weight, out, vectors, bits): h += delta; out = h/√(mean h² + eps)·weight.

    bits: eps in the low half, the width in the high one, as floats.
    """
    h, delta, weight, out, vectors, bits = args
    (total,) = e.variables(1, e.f(0.0))
    has_delta = e.b.icmp_signed("!=", delta, e.scalar(I64, 0))
    with e.loop(vectors) as i:
        offset = e.times(i, 4 * LANES)
        with e.b.if_then(has_delta):
            e.store(e.b.fadd(e.load(e.at(h, offset), e.floats), e.load(e.at(delta, offset), e.floats)), e.at(h, offset))
        x = e.load(e.at(h, offset), e.floats)
        e.put(e.fma(x, x, e.get(total)), total)
    low = e.b.bitcast(e.b.trunc(bits, I32), F32)
    width = e.b.bitcast(e.b.trunc(e.b.lshr(bits, e.scalar(I64, 32)), I32), F32)
    mean = e.b.fdiv(e.reduce(e.get(total), e.b.fadd), width)
    root = e.call("llvm.sqrt.f32", F32, e.b.fadd(mean, low))
    scale = e.splat(e.b.fdiv(e.scalar(F32, 1.0), root))
    with e.loop(vectors) as i:
        offset = e.times(i, 4 * LANES)
        x = e.b.fmul(e.load(e.at(h, offset), e.floats), scale)
        e.store(e.b.fmul(x, e.load(e.at(weight, offset), e.floats)), e.at(out, offset))


@routine(4)
def swiglu_row(e: Emit, args: Sequence[Value]) -> None:
    """(gate, up, out, vectors): out = gate / (1 + e^−gate) · up."""
    gate, up, out, vectors = args
    with e.loop(vectors) as i:
        offset = e.times(i, 4 * LANES)
        x = e.load(e.at(gate, offset), e.floats)
        silu = e.b.fdiv(x, e.b.fadd(e.f(1.0), e.exp(e.b.fneg(x))))
        e.store(e.b.fmul(silu, e.load(e.at(up, offset), e.floats)), e.at(out, offset))


@routine(4)
def quantise_row(e: Emit, args: Sequence[Value]) -> None:
    """(x, groups, a, s): x ≈ s·a per group of 32: a int8 in −127 … 127, s[group] = (scale, Σa) float32.

    scale = max|x|/127; a group of zeros (or of numbers below 1e-30) becomes zeros. A NaN or an infinity makes its
    group's scale one.
    """
    x, groups, a, s = args
    integers = vec(I32, LANES)
    with e.loop(groups) as g:
        base = e.at(x, e.times(g, 4 * GROUP))
        parts = [e.load(e.at(base, 4 * LANES * i), e.floats) for i in range(GROUP // LANES)]
        # As integers, so that a NaN, whose bits exceed infinity's, is the largest.
        bits = [e.b.and_(e.b.bitcast(p, integers), e.constant(I32, LANES, 0x7FFFFFFF)) for p in parts]
        largest = bits[0]
        for other in bits[1:]:
            largest = e.b.select(e.b.icmp_signed(">", largest, other), largest, other)
        top = e.reduce(largest, lambda m, n: e.b.select(e.b.icmp_signed(">", m, n), m, n))
        top = e.b.bitcast(top, F32)
        scale = e.b.fmul(top, e.scalar(F32, 1.0 / 127.0))
        usable = e.b.fcmp_ordered(">", top, e.scalar(F32, 1e-30))
        inverse = e.b.select(usable, e.b.fdiv(e.scalar(F32, 127.0), top), e.scalar(F32, 0.0))
        inverse = e.splat(inverse)
        total = None
        for i, part in enumerate(parts):
            shifted = e.b.bitcast(e.fma(part, inverse, e.f(ROUND)), integers)
            q = e.b.sub(shifted, e.b.bitcast(e.f(ROUND), integers))
            e.store(e.b.trunc(q, vec(I8, LANES)), e.at(a, e.times(g, GROUP), LANES * i))
            total = q if total is None else e.b.add(total, q)
        e.store(scale, e.at(s, e.times(g, 8)))
        e.store(e.b.sitofp(e.reduce(total, e.b.add), F32), e.at(s, e.times(g, 8), 4))


@routine(5)
def angle_row(e: Emit, args: Sequence[Value]) -> None:
    """(position, inv_freq float64, cos, sin, number of frequencies): cos, sin of position·inv_freq, as float32."""
    position, inv_freq, cos, sin, count = args
    p = e.b.sitofp(position, F64)
    with e.loop(count) as i:
        angle = e.b.fmul(p, e.load(e.at(inv_freq, e.times(i, 8)), F64))
        for name, out in (("cos", cos), ("sin", sin)):
            e.store(e.b.fptrunc(e.call(f"llvm.{name}.f64", F64, angle), F32), e.at(out, e.times(i, 4)))


@njit(error_model="numpy")
def angle_rows(args: int, item: int) -> None:
    """args: position, inv_freq, cos, sin, B·T, T, D/2, rows per item."""
    position, inv_freq, cos, sin = arg(args, 0), arg(args, 1), arg(args, 2), arg(args, 3)
    rows, T, half, step = arg(args, 4), arg(args, 5), arg(args, 6), arg(args, 7)
    for n in range(item * step, min(rows, (item + 1) * step)):
        angle_row(arg(position, n // T) + n % T, inv_freq, cos + 4 * half * n, sin + 4 * half * n, half)


@njit(error_model="numpy")
def norm_rows(args: int, item: int) -> None:
    """args: h, delta, weight, out, (eps, width) bits, N, E, rows per item."""
    h, delta, weight, out, bits = arg(args, 0), arg(args, 1), arg(args, 2), arg(args, 3), arg(args, 4)
    rows, width, step = arg(args, 5), arg(args, 6), arg(args, 7)
    for n in range(item * step, min(rows, (item + 1) * step)):
        offset = 4 * width * n
        norm_row(h + offset, delta + offset if delta else 0, weight, out + offset, width // LANES, bits)


@njit(error_model="numpy")
def swiglu_rows(args: int, item: int) -> None:
    """args: gate_up, out, N, F, rows per item."""
    gate_up, out, rows, width, step = arg(args, 0), arg(args, 1), arg(args, 2), arg(args, 3), arg(args, 4)
    for n in range(item * step, min(rows, (item + 1) * step)):
        gate = gate_up + 8 * width * n
        swiglu_row(gate, gate + 4 * width, out + 4 * width * n, width // LANES)


class RowKernels(NamedTuple):
    """Addresses for `Pool.run`."""

    norm: int
    swiglu: int
    angles: int


@cache
def row_kernels() -> RowKernels:
    """Compile them, or load them from the cache."""
    version = source_version()

    def norm(args: int, item: int) -> None:
        if version:
            norm_rows(args, item)

    def swiglu(args: int, item: int) -> None:
        if version:
            swiglu_rows(args, item)

    def angles(args: int, item: int) -> None:
        if version:
            angle_rows(args, item)

    return RowKernels(compile_kernel(norm), compile_kernel(swiglu), compile_kernel(angles))
