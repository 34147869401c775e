"""The compiled recurrence of Mamba-2, and the gated norm behind it.

A part of a head's columns goes through all its tokens as one item, its state together in the first cache; head, row and
part are shared out over the pool. An item does its tokens in order: its bits depend on no other row and on no division
of the tokens. (Per token and column this is two fused multiply-adds per number of the state, the very count of the
blocked algorithm's two products with the state, which adds those within a block: on a CPU there is nothing to gain.)

The widths of a head and of a norm's group are multiples of 8; `cpu_ssm_ops` gives others to the reference.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from numba import njit, types

from model.kernels.cpu_ssm import AHEAD, MANY, VECTOR, copy_floats, fetch, silu_of, softplus_of
from model.kernels.emit import F32, I32, I64, LANES, Emit, Value, routine
from model.kernels.pool import arg, compile_kernel, source_version

COLUMNS = (4, 2, 1)  # vectors of columns of an item: the widest that divides a head


def _bits(e: Emit, v: Value) -> Value:
    """A vector's first lane as the low half of an int64."""
    return e.b.zext(e.b.bitcast(e.b.extract_element(v, e.scalar(I32, 0)), I32), I64)


def _float(e: Emit, bits: Value) -> Value:
    """The low half of an int64 in every lane."""
    return e.splat(e.b.bitcast(e.b.trunc(bits, I32), F32))


def _high(e: Emit, bits: Value) -> Value:
    return e.b.lshr(bits, e.scalar(I64, 32))


@routine(4, types.int64)
def step_and_decay(e: Emit, args: Sequence[Value]) -> Value:
    """(dt, dt_bias, A, bits of Δ's limits, the greatest in the high half): Δ in the low half, exp(Δ·A) in the high."""
    dt, bias, A, limits = args
    delta = softplus_of(e, e.splat(e.b.fadd(e.load(dt, F32), e.load(bias, F32))))
    least, most = _float(e, limits), _float(e, _high(e, limits))
    delta = e.b.select(e.b.fcmp_ordered("<", delta, least), least, delta)  # NaN stays
    delta = e.b.select(e.b.fcmp_ordered(">", delta, most), most, delta)
    decay = e.exp(e.b.fmul(delta, e.splat(e.load(A, F32))))
    return e.b.or_(_bits(e, delta), e.b.shl(_bits(e, decay), e.scalar(I64, 32)))


def _ssd_token(vectors: int) -> Any:
    """(S, bytes of its rows, N, B, C, x, D, out, Δ and decay): one token of `vectors` vectors of a head's columns."""

    @routine(9)
    def token(e: Emit, args: Sequence[Value]) -> None:
        S, row, N, B, C, x_at, D, out, bits = args
        delta, decay = _float(e, bits), _float(e, _high(e, bits))
        x = [e.load(e.at(x_at, VECTOR * j), e.floats) for j in range(vectors)]
        written = [e.b.fmul(delta, u) for u in x]
        y = e.variables(vectors, e.f(0.0))
        with e.loop(N) as n:
            base, number = e.at(S, e.b.mul(n, row)), e.times(n, 4)
            b, c = (e.splat(e.load(e.at(u, number), F32)) for u in (B, C))
            for j in range(vectors):
                place = e.at(base, VECTOR * j)
                s = e.fma(b, written[j], e.b.fmul(decay, e.load(place, e.floats)))
                e.store(s, place)
                e.put(e.fma(c, s, e.get(y[j])), y[j])
        skip = e.splat(e.load(D, F32))
        for j in range(vectors):
            e.store(e.fma(skip, x[j], e.get(y[j])), e.at(out, VECTOR * j))

    return token


ssd_token_4, ssd_token_2, ssd_token_1 = (_ssd_token(vectors) for vectors in COLUMNS)


@njit(error_model="numpy")
def ssd_part(args: int, item: int) -> None:
    """args: address of these words: x, dt, B, C, bytes between the rows of each of these four, out, state, bytes
    between its rows, A, D, dt_bias, bits of Δ's limits, lengths, T, H, P, G, N, vectors of an item, scratch (4·N·P
    bytes per row and head)."""
    w = arg(args, 0)
    x, dt, B, C, x_row, dt_row = arg(w, 0), arg(w, 1), arg(w, 2), arg(w, 3), arg(w, 4), arg(w, 5)
    T, H, P, G, N, vectors = arg(w, 16), arg(w, 17), arg(w, 18), arg(w, 19), arg(w, 20), arg(w, 21)
    size = VECTOR * vectors  # bytes of the item's columns
    parts = 4 * P // size
    row, head, part = item // (H * parts), item // parts % H, item % parts
    length = arg(arg(w, 15), row)
    A, D, bias, group = arg(w, 11) + 4 * head, arg(w, 12) + 4 * head, arg(w, 13) + 4 * head, head // (H // G)
    held = arg(w, 9) + row * arg(w, 10) + 4 * head * N * P + part * size
    S, S_row = held, 4 * P
    if length >= MANY:
        S, S_row = arg(w, 22) + item * N * size, size
        for n in range(N):
            copy_floats(held + 4 * P * n, S + S_row * n, vectors)
    for t in range(length):
        at = row * T + t
        bits = step_and_decay(dt + at * dt_row + 4 * head, bias, A, arg(w, 14))
        b, c = B + at * arg(w, 6) + 4 * group * N, C + at * arg(w, 7) + 4 * group * N
        column = 4 * head * P + part * size
        here, out = x + at * x_row + column, arg(w, 8) + 4 * at * H * P + column
        fetch(here, size, AHEAD * x_row)
        if vectors == 4:
            ssd_token_4(S, S_row, N, b, c, here, D, out, bits)
        elif vectors == 2:
            ssd_token_2(S, S_row, N, b, c, here, D, out, bits)
        else:
            ssd_token_1(S, S_row, N, b, c, here, D, out, bits)
    if held != S:
        for n in range(N):
            copy_floats(S + S_row * n, held + 4 * P * n, vectors)


@routine(7)
def gated_norm_part(e: Emit, args: Sequence[Value]) -> None:
    """(y, z, weight, out, vectors, bits of eps and of the width in the high half, whether the norm comes first)"""
    y, z, weight, out, vectors, bits, first = args
    norm_first = e.b.icmp_signed("!=", first, e.scalar(I64, 0))
    (total,) = e.variables(1, e.f(0.0))
    with e.loop(vectors) as j:
        offset = e.times(j, VECTOR)
        u = e.load(e.at(y, offset), e.floats)
        gated = e.b.fmul(u, silu_of(e, e.load(e.at(z, offset), e.floats)))
        u = e.b.select(norm_first, u, gated)
        e.store(u, e.at(out, offset))
        e.put(e.fma(u, u, e.get(total)), total)
    low, width = (e.b.bitcast(e.b.trunc(half, I32), F32) for half in (bits, _high(e, bits)))
    mean = e.b.fdiv(e.reduce(e.get(total), e.b.fadd), width)
    root = e.call("llvm.sqrt.f32", F32, e.b.fadd(mean, low))
    scale = e.splat(e.b.fdiv(e.scalar(F32, 1.0), root))
    with e.loop(vectors) as j:
        offset = e.times(j, VECTOR)
        u = e.b.fmul(e.b.fmul(e.load(e.at(out, offset), e.floats), scale), e.load(e.at(weight, offset), e.floats))
        gated = e.b.fmul(u, silu_of(e, e.load(e.at(z, offset), e.floats)))
        e.store(e.b.select(norm_first, gated, u), e.at(out, offset))


@njit(error_model="numpy")
def gated_norm_rows(args: int, item: int) -> None:
    """args: y, z, bytes between the rows of z, weight, out, bits, whether the norm comes first, N, d, groups, rows per
    item."""
    y, z, z_row, weight, out = arg(args, 0), arg(args, 1), arg(args, 2), arg(args, 3), arg(args, 4)
    rows, d, groups, step = arg(args, 7), arg(args, 8), arg(args, 9), arg(args, 10)
    width = d // groups
    for n in range(item * step, min(rows, (item + 1) * step)):
        for g in range(groups):
            at = 4 * g * width
            place = 4 * n * d + at
            gated_norm_part(
                y + place, z + n * z_row + at, weight + at, out + place, width // LANES, arg(args, 5), arg(args, 6)
            )


class SsdKernels(NamedTuple):
    """Addresses for `Pool.run`."""

    ssd: int
    gated_norm: int


@cache
def ssd_kernels() -> SsdKernels:
    """Compile them, or load them from the cache."""
    digest = hashlib.sha256()
    for name in ("cpu_ssm.py", "cpu_ssd.py"):
        digest.update(Path(__file__).with_name(name).read_bytes())
    version = source_version() ^ int.from_bytes(digest.digest()[:6], "little")

    def ssd(args: int, item: int) -> None:
        if version:
            ssd_part(args, item)

    def gated_norm(args: int, item: int) -> None:
        if version:
            gated_norm_rows(args, item)

    return SsdKernels(compile_kernel(ssd), compile_kernel(gated_norm))
